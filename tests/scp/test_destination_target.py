"""The destination of a C-MOVE: what it is proposed and sent, and what comes of receivers that do not do their part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.archive.interface import InstanceReference, Level, Selection
from gateway.moves.archive_driver import ArchiveDriver
from gateway.moves.interface import Outcome, SubOperation
from scp.command_set import MoveOriginator
from scp.destination_target import MAXIMUM_LOST_IN_A_ROW, DestinationTarget
from scp.requestor import MAXIMUM_CONTEXTS, Destination
from scp.store_contexts import Accepted, Transcoding, propose
from tests.scp.outgoing import SHORT_S, TIMEOUT_S
from tests.support.data_sets import EXPLICIT, IMPLICIT, JPEG_BASELINE
from tests.support.instances import MemoryArchive, encoded, instance
from tests.support.ports import free_port
from tests.support.rawdicom import A_ABORT, CT_IMAGE, MR_IMAGE, Gone, pdu
from tests.support.rawscp import Message, RawConnection, RawScp, associate_ac

JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
SELECTION: Final = Selection(Level.STUDY, {})
UNCOMPRESSED: Final = (EXPLICIT, IMPLICIT)
ALLOWED: Final = Transcoding()


@contextmanager
def sending(
    port: int, *instances: InstanceReference, transcoding: Transcoding = ALLOWED, timeout_s: float = TIMEOUT_S
) -> Iterator[tuple[MemoryArchive, DestinationTarget, ArchiveDriver]]:
    archive = MemoryArchive(instances)
    destination = Destination("127.0.0.1", port, "RECEIVER", "GATEWAY", timeout_s)
    target = DestinationTarget(destination, MoveOriginator("ASKER", 77), transcoding)
    driver = ArchiveDriver(archive, SELECTION, target)
    try:
        yield archive, target, driver
    finally:
        driver.free()
        target.close()


def send(port: int, *instances: InstanceReference, **options: object) -> list[SubOperation]:
    """What becomes of each."""
    with sending(port, *instances, **options) as (_archive, _target, driver):  # type: ignore[arg-type]
        return [driver.apply() for _ in range(driver.size())]


def outcomes(done: Sequence[SubOperation]) -> str:
    return "".join(one.outcome.name[0] for one in done)


class Receiver:
    """Scripts of a receiver, and what it received."""

    def __init__(self) -> None:
        self.proposed: list[set[tuple[str, tuple[str, ...]]]] = []
        self.received: list[Message] = []
        self.calls = 0

    def take(self, peer: RawConnection) -> None:
        self.accept(peer)
        self.take_all(peer)

    def take_all(self, peer: RawConnection, status: Callable[[Message], int] = lambda message: 0) -> None:
        while True:
            message = peer.request()
            self.received.append(message)
            peer.answer(message, status(message))

    def accept(self, peer: RawConnection, accepts: Callable[[str, str], bool] = lambda sop_class, syntax: True) -> None:
        """Each context with the first transfer syntax that `accepts` likes."""
        self.calls += 1
        proposal = peer.proposal()
        self.proposed.append(set(proposal.contexts.values()))
        chosen = {
            number: next(((0, syntax) for syntax in syntaxes if accepts(uid, syntax)), (4, syntaxes[0]))
            for number, (uid, syntaxes) in proposal.contexts.items()
        }
        peer.send(associate_ac(chosen))

    def uids(self) -> list[str]:
        return [message.values[0x1000].decode().strip("\0") for message in self.received]


def test_contexts_are_those_of_what_is_sent() -> None:
    receiver = Receiver()
    with RawScp(receiver.take) as scp:
        done = send(scp.port, instance(1), instance(2, MR_IMAGE, JPEG_2000), instance(3, CT_IMAGE, JPEG_2000))
    assert receiver.proposed == [
        {
            (CT_IMAGE, (EXPLICIT,)),
            (CT_IMAGE, (JPEG_2000,)),
            (CT_IMAGE, UNCOMPRESSED),
            (MR_IMAGE, (JPEG_2000,)),
            (MR_IMAGE, UNCOMPRESSED),
        }
    ]
    assert outcomes(done) == "CCC"
    assert [message.data_set for message in receiver.received] == [
        next(encoded(one).chunks)
        for one in (instance(1), instance(3, CT_IMAGE, JPEG_2000), instance(2, MR_IMAGE, JPEG_2000))
    ]


def test_requester_of_the_move_is_the_originator() -> None:
    """PS3.7 9.1.1.1.7 and 9.1.1.1.8."""
    receiver = Receiver()
    with RawScp(receiver.take) as scp:
        send(scp.port, instance(1))
    (message,) = receiver.received
    assert (message.values[0x1030], message.number(0x1031)) == (b"ASKER ", 77)


@pytest.mark.parametrize(
    ("accepted", "transcoding", "sent_as"),
    [
        ({JPEG_2000, EXPLICIT, IMPLICIT}, Transcoding(), JPEG_2000),
        ({EXPLICIT, IMPLICIT}, Transcoding(), EXPLICIT),
        ({IMPLICIT}, Transcoding(), IMPLICIT),
        ({EXPLICIT, IMPLICIT}, Transcoding.preferring(IMPLICIT), IMPLICIT),
        ({EXPLICIT, JPEG_BASELINE}, Transcoding.preferring(JPEG_BASELINE), JPEG_BASELINE),
        ({EXPLICIT}, Transcoding.preferring(JPEG_BASELINE), EXPLICIT),
        ({EXPLICIT}, Transcoding(()), None),
        ({JPEG_2000}, Transcoding(()), JPEG_2000),
        ({JPEG_BASELINE}, Transcoding(), None),
    ],
)
def test_transfer_syntax_is_the_stored_one_if_possible(
    accepted: set[str], transcoding: Transcoding, sent_as: str | None
) -> None:
    """A second SOP class is accepted in any case, so that there is an association."""
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer, lambda uid, syntax: uid == MR_IMAGE or syntax in accepted)
        receiver.take_all(peer)

    one, other = instance(1, CT_IMAGE, JPEG_2000), instance(2, MR_IMAGE)
    with RawScp(script) as scp, sending(scp.port, one, other, transcoding=transcoding) as (archive, _target, driver):
        done = [driver.apply(), driver.apply()]
    assert outcomes(done) == ("CC" if sent_as else "FC")
    if sent_as:
        assert archive.opened[0] == ("2.25.1", None if sent_as == JPEG_2000 else sent_as)
        assert receiver.received[0].data_set == next(encoded(one, sent_as).chunks)
    else:
        assert archive.opened == [("2.25.2", None)]
        assert done[0].reason.endswith(" was not accepted")


def test_more_contexts_than_an_association_has_room_for_take_several() -> None:
    """300 SOP classes: nothing that is proposed is missing for what is sent on an association."""
    receiver = Receiver()
    instances = [instance(number, f"1.2.3.{number % 300}") for number in range(600)]
    with RawScp(receiver.take) as scp:
        done = send(scp.port, *instances)
    assert outcomes(done) == 600 * "C"
    assert [len(contexts) for contexts in receiver.proposed] == [128, 128, 128, 128, 88]
    assert sorted(receiver.uids()) == sorted(one.sop_instance_uid for one in instances)


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 4)), min_size=1, max_size=300), st.booleans())
def test_what_is_proposed_has_room_and_covers_what_it_is_for(pairs: list[tuple[int, int]], may: bool) -> None:
    instances = [instance(n, f"1.2.{c}", f"1.2.840.{s}") for n, (c, s) in enumerate(pairs)]
    proposal = propose(instances, Transcoding() if may else Transcoding(()))
    assert 1 <= proposal.count <= len(instances)
    assert 1 <= len(proposal.contexts) <= MAXIMUM_CONTEXTS
    accepted = Accepted(((c.abstract_syntax, c.transfer_syntaxes[0]) for c in proposal.contexts), Transcoding(()))
    assert all(accepted.acceptance(one).refusal == "" for one in instances[: proposal.count])


def test_unknown_sop_class_fails_alone() -> None:
    receiver = Receiver()
    with RawScp(receiver.take) as scp:
        done = send(scp.port, instance(1, ""), instance(2))
    assert (outcomes(done), done[0].reason) == ("FC", "the archive does not tell its SOP class")
    assert outcomes(send(free_port(), instance(1, ""))) == "F"


def test_instance_that_cannot_be_had_fails_alone() -> None:
    receiver = Receiver()
    with RawScp(receiver.take) as scp, sending(scp.port, *map(instance, range(3))) as (archive, _target, driver):
        archive.broken.add("2.25.1")
        archive.missing.append("2.25.9")
        done = [driver.apply() for _ in range(driver.size())]
    assert outcomes(done) == "CFCF"
    assert done[3] == SubOperation(Outcome.FAILED, "2.25.9", "received, but not in the archive")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.COMPLETED),
        (0xB000, Outcome.WARNING),
        (0xB006, Outcome.WARNING),
        (0xB007, Outcome.WARNING),
        (0x0001, Outcome.WARNING),
        (0x0107, Outcome.WARNING),
        (0x0116, Outcome.WARNING),
        (0x0111, Outcome.FAILED),
        (0x0122, Outcome.FAILED),
        (0xA700, Outcome.FAILED),
        (0xA900, Outcome.FAILED),
        (0xC000, Outcome.FAILED),
        (0xFF00, Outcome.FAILED),
    ],
)
def test_status_decides_about_the_sub_operation(status: int, outcome: Outcome) -> None:
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer)
        receiver.take_all(peer, lambda message: status)

    with RawScp(script) as scp:
        (done,) = send(scp.port, instance(1))
    assert done.outcome is outcome
    assert (f"0x{status:04X}" in done.reason) == (status != 0)


def test_broken_association_is_opened_again_and_the_instance_sent_again() -> None:
    """It was lost before its response, so nobody knows whether it was stored."""
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer)
        if receiver.calls == 1:
            message = peer.request()
            peer.answer(message)
            peer.request()
            peer.vanish()
        else:
            receiver.take_all(peer)

    with RawScp(script) as scp:
        done = send(scp.port, *map(instance, range(3)))
    assert (outcomes(done), receiver.uids(), receiver.calls) == ("CCC", ["2.25.1", "2.25.2"], 2)


@pytest.mark.parametrize("farewell", ["abort", "release", "vanish"])
def test_instance_that_breaks_the_receiver_fails_alone(farewell: str) -> None:
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer)
        while True:
            message = peer.request()
            if message.values[0x1000].startswith(b"2.25.1"):
                if farewell == "vanish":
                    peer.vanish()
                    raise Gone
                peer.send(pdu(A_ABORT if farewell == "abort" else 0x05, bytes(4)))
                peer.ends()
                return
            receiver.received.append(message)
            peer.answer(message)

    with RawScp(script) as scp:
        done = send(scp.port, *map(instance, range(4)))
    assert (outcomes(done), receiver.uids(), receiver.calls) == ("CFCC", ["2.25.0", "2.25.2", "2.25.3"], 3)


def test_receiver_that_always_breaks_is_given_up() -> None:
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer)
        peer.request()
        peer.vanish()

    with RawScp(script) as scp:
        done = send(scp.port, *map(instance, range(50)))
    assert outcomes(done) == 50 * "F"
    assert receiver.calls == MAXIMUM_LOST_IN_A_ROW
    assert all("connection lost" in one.reason for one in done)


def test_silent_receiver_is_given_up() -> None:
    """Each wait is bounded, and nothing is sent again to who does not answer."""
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer)
        peer.request()
        peer.ends()

    begun = time.monotonic()
    with RawScp(script) as scp:
        done = send(scp.port, *map(instance, range(50)), timeout_s=SHORT_S)
    assert outcomes(done) == 50 * "F"
    assert receiver.calls == MAXIMUM_LOST_IN_A_ROW
    assert done[0].reason == "timed out waiting for a response: sent nothing for too long"
    assert time.monotonic() - begun < TIMEOUT_S


def test_receiver_that_does_not_answer_the_association_is_given_up() -> None:
    calls: list[RawConnection] = []

    def script(peer: RawConnection) -> None:
        calls.append(peer)
        peer.ends()

    with RawScp(script) as scp:
        done = send(scp.port, *map(instance, range(50)), timeout_s=SHORT_S)
    assert (outcomes(done), len(calls)) == (50 * "F", 1)
    assert done[49].reason == "timed out waiting for the answer to A-ASSOCIATE: sent nothing for too long"


def test_refused_connection_is_given_up_at_once() -> None:
    begun = time.monotonic()
    port = free_port()
    done = send(port, *map(instance, range(50)))
    assert outcomes(done) == 50 * "F"
    assert {one.reason for one in done} == {f"no connection to 127.0.0.1:{port}: Connection refused"}
    assert time.monotonic() - begun < 5


def test_receiver_that_is_full_for_now_is_asked_again() -> None:
    """A-ASSOCIATE-RJ, rejected-transient (PS3.8 table 9-21)."""
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.calls += 1
        if receiver.calls == 1:
            peer.proposal()
            peer.send(pdu(0x03, b"\0\2\3\2"))
            peer.ends()
        else:
            receiver.take(peer)

    with RawScp(script) as scp:
        assert outcomes(send(scp.port, instance(1))) == "C"


def test_rejected_association_is_given_up() -> None:
    calls: list[RawConnection] = []

    def script(peer: RawConnection) -> None:
        calls.append(peer)
        peer.proposal()
        peer.send(pdu(0x03, b"\0\1\1\3"))
        peer.ends()

    with RawScp(script) as scp:
        done = send(scp.port, instance(1), instance(2))
    assert (outcomes(done), len(calls)) == ("FF", 1)
    assert done[1].reason == "rejected permanently by the service user: calling AE title not recognized"


def test_receiver_that_accepts_nothing() -> None:
    receiver = Receiver()

    def script(peer: RawConnection) -> None:
        receiver.accept(peer, lambda uid, syntax: False)
        peer.ends()

    with RawScp(script) as scp:
        done = send(scp.port, instance(1), instance(2))
    assert (outcomes(done), receiver.calls) == ("FF", 1)
    assert done[0].reason == "none of 2 presentation contexts was accepted"


def test_interrupt_ends_what_is_under_way() -> None:
    """With an A-ABORT for the receiver; what follows fails at once."""
    reached = threading.Event()
    said: list[int] = []

    def script(peer: RawConnection) -> None:
        peer.accept()
        peer.request()
        reached.set()
        said.extend(each.type for each in peer.ends())

    with RawScp(script) as scp, sending(scp.port, instance(1), instance(2)) as (_archive, target, driver):
        done: list[SubOperation] = []
        thread = threading.Thread(target=lambda: done.extend(driver.apply() for _ in range(2)))
        thread.start()
        assert reached.wait(TIMEOUT_S)
        target.interrupt()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    assert outcomes(done) == "FF"
    assert said == [A_ABORT]
