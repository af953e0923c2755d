"""Status back to the RIS, by a running gateway: from a change that anybody makes, over kills, to what a person sees."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from gateway import cli
from gateway.database import Database, connect
from gateway.options.config import parse
from tests.conftest import MakeGateway
from tests.integration.gateways import process_of, processes_of
from tests.support.mllp import Sender as OrderSender
from tests.support.mllp import code_of, order
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.ris import Ris, answer, field, say_nothing
from tests.support.standalone import Gateway
from tests.support.worklists import items_of
from tests.worklist.feedback.sending import add, change
from worklist.feedback import outbox
from worklist.items import Status

pytestmark = pytest.mark.integration

SENDER = "worklist.feedback"
TIMEOUT_S = 30

Capture = pytest.CaptureFixture[bytes]


def command(capture: Capture, *arguments: str | Path) -> str:
    """What `dicom-gateway` prints."""
    with pytest.raises(SystemExit):
        cli.app([str(argument) for argument in arguments])
    printed = capture.readouterr()
    return (printed.out + printed.err).decode()


@pytest.fixture
def ris() -> Iterator[Ris]:
    with Ris() as made:
        yield made


@pytest.fixture
def gateway(make_gateway: MakeGateway, ris: Ris) -> Gateway:
    receiver = {"Name": "RIS", "Host": "127.0.0.1", "Port": ris.port, "MinimumRetryDelay": 0.1}
    rules = [{"AETitle": "CT1", "Modality": "CT"}]
    hl7 = {"Port": free_port(), "Receivers": [{**receiver, "MaximumRetryDelay": 0.5}], "StationRules": rules}
    made = make_gateway(DicomGateway={"Workers": 1, "Hl7": hl7})
    made.start()
    return made


@contextmanager
def database(gateway: Gateway) -> Iterator[Database]:
    made = connect(parse(gateway.configuration, gateway.directory))
    yield made
    made.close()


def states(gateway: Gateway) -> list[str]:
    with database(gateway) as books, books.read() as connection:
        return [entry.state for entry in outbox.latest(connection, 10_000)]


def wait_until_accepted(gateway: Gateway, count: int) -> None:
    wait_until(
        lambda: states(gateway) == ["accepted"] * count, TIMEOUT_S, lambda: f"{states(gateway)}, {gateway.log_tail()}"
    )


def test_what_was_sent_and_not_acknowledged_is_sent_again_after_kill(gateway: Gateway, ris: Ris) -> None:
    ris.default = say_nothing
    with database(gateway) as books:
        item = change(books, add(books), Status.STARTED)
        change(books, item, Status.COMPLETED)
    ris.wait_for(1)
    ris.behaviours, ris.default = [], answer("AA")
    os.kill(process_of(gateway, SENDER), signal.SIGKILL)
    ris.wait_for(3)
    wait_until_accepted(gateway, 2)
    assert ris.statuses == [("A1", "IP"), ("A1", "IP"), ("A1", "CM")]
    assert ris.received[0] == ris.received[1]


def test_what_was_committed_is_sent_after_kill_of_everything(gateway: Gateway, ris: Ris) -> None:
    ris.stop()
    with database(gateway) as books:
        change(books, add(books), Status.STARTED)
    gateway.kill()
    wait_until(lambda: not processes_of(gateway, SENDER), TIMEOUT_S, "the sender goes on")
    ris.start()
    gateway.start()
    wait_until_accepted(gateway, 1)
    assert ris.statuses == [("A1", "IP")]


def test_kills_at_any_moment_lose_nothing_and_keep_the_order(gateway: Gateway, ris: Ris) -> None:
    moments = random.Random(7)
    count = 40
    with database(gateway) as books:
        for number in range(1, count + 1):
            change(books, change(books, add(books, number), Status.STARTED), Status.COMPLETED)
    for enough in (5, 30, 55):
        ris.wait_for(enough + moments.randrange(10))
        os.kill(process_of(gateway, SENDER), signal.SIGKILL)
    wait_until_accepted(gateway, 2 * count)
    for number in range(1, count + 1):
        of_order = [status for accession, status in ris.statuses if accession == f"A{number}"]
        assert [status for status, _ in groupby(of_order)] == ["IP", "CM"]
    by_control_id = {field(message, "MSH", 10): message for message in ris.received}
    assert len(by_control_id) == 2 * count
    # At most one message is on its way at the time of each kill.
    assert len(ris.received) <= 2 * count + 3


def test_a_change_from_the_ris_is_not_sent_back_and_others_are(gateway: Gateway, ris: Ris) -> None:
    """From an order, with the numbers of the order."""
    discontinued = order("1").replace(b"ORC|NW|", b"ORC|DC|").replace(b"|ORM^O01|1|", b"|ORM^O01|3|")
    with OrderSender(int(gateway.configuration["DicomGateway"]["Hl7"]["Port"])) as sender:
        for message in (order("1"), order("2"), discontinued):
            assert code_of(sender.ask(message)) == "AA"
    with database(gateway) as books:
        first, second = items_of(books)
        assert first.status is Status.DISCONTINUED
        change(books, second, Status.STARTED)
    (told,) = ris.wait_for(1)
    assert field(told, "ORC", 2) == "2"
    assert field(told, "ORC", 3) == "F2"
    assert field(told, "PID", 3) == "P2^^^HOSPITAL"
    wait_until_accepted(gateway, 1)
    assert "hl7 sender: message accepted receiver=RIS item=2 status=STARTED" in gateway.log_text()


def test_a_person_sees_what_was_refused_and_sends_it_again(gateway: Gateway, ris: Ris, capsysbinary: Capture) -> None:
    def hl7(*arguments: str) -> str:
        return command(capsysbinary, "hl7", "outbox", *arguments, "--config", str(gateway.file))

    ris.default = answer("AE", "[red]no such order")
    with database(gateway) as books:
        started = change(books, add(books), Status.STARTED)
        wait_until(lambda: states(gateway) == ["refused"], TIMEOUT_S, lambda: f"{states(gateway)}")
        ris.stop()
        change(books, started, Status.COMPLETED)
        change(books, add(books, 2), Status.STARTED)
    wait_until(lambda: "since" in hl7("list"), TIMEOUT_S, "nobody says that the RIS is away")
    listed = hl7("list").splitlines()
    assert [line.split()[0] for line in listed] == ["message", "1", "2", "3", "receiver"]
    assert "AE       [red]no such order" in listed[1]
    assert listed[4].startswith("receiver RIS: 2 waiting, 1 refused; since 20")
    assert listed[4].endswith(": no connection: Connection refused")
    assert len(hl7("list", "--state", "refused").splitlines()) == 3
    assert len(hl7("list", "--item", "2", "--receiver", "RIS").splitlines()) == 3
    assert "expected waiting, accepted, refused, discarded" in hl7("list", "--state", "x")
    shown = hl7("show", "1")
    assert "change: SCHEDULED to STARTED, 20" in shown
    assert "by mpps CT1\n" in shown
    assert "outcome: AE\ntext: [red]no such order\n" in shown
    assert "    ORC|SC||||IP|" in shown
    assert "    MSA|AE|" in shown
    assert hl7("show", "1", "--raw").encode() == ris.received[0]
    assert "was not sent yet" in hl7("show", "3", "--raw")
    assert "there is no message 99" in hl7("show", "99")
    assert "there is no message 99" in hl7("discard", "3", "99")
    assert "expected numbers, or --receiver" in hl7("resend")
    assert hl7("discard", "3") == "messages that will not be sent: 1\n"
    assert hl7("resend", "--receiver", "RIS") == "messages that will be sent again: 1\n"
    ris.default = answer("AA")
    ris.start()
    wait_until(
        lambda: states(gateway) == ["discarded", "accepted", "accepted"], TIMEOUT_S, lambda: f"{states(gateway)}"
    )
    assert ris.statuses == [("A1", "IP"), ("A1", "IP"), ("A1", "CM")]
    assert field(ris.received[0], "MSH", 10) != field(ris.received[1], "MSH", 10)
    assert hl7("discard", "--receiver", "RIS") == "messages that will not be sent: 0\n"


def test_check_says_whether_receivers_are_reached(gateway: Gateway, ris: Ris, capsysbinary: Capture) -> None:
    told = f"HL7 receiver RIS: ORM^O01 2.5 to 127.0.0.1 port {ris.port}: STARTED, COMPLETED, DISCONTINUED"
    checked = command(capsysbinary, "check", gateway.file)
    assert told in checked
    assert f"HL7 receiver RIS answers at 127.0.0.1 port {ris.port}" in checked
    ris.stop()
    assert "PROBLEM: HL7 receiver RIS cannot be reached: no connection: Connection refused" in command(
        capsysbinary, "check", gateway.file
    )
    tls = {"UseTls": True, "TlsTrustedCertificates": "ca.pem"}
    gateway.configuration["DicomGateway"]["Hl7"]["Receivers"][0] |= tls
    gateway.write_configuration()
    checked = command(capsysbinary, "check", gateway.file)
    assert "PROBLEM: DicomGateway.Hl7.Receivers.RIS.TlsTrustedCertificates: " in checked
    gateway.stop()
    gateway.launch()
    assert gateway.wait() == 3


def test_without_receivers_there_is_no_sender(gateway: Gateway) -> None:
    process_of(gateway, SENDER)
    assert gateway.stop() == 0
    assert "is killed" not in gateway.log_text()
    del gateway.configuration["DicomGateway"]["Hl7"]["Receivers"]
    gateway.start()
    assert not processes_of(gateway, SENDER)
    with database(gateway) as books:
        change(books, add(books), Status.STARTED)
    assert states(gateway) == []
