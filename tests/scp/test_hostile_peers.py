"""Peers that break PS3.8 or PS3.7, stall or vanish: refused with a reason in the log, and nothing of them stays."""

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from scp.environment import STRANGERS_LINES
from tests.scp.conftest import DEADLINE_S, Log, StartGateway, half_received
from tests.support.data_sets import element
from tests.support.dcmtk import echoscu
from tests.support.processes import wait_until
from tests.support.rawdicom import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    C_ECHO_RQ,
    COMMAND,
    CT_IMAGE,
    DATA_SET,
    LAST,
    MR_IMAGE,
    P_DATA_TF,
    RESPONSE,
    VERIFICATION,
    WITH_DATA_SET,
    WITHOUT_DATA_SET,
    Context,
    Gone,
    RawPeer,
    associate_rq,
    command_set,
    echo_rq,
    image,
    p_data,
    pdu,
    pdv,
    store_rq,
)
from tests.support.standalone import Gateway

BY_SERVICE_PROVIDER: Final = 2  # source of an A-ABORT, PS3.8 table 9-26
HALF_OPEN: Final = 100
CONTEXTS: Final = (Context(1), Context(3, VERIFICATION))

STORE = pdv(1, COMMAND | LAST, store_rq("1.2.3"))


@pytest.fixture
def peer(intact: Gateway) -> Iterator[RawPeer]:
    """A peer with an association; what it leaves behind is looked for after the test."""
    with RawPeer(intact.dicom_port) as connected:
        connected.associate(CONTEXTS)
        yield connected


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(pdu(P_DATA_TF, b"abc", length=0xFFFFFFFF), "announces 4294967295 bytes", id="PDU of 4 GB"),
        pytest.param(pdu(P_DATA_TF, b"abc", length=200_000), "announces 200000 bytes", id="PDU over our maximum"),
        pytest.param(pdu(A_RELEASE_RQ, b"", length=1 << 30), "announces 1073741824 bytes", id="A-RELEASE-RQ of 1 GB"),
        pytest.param(pdu(A_ABORT, b"", length=1 << 30), "announces 1073741824 bytes", id="A-ABORT of 1 GB"),
        pytest.param(pdu(9), "unknown type 0x09", id="PDU of unknown type"),
        pytest.param(pdu(0), "unknown type 0x00", id="PDU of type 0"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "unknown type 0x47", id="HTTP"),
        pytest.param(associate_rq(CONTEXTS), "unexpected PDU of type 0x01", id="second A-ASSOCIATE-RQ"),
        pytest.param(pdu(A_ASSOCIATE_AC, bytes(68)), "unexpected PDU of type 0x02", id="A-ASSOCIATE-AC"),
        pytest.param(pdu(A_ASSOCIATE_RJ, bytes(4)), "unexpected PDU of type 0x03", id="A-ASSOCIATE-RJ"),
        pytest.param(pdu(A_RELEASE_RP, bytes(4)), "unexpected PDU of type 0x06", id="A-RELEASE-RP"),
        pytest.param(p_data(pdv(1, LAST, b"abcd")), "without its command", id="data without command"),
        pytest.param(p_data(pdv(5, COMMAND | LAST, echo_rq())), "context 5, which was not", id="context not accepted"),
        pytest.param(p_data(pdv(0, COMMAND | LAST, echo_rq())), "context 0, which was not", id="context 0"),
        pytest.param(p_data(STORE, pdv(3, LAST, b"abcd")), "context 3 without its command", id="other context's data"),
        pytest.param(p_data(STORE, STORE), "command fragment in the middle", id="command in a data set"),
        pytest.param(
            p_data(pdv(1, COMMAND, echo_rq()[:8]), pdv(3, COMMAND | LAST, echo_rq()[8:])),
            "on two presentation contexts",
            id="command on two contexts",
        ),
        pytest.param(p_data(pdv(1, COMMAND | LAST, b"\xff" * 40)), "in a command set", id="garbage as command"),
        pytest.param(p_data(pdv(1, COMMAND | LAST)), "no usable (0000,0100)", id="empty command"),
        pytest.param(
            p_data(pdv(1, COMMAND, bytes(60_000))) * 2, "command set of more than 65536 bytes", id="endless command"
        ),
        pytest.param(p_data(pdv(1, COMMAND | LAST, length=1)), "PDV of 1 bytes", id="PDV of 1 byte"),
        pytest.param(p_data(pdv(1, COMMAND | LAST, length=0)), "PDV of 0 bytes", id="PDV of 0 bytes"),
        pytest.param(p_data(pdv(1, COMMAND | LAST, b"a", length=9999)), "PDV of 9999 bytes", id="PDV over its PDU"),
        pytest.param(pdu(P_DATA_TF, b"abc"), "rest that is no PDV", id="no PDV"),
        pytest.param(
            p_data(pdv(1, COMMAND | LAST, command_set({0x0100: C_ECHO_RQ | RESPONSE, 0x0800: WITHOUT_DATA_SET}))),
            "response 0x8030 to a request that was never sent",
            id="unasked response",
        ),
    ],
)
def test_peer_that_breaks_the_protocol_is_aborted_with_a_reason_in_the_log(
    intact: Gateway, peer: RawPeer, sent: bytes, reason: str
) -> None:
    log = Log(intact)
    peer.send(sent)
    (abort,) = peer.ends()
    assert (abort.type, abort.body[2]) == (A_ABORT, BY_SERVICE_PROVIDER)
    log.expect("WARNING", "peer=127.0.0.1", "calling=RAW", reason)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(pdu(A_ASSOCIATE_RQ, bytes(9), length=0x7FFFFFFF), "announces 2147483647 bytes", id="2 GB"),
        pytest.param(pdu(A_ASSOCIATE_RQ, bytes(9), length=(1 << 20) + 1), "announces 1048577 bytes", id="1 MiB + 1"),
        pytest.param(pdu(A_ASSOCIATE_RQ, b"\0\1"), "A-ASSOCIATE-RQ of 2 bytes", id="too short"),
        pytest.param(
            pdu(A_ASSOCIATE_RQ, associate_rq(CONTEXTS)[6:74] + b"\xff" * 90), "cannot be decoded", id="garbage"
        ),
        pytest.param(associate_rq([Context(2)]), "cannot be decoded", id="even context ID"),
        pytest.param(associate_rq([Context(1, transfer_syntaxes=())]), "without transfer syntax", id="no syntax"),
        pytest.param(associate_rq([Context(1), Context(1, MR_IMAGE)]), "ID 1 is proposed twice", id="same ID twice"),
        pytest.param(p_data(pdv(1, COMMAND | LAST, echo_rq())), "unexpected PDU of type 0x04", id="data"),
        pytest.param(pdu(A_RELEASE_RQ, bytes(4)), "unexpected PDU of type 0x05", id="A-RELEASE-RQ"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "unknown type 0x53", id="SSH"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "the peer speaks TLS", id="TLS"),
    ],
)
def test_connection_that_begins_wrongly_is_aborted_with_a_reason_in_the_log(
    intact: Gateway, sent: bytes, reason: str
) -> None:
    log = Log(intact)
    with RawPeer(intact.dicom_port) as stranger:
        stranger.send(sent)
        (abort,) = stranger.ends()
        assert abort.type == A_ABORT
    log.expect("WARNING", "peer=127.0.0.1", reason)


