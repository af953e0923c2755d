"""Two gateways on one PostgreSQL: each change is sent once, and by the other one if the first is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.database import Database, connect_postgresql, migrate
from tests.support.postgresql import PostgreSql
from tests.support.ris import Ris, hang_up
from tests.worklist.feedback.sending import Clock, Sender, add, change, configuration_of
from worklist.items import Status


@pytest.fixture
def shared(postgresql: PostgreSql) -> Iterator[Database]:
    made = connect_postgresql(postgresql.database())
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def senders(shared: Database, ris: Ris, tmp_path: Path) -> list[Sender]:
    clock = Clock()
    configuration = configuration_of(tmp_path, {"Port": ris.port, "AckTimeout": 20})
    return [Sender(configuration, shared, clock, name) for name in ("one", "two")]


def run(senders: list[Sender], seconds: int) -> None:
    """All of them, in turn, second by second."""
    for _ in range(seconds):
        for sender in senders:
            while sender.delivery.step() == 0:
                pass
        senders[0].clock.advance(1)


def test_each_change_is_sent_once(senders: list[Sender], shared: Database, ris: Ris) -> None:
    run(senders, 1)
    for number in range(1, 31):
        item = change(shared, add(shared, number), Status.STARTED)
        change(shared, item, Status.COMPLETED)
        run(senders, 1)
    assert ris.statuses == [(f"A{number}", status) for number in range(1, 31) for status in ("IP", "CM")]
    assert ris.connections == 1


def test_another_gateway_takes_over_at_once_from_one_that_ends(
    senders: list[Sender], shared: Database, ris: Ris
) -> None:
    run(senders, 15)
    senders[0].delivery.close()
    change(shared, add(shared), Status.STARTED)
    run(senders[1:], 11)
    assert ris.statuses == [("A1", "IP")]


def test_another_gateway_takes_over_from_one_that_died(senders: list[Sender], shared: Database, ris: Ris) -> None:
    ris.behaviours = [hang_up]
    item = change(shared, add(shared), Status.STARTED)
    senders[0].delivery.step()
    change(shared, item, Status.COMPLETED)
    run(senders[1:], 60)
    assert len(ris.received) == 1
    run(senders[1:], 120)
    assert ris.statuses == [("A1", "IP"), ("A1", "IP"), ("A1", "CM")]
    assert ris.received[0] == ris.received[1]
    # The first one was only slow: it sends nothing any more.
    change(shared, add(shared, 2), Status.STARTED)
    senders[0].run(20)
    assert len(ris.received) == 3


def test_one_that_was_stopped_between_look_and_send_does_not_send(
    senders: list[Sender], shared: Database, ris: Ris
) -> None:
    """Its claim is asked for again in the transaction before."""
    run(senders[:1], 1)
    change(shared, add(shared), Status.STARTED)
    with shared.write() as connection:
        connection.exec_driver_sql("UPDATE hl7_receiver_owners SET gateway = 'two', beat = beat + 1")
    assert senders[0].delivery.step() > 0
    assert ris.received == []
