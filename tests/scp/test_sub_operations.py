"""Requests of ours on an association that the peer opened, as C-GET makes them, while the peer says other things."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.deliveries import DeliveryClient
from gateway.options import config
from gateway.spool import Spool, SpoolWriter
from scp.association import AcceptedAssociation
from scp.association_errors import AssociationAborted, AssociationError, AssociationTimedOut, ConnectionLost
from scp.command_set import Response
from scp.data_set_sources import Chunks
from scp.environment import Environment
from scp.operations import Operations
from scp.policies import policies
from scp.scu import StoredInstance, c_store
from scp.storage import StorageService
from tests.scp.outgoing import SHORT_S, TIMEOUT_S, ct
from tests.support.archives import no_archives
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.processes import wait_until
from tests.support.rawdicom import (
    A_ABORT,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    C_STORE_RQ,
    COMMAND,
    CT_IMAGE,
    DATA_SET,
    LAST,
    MR_IMAGE,
    VERIFICATION,
    Context,
    RawPeer,
    command_set,
    echo_rq,
    image,
    p_data,
    pdu,
    pdv,
    store_rq,
)
from tests.support.rawscp import Message, RawConnection, response

GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
C_GET_RQ, C_CANCEL_RQ = 0x0010, 0x0FFF
# Contexts of the peer: C-GET, CT images that it takes as SCP, MR images that it sends, verification.
GET_ID, CT_ID, MR_ID, ECHO_ID = 1, 3, 5, 7
GET_MESSAGE_ID: Final = 4242

SubOperations = Callable[["GetAssociation"], None]


class Get:
    """The operation of the test (scp.operations.Operation)."""

    message_id = GET_MESSAGE_ID

    def __init__(self, association: "GetAssociation") -> None:
        self._association = association
        self.is_cancelled = False

    def run(self) -> None:
        self._association.run_sub_operations(self._association)

    def cancel(self) -> None:
        self.is_cancelled = True


class GetAssociation(AcceptedAssociation):
    """An association whose C-GET runs what the test says."""

    run_sub_operations: SubOperations

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.get = Get(self)
        self.operations = Operations(lambda *_: self.get)

    def store(self, uid: str, pixel_bytes: int = 1000, timeout_s: float = TIMEOUT_S) -> Response:
        instance = StoredInstance(CT_IMAGE, uid, EXPLICIT)
        return c_store(self.requests, instance, Chunks([ct(uid, pixel_bytes)]), timeout_s=timeout_s)


class Requester(RawConnection):
    """The peer that opened the association and asks for instances."""

    def get(self) -> None:
        request = {0x0002: GET, 0x0100: C_GET_RQ, 0x0110: GET_MESSAGE_ID, 0x0700: 0, 0x0800: 0}
        self.message(GET_ID, command_set(request), b"\x08\x00\x52\x00\x06\x00\x00\x00STUDY ")

    def cancel(self) -> None:
        request = {0x0100: C_CANCEL_RQ, 0x0120: GET_MESSAGE_ID, 0x0800: 0x0101}
        self.send(p_data(pdv(GET_ID, COMMAND | LAST, command_set(request))))


class Served:
    """One association of the test, served by a thread of the gateway's class."""

    def __init__(self, environment: Environment, sub_operations: SubOperations) -> None:
        self.failures: list[Exception] = []
        self.done = threading.Event()
        self._sub_operations = sub_operations
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, address = listener.accept()
        self.peer = Requester(ours)
        self.association = GetAssociation(environment, theirs, address, lambda: None)
        self.association.run_sub_operations = self._run
        self.association.start()

    def _run(self, association: GetAssociation) -> None:
        try:
            self._sub_operations(association)
        except Exception as error:  # noqa: BLE001 - it comes out of finish()
            self.failures.append(error)
        finally:
            self.done.set()

    def open(self) -> None:
        role = b"".join(
            b"\x54\x00" + (len(uid) + 4).to_bytes(2, "big") + len(uid).to_bytes(2, "big") + uid.encode() + b"\x00\x01"
            for uid in (CT_IMAGE,)
        )
        contexts = [
            Context(GET_ID, GET, (IMPLICIT,)),
            Context(CT_ID, CT_IMAGE),
            Context(MR_ID, MR_IMAGE),
            Context(ECHO_ID, VERIFICATION, (IMPLICIT,)),
        ]
        assert set(self.peer.associate(contexts, user_information=role).results.values()) == {0}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    """A gateway's, which everybody may ask for C-GET."""
    section = {"StateDirectory": str(tmp_path / "state")}
    configuration = config.parse({"DicomGateway": section, "DicomAlwaysAllowGet": True}, tmp_path)
    spool = Spool(configuration.state_directory)
    spool.prepare()
    writer, deliveries = SpoolWriter(spool), DeliveryClient(configuration.state_directory)
    made = Environment(
        configuration, StorageService(configuration, writer, deliveries, policies(configuration, None)), no_archives()
    )
    yield made
    deliveries.close()
    writer.close()


@pytest.fixture
def serve(environment: Environment) -> Iterator[Callable[[SubOperations], Served]]:
    """Opens an association to a gateway whose C-GET runs these sub-operations."""
    made: list[Served] = []

    def start(sub_operations: SubOperations) -> Served:
        made.append(Served(environment, sub_operations))
        made[-1].open()
        return made[-1]

    yield start
    for served in made:
        served.peer.socket.close()
        served.association.join(TIMEOUT_S)
        assert not served.association.is_alive()


Serve = Callable[[SubOperations], Served]


def finish(served: Served) -> None:
    assert served.done.wait(TIMEOUT_S)
    if served.failures:
        raise served.failures[0]