def test_flood_of_garbage_is_aborted_and_not_all_of_it_logged(start_gateway: StartGateway) -> None:
    flooded = start_gateway()
    for _ in range(3 * STRANGERS_LINES):
        with RawPeer(flooded.dicom_port) as stranger:
            stranger.send(b"GET / HTTP/1.1\r\n\r\n")
            assert [end.type for end in stranger.ends()] == [A_ABORT]
    wait_until(lambda: "invalid PDU: more such lines were not written" in flooded.log_text(), DEADLINE_S, "no count")
    for line in ("aborting: invalid PDU", "connection ended before an association"):
        assert STRANGERS_LINES <= flooded.log_text().count(line) <= 2 * STRANGERS_LINES + 2
    with RawPeer(flooded.dicom_port) as peer:  # who has an association is always named
        peer.associate(CONTEXTS)
        peer.send(pdu(9))
        peer.ends()
    wait_until(lambda: "unknown type 0x09" in flooded.log_text(), DEADLINE_S, "the line of an association is missing")


def test_random_bytes_end_only_their_own_connection(intact: Gateway) -> None:
    noise = random.Random(7)
    with RawPeer(intact.dicom_port) as bystander:
        bystander.associate()
        for _ in range(60):
            with RawPeer(intact.dicom_port) as stranger, contextlib.suppress(Gone):
                if noise.random() < 0.6:
                    stranger.associate(CONTEXTS)
                start = noise.choice([b"", b"\1\0\0\0", b"\4\0\0\0\0", b"\4\0\0\0\0\x20\0\0\0\x1e\1"])
                stranger.send(start + noise.randbytes(noise.randrange(1, 300)))
                stranger.socket.shutdown(socket.SHUT_WR)
                stranger.ends()
        assert bystander.store("2.25.5").status == 0
        bystander.release()


