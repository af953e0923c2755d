"""Senders on real sockets: what they send is acted on once, kept, and acknowledged."""

import asyncio
import socket
import sqlite3
import threading
from contextlib import ExitStack
from pathlib import Path

import hl7
import pytest
from hl7.client import MLLPClient
from hl7.mllp import open_hl7_connection
from sqlalchemy import event

from gateway.database import Database
from tests.support.mllp import CR, FS, VT, Sender, code_of, enclosed, order, segments
from tests.support.postgresql import PostgreSql
from tests.support.processes import wait_until
from tests.worklist.hl7.conftest import MakeListener
from tests.worklist.hl7.listening import RunningListener
from worklist.hl7 import connection as connection_module
from worklist.hl7 import message_log
from worklist.hl7.message_log import Entry

SENDERS = 50


def log_of(database: Database) -> list[Entry]:
    """The message log, the oldest first."""
    with database.read() as connection:
        return message_log.latest(connection, 10_000)[::-1]


def test_an_order_is_acted_on_kept_and_acknowledged(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        answer = segments(sender.ask(order("42", msh18="UNICODE UTF-8")))
    assert answer["MSH"][3:7] == ["GATEWAY", "RADIOLOGY", "RIS", "HOSPITAL"]
    assert (answer["MSH"][9], answer["MSH"][18]) == ("ACK^O01^ACK", "UNICODE UTF-8")
    assert answer["MSA"] == ["MSA", "AA", "42", "noted"]
    assert listener.acted_on() == ["42"]
    assert listener.handler.peers == ["127.0.0.1"]
    [entry] = log_of(listener.database)
    assert (entry.sending_application, entry.sending_facility, entry.type) == ("RIS", "HOSPITAL", "ORM^O01")
    assert (entry.control_id, entry.outcome, entry.text, entry.times_received) == ("42", "AA", "noted", 1)
    line = listener.wait_for("message")
    assert line.pop("seconds") < 20
    assert line == {
        "peer": "127.0.0.1",
        "sender": "RIS|HOSPITAL",
        "type": "ORM^O01",
        "control_id": "42",
        "outcome": "AA",
        "text": "noted",
        "changes": "noted",
    }


@pytest.mark.parametrize(("codec", "msh18"), [("utf-8", "UNICODE UTF-8"), ("latin-1", "8859/1"), ("latin-1", "")])
def test_the_senders_name_comes_back_as_it_was(listener: RunningListener, codec: str, msh18: str) -> None:
    with Sender(listener.port) as sender:
        answer = sender.ask(order("1", msh4="Hôpital", msh18=msh18, codec=codec))
    assert segments(answer, codec)["MSH"][6] == "Hôpital"
    assert log_of(listener.database)[0].sending_facility == "Hôpital"


def test_many_messages_on_one_connection_come_back_in_order(listener: RunningListener) -> None:
    numbers = [str(number) for number in range(20)]
    with Sender(listener.port) as sender:
        sender.send(b"\r\n".join(enclosed(order(number)) for number in numbers))
        assert [segments(sender.receive())["MSA"][2] for _ in numbers] == numbers
    assert listener.acted_on() == numbers


def test_a_wrong_message_is_kept_and_changes_nothing(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        answer = segments(sender.ask(order("1", msh9="ORM^ZZE")))
        assert answer["MSA"][1:3] == ["AE", "1"]
        assert answer["ERR"][2:5] == ["PID^1^5^2", "101^Required field missing^HL70357", "E"]
        assert code_of(sender.ask(order("2", msh9="ADT^ZZR"))) == "AR"
        assert code_of(sender.ask(order("3"))) == "AA"
    assert listener.acted_on() == ["3"]
    wrong, rejected, _well = log_of(listener.database)
    assert (wrong.outcome, wrong.error_code, wrong.error_location) == ("AE", 101, "PID^1^5^2")
    assert wrong.text == "a name | is ^ wanted"
    assert (rejected.outcome, rejected.error_code) == ("AR", 201)
    line = listener.wait_for("message refused")
    assert (line["control_id"], line["error"], line["location"]) == ("1", 101, "PID^1^5^2")


@pytest.mark.parametrize("event", ["ZZB", "ZZS"])
def test_an_error_of_ours_closes_the_connection_unanswered_and_others_go_on(
    listener: RunningListener, event: str
) -> None:
    with Sender(listener.port) as other, Sender(listener.port) as sender:
        assert sender.ask(order("1", msh9=f"ORM^{event}")) is None
        assert code_of(other.ask(order("2"))) == "AA"
    assert listener.acted_on() == ["2"]
    assert [(entry.control_id, entry.outcome) for entry in log_of(listener.database)] == [("1", ""), ("2", "AA")]
    line = listener.wait_for("a message is not acknowledged by an error of our own")
    assert "DOE" not in str(line)
    assert "handle" in line["at"]


def test_what_got_no_acknowledgement_is_tried_again_in_the_same_row(listener: RunningListener) -> None:
    for _ in range(3):
        with Sender(listener.port) as sender:
            assert sender.ask(order("1", msh9="ORM^ZZB")) is None
    [entry] = log_of(listener.database)
    assert (entry.outcome, entry.times_received) == ("", 3)


def test_a_replay_gets_the_same_acknowledgement_and_changes_nothing(make_listener: MakeListener) -> None:
    first = make_listener()
    with Sender(first.port) as sender:
        answer = sender.ask(order("1"))
        assert sender.ask(order("1")) == answer
    # Another process, later: what it knows is in the database.
    second = make_listener()
    with Sender(second.port) as sender:
        assert sender.ask(order("1")) == answer
        # The same number from another sender, or with other contents, is another message.
        assert code_of(sender.ask(order("1", msh3="OTHER"))) == "AA"
        assert code_of(sender.ask(order("1", name="ROE^RICHARD"))) == "AA"
    assert second.acted_on() == ["1", "1", "1"]
    assert [entry.times_received for entry in log_of(second.database)] == [3, 1, 1]
    assert second.log.keys_of("message")[0]["replay"] is True


def test_what_was_refused_is_tried_again(listener: RunningListener) -> None:
    """Whoever mends the configuration lets the RIS send the same message again."""
    with Sender(listener.port) as sender:
        answers = [segments(sender.ask(order("1", msh9="ORM^ZZE"))) for _ in range(2)]
    assert answers[0]["MSA"] == answers[1]["MSA"]
    assert answers[0]["ERR"] == answers[1]["ERR"]
    assert len(listener.handler.peers) == 2
    assert [entry.times_received for entry in log_of(listener.database)] == [2]


def test_messages_without_control_id_are_no_replays(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        for _ in range(2):
            answer = segments(sender.ask(order("")))
            assert answer["MSA"][1:3] == ["AA", ""]
            assert answer["MSH"][10]
    assert listener.acted_on() == ["", ""]


def test_two_connections_that_replay_at_once_act_once(listener: RunningListener) -> None:
    listener.handler.may_go_on.clear()
    with Sender(listener.port) as one, Sender(listener.port) as two:
        one.send(enclosed(order("1")))
        two.send(enclosed(order("1")))
        wait_until(lambda: listener.handler.peers, 20, "the handler is not called")
        listener.handler.may_go_on.set()
        assert one.receive() == two.receive() is not None
    assert listener.acted_on() == ["1"]


def send_at_once(port: int, messages: int) -> None:
    """SENDERS connections, each with its own messages, and each message once more at its end."""
    failures: list[str] = []

    def send(number: int) -> None:
        with Sender(port) as sender:
            for message in (*range(messages), messages - 1):
                control_id = f"{number}.{message}"
                answer = segments(sender.ask(order(control_id)))["MSA"]
                if answer[1:3] != ["AA", control_id]:
                    failures.append(f"{control_id}: {answer}")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures


def test_fifty_senders_at_once_lose_nothing_and_double_nothing(listener: RunningListener) -> None:
    send_at_once(listener.port, 10)
    expected = sorted(f"{number}.{message}" for number in range(SENDERS) for message in range(10))
    assert sorted(listener.acted_on()) == expected
    assert sorted(entry.control_id for entry in log_of(listener.database)) == expected


def test_two_gateways_on_one_postgresql(make_listener: MakeListener, postgresql: PostgreSql) -> None:
    url = postgresql.database()
    first, second = make_listener(url), make_listener(url)
    threads = [threading.Thread(target=send_at_once, args=(each.port, 3)) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # Both were sent the same: each was acted on once, by one of them.
    expected = sorted(f"{number}.{message}" for number in range(SENDERS) for message in range(3))
    assert sorted(first.acted_on()) == expected
    with Sender(first.port) as sender:
        assert code_of(sender.ask(order("e", msh9="ORM^ZZE"))) == "AE"
        assert sender.ask(order("s", msh9="ORM^ZZS")) is None
    with Sender(first.port) as sender:
        nul = order("nul", name="D\0OE", msh10="n\0ul")
        assert code_of(sender.ask(nul)) == "AA"
    assert sorted(entry.outcome for entry in log_of(first.database)) == ["", *["AA"] * (SENDERS * 3 + 1), "AE"]


def test_a_database_that_is_away_closes_connections_until_it_is_back(
    make_listener: MakeListener, postgresql: PostgreSql
) -> None:
    listener = make_listener(postgresql.database())
    with Sender(listener.port) as sender:
        assert code_of(sender.ask(order("1"))) == "AA"
        postgresql.stop()
        try:
            assert sender.ask(order("2")) is None
        finally:
            postgresql.start()
    with Sender(listener.port) as sender:
        assert code_of(sender.ask(order("2"))) == "AA"
    assert listener.acted_on() == ["1", "2"]
    assert listener.log.keys_of("the database fails: messages are not acknowledged")


def test_a_disk_that_is_full_closes_connections_until_there_is_room(listener: RunningListener) -> None:
    engine = listener.database.engine

    def fill(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # as many as there are

    with Sender(listener.port) as one, Sender(listener.port) as two:
        assert code_of(one.ask(order("1"))) == "AA"
        event.listen(engine, "connect", fill)
        engine.dispose()
        large = "NTE|1||" + "x" * 100_000
        assert one.ask(order("2", rest=large)) is None
        assert two.ask(order("3", rest=large)) is None
        event.remove(engine, "connect", fill)
        engine.dispose()
    with Sender(listener.port) as sender:
        assert code_of(sender.ask(order("2", rest=large))) == "AA"
    assert listener.acted_on() == ["1", "2"]
    line = listener.wait_for("the database fails: messages are not acknowledged")
    assert line["reason"] == "database or disk is full"


def test_enhanced_mode_gets_both_acknowledgements(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        sender.send(enclosed(order("1", msh15="AL", msh16="AL")))
        assert [code_of(sender.receive()), code_of(sender.receive())] == ["CA", "AA"]
        sender.send(enclosed(order("2", msh15="NE", msh16="NE")) + enclosed(order("3")))
        assert segments(sender.receive())["MSA"][1:3] == ["AA", "3"]
    assert listener.acted_on() == ["1", "2", "3"]


def test_a_message_that_is_too_large_is_rejected_and_the_connection_goes_on(make_listener: MakeListener) -> None:
    listener = make_listener(MaximumMessageSize=4096)
    with Sender(listener.port) as sender:
        answer = segments(sender.ask(order("1", rest="NTE|1||" + "x" * 2_000_000)))
        assert answer["MSA"][1:3] == ["AR", "1"]
        assert "MaximumMessageSize" in answer["ERR"][8]
        assert code_of(sender.ask(order("2"))) == "AA"
    assert listener.acted_on() == ["2"]
    large = log_of(listener.database)[0]
    with listener.database.read() as connection:
        found = message_log.get(connection, large.id)
    assert found is not None
    assert len(found[1]) == 4096


def test_noise_between_frames_is_nobodys_business(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        sender.send(b"\r\n\r\nhello" + enclosed(order("1")) + b"\n\n\x06" + VT + order("2") + FS + b"\n")
        assert [segments(sender.receive())["MSA"][2] for _ in range(2)] == ["1", "2"]


def test_a_frame_without_cr_is_answered(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        sender.send(VT + order("1") + FS)
        assert code_of(sender.receive()) == "AA"


def test_a_frame_in_single_bytes_is_answered(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        for byte in enclosed(order("1", name="MÜLLER", msh18="UTF-8")):
            sender.send(bytes([byte]))
        assert code_of(sender.receive()) == "AA"


def test_half_a_message_is_dropped_when_the_sender_ends(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        sender.send(VT + order("1")[:-10])
    assert listener.wait_for("connection closed")["reason"] == "the peer ended inside a message"
    assert listener.acted_on() == []
    assert log_of(listener.database) == []


def test_who_does_not_speak_mllp_is_told_in_the_log(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        sender.send(b"GET / HTTP/1.1\r\n" * 1000)
        assert sender.receive() is None
    assert listener.wait_for("connection closed")["reason"].startswith("this is no MLLP: it begins with 47 45 54")


def test_a_frame_without_header_is_answered_too(listener: RunningListener) -> None:
    with Sender(listener.port) as sender:
        for garbage in (b"", b"hello", b"\xff" * 100, b"MSH", b"MSH|" + b"^~" * 50_000):
            assert code_of(sender.ask(garbage)) in ("AE", "AR")
        assert code_of(sender.ask(order("1"))) == "AA"


def test_who_stalls_inside_a_frame_is_disconnected(
    make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "FRAME_TIMEOUT_S", 0.2)
    listener = make_listener()
    with Sender(listener.port) as sender:
        sender.send(VT + order("1")[:40])
        assert sender.receive() is None
    assert "not complete within 0.2 s" in listener.wait_for("connection closed")["reason"]


def test_who_is_silent_for_too_long_is_disconnected(make_listener: MakeListener) -> None:
    listener = make_listener(IdleTimeout=0.2)
    with Sender(listener.port) as sender:
        assert code_of(sender.ask(order("1"))) == "AA"
        assert sender.receive() is None
    assert "IdleTimeout" in listener.wait_for("connection closed")["reason"]


def test_who_does_not_read_is_disconnected(make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "SEND_TIMEOUT_S", 0.2)
    listener = make_listener()
    stop = threading.Event()
    # Much to answer: most of the header comes back.
    message = order("1" * 256, **{f"msh{number}": "x" * 256 for number in (3, 4, 5, 6, 12)})
    with Sender(listener.port) as deaf, Sender(listener.port) as other:

        def flood() -> None:
            try:
                while not stop.is_set():
                    deaf.send(enclosed(message) * 100)
            except OSError:
                pass  # it was disconnected

        thread = threading.Thread(target=flood)
        thread.start()
        assert code_of(other.ask(order("1"))) == "AA"
        wait_until(lambda: listener.log.keys_of("connection lost"), 60, "the deaf one is still connected")
        stop.set()
        thread.join(20)


def test_more_connections_than_allowed_are_closed(make_listener: MakeListener) -> None:
    listener = make_listener(MaximumConnections=2)
    with Sender(listener.port) as one, Sender(listener.port) as two:
        assert [code_of(one.ask(order("1"))), code_of(two.ask(order("2")))] == ["AA", "AA"]
        with Sender(listener.port) as three:
            assert three.receive() is None
        line = listener.wait_for("connection refused")
        assert line["option"] == "DicomGateway.Hl7.MaximumConnections"
    wait_until(lambda: answers(listener.port), 20, "no place becomes free")


def test_one_address_does_not_take_the_place_of_all_others(make_listener: MakeListener) -> None:
    listener = make_listener(MaximumConnections=4, MaximumConnectionsPerPeer=3)
    with ExitStack() as halves:
        for _ in range(4):
            other = ("127.0.0.2", 0)
            half = halves.enter_context(socket.create_connection(("127.0.0.1", listener.port), 20, other))
            half.sendall(VT + b"MSH|")
        line = listener.wait_for("connection refused")
        assert (line["peer"], line["option"]) == ("127.0.0.2", "DicomGateway.Hl7.MaximumConnectionsPerPeer")
        with Sender(listener.port) as sender:
            assert code_of(sender.ask(order("1"))) == "AA"


def answers(port: int) -> bool:
    with Sender(port) as sender:
        try:
            return sender.ask(order("again")) is not None
        except OSError:
            return False


def test_strangers_are_not_heard(make_listener: MakeListener) -> None:
    listener = make_listener(AllowedHosts=["192.0.2.0/24"])
    with Sender(listener.port) as sender:
        assert sender.receive() is None
    assert listener.wait_for("connection refused")["option"] == "DicomGateway.Hl7.AllowedHosts"


def test_when_it_stops_what_is_worked_on_is_acknowledged_and_half_a_message_dropped(
    listener: RunningListener,
) -> None:
    listener.handler.may_go_on.clear()
    with Sender(listener.port) as busy, Sender(listener.port) as half, Sender(listener.port) as idle:
        half.send(VT + order("half")[:40])
        assert code_of(answered_first(idle, listener)) == "AA"
        busy.send(enclosed(order("1")) + enclosed(order("2")))
        wait_until(lambda: len(listener.handler.peers) == 2, 20, "the handler is not called")
        listener.ask_to_stop()
        assert idle.receive() is None
        assert half.receive() is None
        listener.handler.may_go_on.set()
        assert segments(busy.receive())["MSA"][1:3] == ["AA", "1"]
        assert busy.receive() is None
        listener.wait()
    assert listener.acted_on() == ["first", "1"]


def answered_first(sender: Sender, listener: RunningListener) -> bytes | None:
    """An order that is worked on while nothing else is."""
    listener.handler.may_go_on.set()
    answer = sender.ask(order("first"))
    listener.handler.may_go_on.clear()
    return answer


def test_old_messages_are_forgotten_step_by_step(
    make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(message_log, "PRUNE_ROWS", 2)
    listener = make_listener()
    with Sender(listener.port) as sender:
        for number in range(5):
            sender.ask(order(str(number)))
    third = log_of(listener.database)[3].received_at
    with listener.database.write() as connection:
        assert message_log.prune(connection, third)
    assert [entry.control_id for entry in log_of(listener.database)] == ["2", "3", "4"]
    with listener.database.write() as connection:
        assert not message_log.prune(connection, third)
    assert [entry.control_id for entry in log_of(listener.database)] == ["3", "4"]


def test_the_client_of_python_hl7(listener: RunningListener) -> None:
    with MLLPClient("127.0.0.1", listener.port) as client:
        for number in range(3):
            answer = hl7.parse(client.send_message(order(str(number))).strip(VT + FS + CR).decode())
            assert answer.extract_field("MSA", field_num=1) == "AA"
            assert answer.extract_field("MSA", field_num=2) == str(number)
        answer = client.send_message(hl7.parse(order("e", msh9="ORM^ZZE").decode()))
        assert b"MSA|AE|e|" in answer


def test_the_asynchronous_client_of_python_hl7(listener: RunningListener) -> None:
    async def send() -> list[str]:
        reader, writer = await open_hl7_connection("127.0.0.1", listener.port, encoding="utf-8")
        codes = []
        for trigger in ("O01", "ZZE", "ZZR"):
            writer.writemessage(hl7.parse(order(trigger, msh9=f"ORM^{trigger}").decode()))
            await writer.drain()
            codes.append(str((await reader.readmessage()).segment("MSA")[1]))
        writer.close()
        await writer.wait_closed()
        return codes

    assert asyncio.run(send()) == ["AA", "AE", "AR"]