def answer(peer: RawConnection, request: Message, status: int = 0) -> None:
    peer.send(response(request.context_id, C_STORE_RQ, request.message_id, status))


def test_instances_are_stored_on_the_association_of_the_peer(serve: Serve) -> None:
    statuses: list[int] = []
    served = serve(lambda association: statuses.extend(association.store(f"2.25.{n}", n).status for n in (1, 300_000)))
    served.peer.get()
    for number, status in ((1, 0x0000), (300_000, 0xA700)):
        request = served.peer.request()
        assert (request.context_id, request.data_set) == (CT_ID, ct(f"2.25.{number}", number))
        answer(served.peer, request, status)
    finish(served)
    assert statuses == [0, 0xA700]
    assert served.peer.echo(ECHO_ID).status == 0
    served.peer.release()


def test_cancel_reaches_the_service(serve: Serve) -> None:
    """While the response to a sub-operation is awaited."""
    counted: list[int] = []

    def sub_operations(association: GetAssociation) -> None:
        while not association.get.is_cancelled:
            counted.append(association.store("2.25.1").status)

    served = serve(sub_operations)
    served.peer.get()
    answer(served.peer, served.peer.request())
    request = served.peer.request()
    served.peer.cancel()
    answer(served.peer, request)
    finish(served)
    assert counted == [0, 0]
    served.peer.release()


def test_requests_of_the_peer_are_served_while_a_response_is_awaited(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1") and None)
    peer = served.peer
    peer.get()
    request = peer.request()
    peer.message(MR_ID, store_rq("2.25.2", sop_class_uid=MR_IMAGE), image("2.25.2", sop_class_uid=MR_IMAGE))
    assert peer.response().status == 0
    assert peer.echo(ECHO_ID, 9).message_id == 9
    answer(peer, request)
    finish(served)
    peer.release()


def test_answers_to_the_peer_wait_for_the_end_of_a_message_of_ours(serve: Serve) -> None:
    """Fragments of two messages never mix, whatever comes in the middle of a large instance."""
    served = serve(lambda association: association.store("2.25.1", 30_000_000) and None)
    peer = served.peer
    peer.get()
    peer.read_pdu()
    for number in range(5):
        peer.send(p_data(pdv(ECHO_ID, COMMAND | LAST, echo_rq(number))))
    peer.request_rest()
    assert [peer.response().message_id for _ in range(5)] == list(range(5))
    peer.send(response(CT_ID, C_STORE_RQ, 1, 0))
    finish(served)
    peer.release()


def test_flood_of_requests_while_we_send_is_ended(serve: Serve) -> None:
    """What waits for the end of our message is bounded."""
    served = serve(lambda association: association.store("2.25.1", 50_000_000) and None)
    peer = served.peer
    peer.get()
    peer.read_pdu()
    for _ in range(20):
        peer.send(p_data(pdv(ECHO_ID, COMMAND | LAST, echo_rq())) * 100)
    with pytest.raises(AssociationError, match="too many requests"):
        finish(served)


def test_requests_without_end_do_not_extend_the_deadline(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1", timeout_s=SHORT_S) and None)
    served.peer.get()
    served.peer.request()
    deadline = time.monotonic() + TIMEOUT_S
    while not served.done.is_set():
        assert time.monotonic() < deadline
        served.peer.send(p_data(pdv(ECHO_ID, COMMAND | LAST, echo_rq())))
        time.sleep(0.02)
    with pytest.raises(AssociationTimedOut):
        finish(served)


def test_half_an_instance_of_the_peer_does_not_extend_the_deadline(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1", timeout_s=SHORT_S) and None)
    peer = served.peer
    peer.get()
    peer.request()
    peer.send(p_data(pdv(MR_ID, COMMAND | LAST, store_rq("2.25.2", sop_class_uid=MR_IMAGE))))
    peer.send(p_data(pdv(MR_ID, DATA_SET, image("2.25.2", sop_class_uid=MR_IMAGE))))
    with pytest.raises(AssociationTimedOut):
        finish(served)
    assert peer.read_pdu().type == A_ABORT


def test_abort_in_the_middle_ends_the_association(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1", 50_000_000) and None)
    served.peer.get()
    served.peer.read_pdu()
    served.peer.send(pdu(A_ABORT, bytes(4)))
    with pytest.raises(AssociationAborted):
        finish(served)


def test_release_instead_of_a_response_is_answered(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1") and None)
    served.peer.get()
    served.peer.request()
    served.peer.send(pdu(A_RELEASE_RQ, bytes(4)))
    with pytest.raises(ConnectionLost, match="released"):
        finish(served)
    assert served.peer.read_pdu().type == A_RELEASE_RP


def test_idle_timeout_of_the_association_is_as_before(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1", timeout_s=77) and None)
    before = served.association.upper_layer.reader.timeout
    served.peer.get()
    answer(served.peer, served.peer.request())
    finish(served)
    assert served.association.upper_layer.reader.timeout == before == 30


def test_stop_of_the_gateway_ends_a_transfer(serve: Serve) -> None:
    served = serve(lambda association: association.store("2.25.1", 50_000_000) and None)
    served.peer.get()
    served.peer.read_pdu()
    served.association.interrupt()
    with pytest.raises(ConnectionLost):
        finish(served)
    wait_until(lambda: not served.association.is_alive(), TIMEOUT_S, "the association goes on")


def test_unasked_response_still_ends_an_association(serve: Serve) -> None:
    served = serve(lambda association: None)
    served.peer.send(response(CT_ID, C_STORE_RQ, 1, 0))
    assert served.peer.read_pdu().type == A_ABORT
    assert isinstance(served.peer, RawPeer)