@pytest.mark.parametrize("leave", [RawPeer.vanish, lambda peer: peer.socket.close()], ids=["reset", "close"])
@pytest.mark.parametrize(
    "begun",
    [
        p_data(pdv(1, COMMAND, store_rq("1.2.3")[:20])),
        p_data(STORE),
        p_data(STORE, pdv(1, DATA_SET, image("1.2.3") + bytes(9000))),
        p_data(STORE) + p_data(pdv(1, DATA_SET, bytes(100_000)))[:50_000],
        p_data(STORE, pdv(1, DATA_SET | LAST, image("1.2.3")))[:-1],
    ],
    ids=["command", "before the data set", "between PDUs", "within a PDU", "last byte"],
)
def test_peer_that_vanishes_in_an_instance_leaves_nothing(
    intact: Gateway, peer: RawPeer, begun: bytes, leave: Callable[[RawPeer], None]
) -> None:
    log = Log(intact)
    peer.send(begun)
    if len(begun) > 200:
        wait_until(lambda: half_received(intact), DEADLINE_S, "the instance does not arrive")
        leave(peer)
        log.expect("WARNING", "peer=127.0.0.1", "calling=RAW", "left in the middle of an instance")
    else:
        leave(peer)
        log.expect("ended without release", "peer=127.0.0.1", "calling=RAW")


def test_release_in_the_middle_of_an_instance_is_answered_and_nothing_of_it_is_kept(
    intact: Gateway, peer: RawPeer
) -> None:
    log = Log(intact)
    peer.send(p_data(STORE, pdv(1, DATA_SET, image("1.2.3"))))
    peer.release()
    log.expect("WARNING", "left in the middle of an instance")


def test_peers_abort_ends_the_association_and_is_logged(intact: Gateway, peer: RawPeer) -> None:
    log = Log(intact)
    peer.send(pdu(A_ABORT, bytes(4)))
    assert peer.ends() == []
    log.expect("ended without release", "aborted by the peer", "calling=RAW")


def test_abort_instead_of_a_request_ends_the_connection(intact: Gateway) -> None:
    with RawPeer(intact.dicom_port) as stranger:
        stranger.send(pdu(A_ABORT, bytes(4)))
        assert stranger.ends() == []


@pytest.mark.parametrize("after", [b"", p_data(STORE), pdu(A_RELEASE_RQ, bytes(4)), b"\xff" * 70_000])
def test_noise_after_the_release_is_not_answered(peer: RawPeer, after: bytes) -> None:
    peer.send(pdu(A_RELEASE_RQ, bytes(4)) + after)
    assert [answer.type for answer in peer.ends()] == [A_RELEASE_RP]


def test_peer_that_asks_for_release_and_is_gone_is_released(intact: Gateway, peer: RawPeer) -> None:
    log = Log(intact)
    peer.send(pdu(A_RELEASE_RQ, bytes(4)))
    peer.vanish()
    log.expect("association released", "calling=RAW")


def test_peer_that_does_not_close_after_release_is_closed(intact: Gateway, peer: RawPeer) -> None:
    peer.release()
    started = time.monotonic()
    assert peer.ends() == []
    assert time.monotonic() - started < DEADLINE_S / 2


