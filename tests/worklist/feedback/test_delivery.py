"""A RIS that is down, slow, wrong or confused gets every change, in order, once as far as it acknowledges."""

import socket
import threading

import pytest

from gateway.database import Database
from tests.support import ris as behaviours
from tests.support.mllp import CR, FS, VT, enclosed
from tests.support.ris import Behaviour, Ris, acknowledgement, field
from tests.support.worklists import item_attributes
from tests.worklist.feedback.conftest import MakeSender
from tests.worklist.feedback.sending import add, change
from worklist import store
from worklist.feedback import outbox
from worklist.items import Status


def hanging_up_on(segment: str, number: int, value: str) -> Behaviour:
    """Accepts messages but those with this field."""
    return lambda ris, connection, message: (
        behaviours.hang_up if field(message, segment, number) == value else behaviours.accept
    )(ris, connection, message)


def control_ids(ris: Ris) -> list[str]:
    return [field(message, "MSH", 10) for message in ris.received]


def test_changes_are_sent_in_order_on_one_connection(make_sender: MakeSender, sqlite: Database, ris: Ris) -> None:
    sender = make_sender()
    item = change(sqlite, add(sqlite), Status.STARTED)
    sender.run()
    change(sqlite, item, Status.COMPLETED)
    sender.run()
    assert ris.statuses == [("A1", "IP"), ("A1", "CM")]
    assert ris.connections == 1
    assert sender.states == ["accepted", "accepted"]
    assert [keys["outcome"] for keys in sender.log.keys_of("message accepted")] == ["AA", "AA"]
    assert len(set(control_ids(ris))) == 2