@pytest.mark.parametrize("maximum_pdu_bytes", [0, 1, 7, 128, 0xFFFFFFFF])
def test_answers_fit_the_maximum_length_that_the_peer_announced(intact: Gateway, maximum_pdu_bytes: int) -> None:
    with RawPeer(intact.dicom_port) as peer:
        peer.associate(CONTEXTS, maximum_pdu_bytes=maximum_pdu_bytes)
        assert peer.echo(3).status == 0
        assert peer.store("1.2.3", image("1.2.3", study=None)).comment == "Study Instance UID is missing or empty"
        peer.send(p_data(pdv(3, COMMAND | LAST, echo_rq())))
        first = peer.read_pdu()
        # One byte of a command is the least that a PDV can carry on, whatever the peer wants.
        assert not maximum_pdu_bytes or len(first.body) <= max(maximum_pdu_bytes, 8)


FOREIGN_COMMANDS = {
    "C-FIND": 0x0020,
    "C-GET": 0x0010,
    "C-MOVE": 0x0021,
    "N-EVENT-REPORT": 0x0100,
    "N-GET": 0x0110,
    "N-SET": 0x0120,
    "N-ACTION": 0x0130,
    "N-CREATE": 0x0140,
    "N-DELETE": 0x0150,
    "no command of the standard": 0x7777,
}


@pytest.mark.parametrize("context_id", [1, 3], ids=["storage", "verification"])
@pytest.mark.parametrize("field", FOREIGN_COMMANDS.values(), ids=FOREIGN_COMMANDS.keys())
def test_command_of_another_service_is_unrecognized_and_the_association_goes_on(
    intact: Gateway, peer: RawPeer, field: int, context_id: int
) -> None:
    log = Log(intact)
    elements: dict[int, int | str | bytes] = {0x0002: CT_IMAGE, 0x0100: field, 0x0110: 77}
    peer.message(context_id, command_set({**elements, 0x0800: WITHOUT_DATA_SET}))
    assert (answer := peer.response()).status == 0x0211
    assert answer.message_id == 77
    log.expect("WARNING", "calling=RAW", "0x0211", f"command 0x{field:04X}")
    peer.message(context_id, command_set({**elements, 0x0800: WITH_DATA_SET}), element(0x00080052, "CS", b"STUDY "))
    assert peer.response().status == 0x0211
    assert peer.store("1.2.3").status == 0


def test_cancel_of_nothing_is_ignored(peer: RawPeer) -> None:
    peer.message(1, command_set({0x0100: 0x0FFF, 0x0120: 5, 0x0800: WITHOUT_DATA_SET}))
    assert peer.store("1.2.3").status == 0


def test_store_on_the_verification_context_is_refused(intact: Gateway, peer: RawPeer) -> None:
    log = Log(intact)
    assert peer.store("1.2.3", context_id=3).status == 0x0122
    log.expect("WARNING", "calling=RAW", "0x0122", "not for storage")
    assert peer.store("1.2.3", context_id=1).status == 0


def _quickest_store_s(gateway: Gateway) -> float:
    """Seconds that an association with one instance takes: the best of three, for this machine may be busy too."""
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        with RawPeer(gateway.dicom_port) as peer:
            peer.associate(CONTEXTS)
            assert peer.store("1.2.3").status == 0
            peer.release()
        seconds.append(time.monotonic() - started)
    return min(seconds)


def test_a_hundred_half_open_connections_delay_nobody(intact: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            silent = stack.enter_context(RawPeer(intact.dicom_port))
            if number % 3 == 1:
                silent.send(associate_rq(CONTEXTS)[:3])
            elif number % 3 == 2:
                silent.send(associate_rq(CONTEXTS)[:100])
        assert _quickest_store_s(intact) < 1
        assert echoscu(intact.dicom_port).returncode == 0


def test_a_hundred_idle_associations_delay_nobody(intact: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(HALF_OPEN):
            stack.enter_context(RawPeer(intact.dicom_port)).associate(CONTEXTS)
        assert _quickest_store_s(intact) < 1


def test_peer_that_reads_no_answers_delays_nobody(intact: Gateway) -> None:
    with RawPeer(intact.dicom_port) as deaf:
        deaf.associate(CONTEXTS)
        deaf.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                deaf.send(p_data(pdv(3, COMMAND | LAST, echo_rq())) * 100)
        with RawPeer(intact.dicom_port) as peer:
            peer.associate()
            assert peer.store("1.2.3").status == 0
        deaf.vanish()


def test_peers_that_reset_before_the_answer_leave_nothing(intact: Gateway) -> None:
    for _ in range(20):
        with RawPeer(intact.dicom_port) as peer:
            peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.send(associate_rq(CONTEXTS))