def test_a_ris_that_is_down_for_an_hour_gets_every_change_afterwards(
    make_sender: MakeSender, sqlite: Database, ris: Ris
) -> None:
    sender = make_sender()
    ris.stop()
    items = [add(sqlite, number) for number in range(1, 6)]
    for minute in range(60):
        if minute % 12 == 0:
            items[minute // 12] = change(sqlite, items[minute // 12], Status.STARTED)
        if minute % 12 == 11:
            items[minute // 12] = change(sqlite, items[minute // 12], Status.COMPLETED)
        sender.run(60)
    assert sender.states == ["waiting"] * 10
    assert [entry.attempts for entry in sender.entries()] == [0] * 10
    # Not a line for each attempt.
    assert len(sender.log.keys_of("a receiver is not reached")) == 1
    ris.start()
    sender.run(120)
    expected = [(f"A{number}", status) for number in range(1, 6) for status in ("IP", "CM")]
    assert ris.statuses == expected
    assert sender.states == ["accepted"] * 10
    assert sender.log.keys_of("a receiver answers again")


def test_it_is_called_less_often_while_it_is_down(make_sender: MakeSender, sqlite: Database, ris: Ris) -> None:
    sender = make_sender(MinimumRetryDelay=1, MaximumRetryDelay=60)
    ris.default = behaviours.hang_up
    for number in range(1, 100):
        change(sqlite, add(sqlite, number), Status.STARTED)
    sender.run(600)
    # After 1, 2, 4, ... 32, then 60 s; without it 600 times.
    assert 10 <= ris.connections <= 25
    ris.default = behaviours.accept
    sender.run(120)
    assert sender.states == ["accepted"] * 99


@pytest.mark.parametrize(
    "behaviour",
    [
        behaviours.hang_up,
        behaviours.say_nothing,
        behaviours.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        behaviours.send(b"x" * 5000),
        behaviours.send(enclosed(b"nonsense \xff\xfe")),
        behaviours.send(enclosed(b"")),
        behaviours.send(enclosed(b"MSH|^~\\&|RIS\rMSA|AA\r")),
        behaviours.send(enclosed(b"MSH|^~\\&|RIS\rMSA|AA||\r")),
        behaviours.send(enclosed(b"MSH|^~\\&|RIS\rMSA|AA|somebody else's\r")),
        behaviours.send(VT + b"MSH|^~\\&|RIS\rMSA|AA|"),
        behaviours.send(enclosed(b"MSH|^~\\&|RIS\rMSA|AA|" + b"1" * 100_000)),
        lambda _ris, connection, message: connection.sendall(acknowledgement(message, "XX")),
        lambda _ris, connection, message: connection.sendall(acknowledgement(message)[:-2]) or connection.close(),
        lambda _ris, connection, message: [connection.sendall(acknowledgement(message, control_id="x"))] * 200,
    ],
)
def test_what_is_no_acknowledgement_is_none_and_the_message_comes_again_as_it_was(
    make_sender: MakeSender, sqlite: Database, ris: Ris, behaviour: Behaviour
) -> None:
    sender = make_sender()
    ris.behaviours = [behaviour, behaviour]
    item = change(sqlite, add(sqlite), Status.STARTED)
    change(sqlite, item, Status.COMPLETED)
    sender.run(20)
    assert len(ris.received) == 4
    assert ris.received[0] == ris.received[1] == ris.received[2]
    assert ris.statuses[2:] == [("A1", "IP"), ("A1", "CM")]
    assert sender.states == ["accepted", "accepted"]
    assert sender.entries()[0].attempts == 3
    assert len(sender.log.keys_of("message not acknowledged, it will be sent again")) == 2


def test_the_acknowledgement_may_come_behind_others_and_in_pieces(
    make_sender: MakeSender, sqlite: Database, ris: Ris
) -> None:
    def slowly(_ris: Ris, connection: socket.socket, message: bytes) -> None:
        data = enclosed(b"noise") + acknowledgement(message, control_id="late") + acknowledgement(message)
        for byte in data:
            connection.sendall(bytes([byte]))

    sender = make_sender(AckTimeout=20)
    ris.default = slowly
    change(sqlite, add(sqlite), Status.STARTED)
    sender.run()
    assert sender.states == ["accepted"]
    assert len(ris.received) == 1
    reasons = [keys["reason"] for keys in sender.log.keys_of("ignored what a receiver sent")]
    assert reasons == ["no acknowledgement", "acknowledgement of late"]


@pytest.mark.parametrize("end", [FS, FS + b"\n", FS + CR + b"\r\n"])
def test_frames_may_end_as_they_do_in_the_field(
    make_sender: MakeSender, sqlite: Database, ris: Ris, end: bytes
) -> None:
    sender = make_sender(AckTimeout=20)
    ris.default = lambda _ris, connection, message: connection.sendall(
        acknowledgement(message).removesuffix(FS + CR) + end
    )
    change(sqlite, add(sqlite), Status.STARTED)
    sender.run()
    assert sender.states == ["accepted"]


def test_an_acknowledgement_that_comes_too_late_is_for_nobody(
    make_sender: MakeSender, sqlite: Database, ris: Ris
) -> None:
    given_up = threading.Event()

    def late(_ris: Ris, connection: socket.socket, message: bytes) -> None:
        given_up.wait(20)
        connection.sendall(acknowledgement(message))

    sender = make_sender()
    ris.behaviours = [late]
    for number in (1, 2):
        change(sqlite, add(sqlite, number), Status.STARTED)
    sender.delivery.step()
    given_up.set()
    sender.run(10)
    assert ris.statuses == [("A1", "IP"), ("A1", "IP"), ("A2", "IP")]
    assert control_ids(ris)[0] == control_ids(ris)[1]
    assert sender.states == ["accepted", "accepted"]


def test_ca_ends_it_and_what_follows_it_is_ignored(make_sender: MakeSender, sqlite: Database, ris: Ris) -> None:
    sender = make_sender()
    ris.behaviours = [
        lambda _ris, connection, message: connection.sendall(
            acknowledgement(message, "CA") + acknowledgement(message, "AE")
        )
    ]
    item = change(sqlite, add(sqlite), Status.STARTED)
    change(sqlite, item, Status.COMPLETED)
    sender.run(5)
    assert sender.states == ["accepted", "accepted"]
    assert [entry.outcome for entry in sender.entries()] == ["CA", "AA"]


@pytest.mark.parametrize("code", ["AE", "CE"])
def test_an_error_is_kept_and_does_not_hold_up_what_comes_behind(
    make_sender: MakeSender, sqlite: Database, ris: Ris, code: str
) -> None:
    sender = make_sender()
    ris.behaviours = [behaviours.answer(code, "no such order")]
    item = change(sqlite, add(sqlite), Status.STARTED)
    change(sqlite, item, Status.COMPLETED)
    sender.run(600)
    assert ris.statuses == [("A1", "IP"), ("A1", "CM")]
    assert sender.states == ["refused", "accepted"]
    entry = sender.entries()[0]
    assert (entry.outcome, entry.text) == (code, "no such order")
    assert sender.log.keys_of("message refused, it is kept")[0]["text"] == "no such order"
    with sqlite.read() as connection:
        kept = outbox.get(connection, entry.id)
    assert kept is not None
    assert kept[1] == ris.received[0]
    assert b"no such order" in (kept[2] or b"")


@pytest.mark.parametrize("code", ["AR", "CR"])
def test_a_rejection_is_tried_again_some_times_while_others_are_sent(
    make_sender: MakeSender, sqlite: Database, ris: Ris, code: str
) -> None:
    sender = make_sender(RejectedRetries=3)
    ris.default = lambda ris, connection, message: (
        behaviours.answer(code, "out of order") if field(message, "OBR", 18) == "A1" else behaviours.accept
    )(ris, connection, message)
    for number in (1, 2):
        item = change(sqlite, add(sqlite, number), Status.STARTED)
        change(sqlite, item, Status.COMPLETED)
    sender.delivery.step()
    sender.run()
    # The other order did not wait.
    assert ris.statuses == [("A1", "IP"), ("A2", "IP"), ("A2", "CM")]
    sender.run(300)
    assert ris.statuses[3:] == [("A1", "IP")] * 3 + [("A1", "CM")] * 4
    assert sender.states == ["refused", "refused", "accepted", "accepted"]
    assert [entry.attempts for entry in sender.entries()] == [4, 4, 1, 1]


def test_a_message_without_answer_does_not_slow_down_other_orders(
    make_sender: MakeSender, sqlite: Database, ris: Ris
) -> None:
    sender = make_sender()
    ris.default = hanging_up_on("OBR", 18, "A1")
    poison = change(sqlite, add(sqlite, 1), Status.STARTED)
    change(sqlite, poison, Status.COMPLETED)
    sender.run(300)
    change(sqlite, add(sqlite, 2), Status.STARTED)
    sender.run(2)
    assert ris.statuses[-1] == ("A2", "IP") or ris.statuses[-2] == ("A2", "IP")
    assert ("A1", "CM") not in ris.statuses
    assert sender.states == ["waiting", "waiting", "accepted"]


def test_steps_of_an_order_wait_for_each_other(make_sender: MakeSender, sqlite: Database, ris: Ris) -> None:
    sender = make_sender()
    ris.default = hanging_up_on("OBR", 20, "S1")
    order = {"FillerOrderNumberImagingServiceRequest": "F1"}
    first = add(sqlite, 1, **order, step={"ScheduledProcedureStepID": "S1"})
    second = add(sqlite, 1, **order, step={"ScheduledProcedureStepID": "S2"})
    change(sqlite, first, Status.STARTED)
    change(sqlite, second, Status.STARTED)
    sender.run(10)
    assert {field(message, "OBR", 20) for message in ris.received} == {"S1"}
    ris.default = behaviours.accept
    sender.run(60)
    assert [field(message, "OBR", 20) for message in ris.received[-2:]] == ["S1", "S2"]


def test_an_item_keeps_its_order_when_its_order_number_changes(
    make_sender: MakeSender, sqlite: Database, ris: Ris
) -> None:
    sender = make_sender()
    ris.default = hanging_up_on("ORC", 5, "IP")
    item = change(sqlite, add(sqlite), Status.STARTED)
    with sqlite.write(lock=store.LOCK) as connection:
        attributes = item_attributes(1, FillerOrderNumberImagingServiceRequest="F77")
        item = store.replace(connection, item, attributes, store.Change.now("hl7 RIS|"))
    change(sqlite, item, Status.COMPLETED)
    sender.run(10)
    assert {status for _, status in ris.statuses} == {"IP"}
    ris.default = behaviours.accept
    sender.run(60)
    assert [status for _, status in ris.statuses[-2:]] == ["IP", "CM"]


def test_a_connection_that_the_ris_closed_meanwhile_costs_no_attempt(
    make_sender: MakeSender, sqlite: Database, ris: Ris
) -> None:
    sender = make_sender()
    item = change(sqlite, add(sqlite), Status.STARTED)
    sender.run()
    ris.stop()
    ris.start()
    change(sqlite, item, Status.COMPLETED)
    sender.run()
    assert [entry.attempts for entry in sender.entries()] == [1, 1]
    assert ris.connections == 2
    assert not sender.log.keys_of("a receiver is not reached")


def test_a_clock_that_is_set_back_delays_nothing_for_long(make_sender: MakeSender, sqlite: Database, ris: Ris) -> None:
    sender = make_sender()
    ris.behaviours = [behaviours.hang_up]
    change(sqlite, add(sqlite), Status.STARTED)
    sender.run()
    sender.clock.advance(-24 * 3600)
    sender.run(5)
    assert sender.states == ["accepted"]
