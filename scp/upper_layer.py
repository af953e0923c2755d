"""The DICOM upper layer (PS3.8) on the thread of its association, without polling and without queues.

pynetdicom runs it in a second thread that sleeps a millisecond between looks at the socket. Here the association's own
thread blocks in recv() and drives pynetdicom's state machine (fsm.py, unchanged) with what it reads. P-DATA-TF in
Sta6 goes straight to a `DataHandler`; A-ASSOCIATE-RQ and -AC have codecs of ours; everything else is decoded and acted
on by pynetdicom.

Written for pynetdicom 3.0.4: tests/scp/test_pynetdicom_privates.py watches what is overridden.
"""

import queue
import select
import socket
import struct
import time
from enum import Enum
from typing import Any, Final, Protocol, cast

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.transport import AssociationSocket

from gateway.log import get_logger
from gateway.repeated_lines import RepeatedLines
from scp import associate_request
from scp.associate_primitives import VERSION_1, AssociateIndication
from scp.associate_request import AssociateRequest
from scp.pdu_reader import (
    A_ABORT,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    P_DATA_TF,
    SILENT_REASON,
    ConnectionEnded,
    InvalidPdu,
    PduReader,
)
from scp.sockets import set_send_timeout
from scp.tls_connection import Connection

# How long a peer may take to close after we said A-RELEASE-RP, A-ASSOCIATE-RJ or A-ABORT. Closing at once
# with unread bytes would reset the connection, and the peer might never see what we said.
LINGER_S: Final = 1.0
SEND_TIMEOUT_S: Final = 30

KEEPALIVE_IDLE_S: Final = 60
KEEPALIVE_INTERVAL_S: Final = 15
KEEPALIVE_PROBES: Final = 4

_ASSOCIATE_RQ_RECEIVED: Final = "Evt6"
_TRANSPORT_CONNECTED: Final = "Evt2"
_TRANSPORT_CLOSED: Final = "Evt17"
_INVALID_PDU: Final = "Evt19"

# What may come besides data and A-ABORT, by state (PS3.8 table 9-10): to an acceptor, then to a requestor, then to
# either. In Sta7 and Sta11 a release of ours is under way, and both sides may have begun one (PS3.8 7.2.2.7).
_EXPECTED: Final = frozenset(
    {
        ("Sta2", A_ASSOCIATE_RQ),
        ("Sta5", A_ASSOCIATE_AC),
        ("Sta5", A_ASSOCIATE_RJ),
        ("Sta6", A_RELEASE_RQ),
        ("Sta7", A_RELEASE_RQ),
        ("Sta7", A_RELEASE_RP),
        ("Sta11", A_RELEASE_RP),
    }
)
# The fixed fields of an answer to A-ASSOCIATE-RQ (PS3.8 9.3.3, 9.3.4), which pynetdicom does not miss.
_SHORTEST_BYTES: Final = {A_ASSOCIATE_AC: 68, A_ASSOCIATE_RJ: 4}
# States in which a peer that has fallen silent is told of the end.
_ABORTABLE: Final = frozenset({"Sta5", "Sta6", "Sta7", "Sta11"})
# Responses that may wait for the end of a message of ours. A peer that has that many requests under way is none.
_MAXIMUM_HELD_BYTES: Final = 64 * 1024


class End(Enum):
    """How a connection ended, if not by release."""

    CLOSED = "connection closed"
    SILENT = "the peer was silent for too long"
    ABORTED = "aborted by the peer"
    INVALID = "the peer broke the protocol"


class DataHandler(Protocol):
    """Takes the content of P-DATA-TF PDUs while the association is established."""

    def on_pdv(self, context_id: int, control: int, piece: memoryview, complete: bool) -> None:
        """One piece of a presentation data value. Raises InvalidPdu when the peer breaks PS3.7 or PS3.8."""


class PeerSocket(AssociationSocket):
    """The connection, accepted or made: prompt, with a bounded write, watched by keepalive."""

    def __init__(self, assoc: Association, connection: Connection) -> None:
        connection.setblocking(True)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        set_send_timeout(connection, SEND_TIMEOUT_S)
        super().__init__(assoc, client_socket=cast(socket.socket, connection))
        if assoc.is_requestor:
            self.event_queue.get_nowait()  # Evt5, transport connection indication, is the acceptor's

    def connect(self, primitive: Any) -> None:
        """AE-1 for a connection that exists already: confirm it (Evt2)."""
        primitive.result = _TRANSPORT_CONNECTED
        self.provider_queue.put(primitive)

    def send(self, bytestream: bytes) -> None:
        """Send all of it, or report the connection as closed (Evt17)."""
        try:
            if self.socket is not None:
                self.socket.sendall(bytestream)
        except OSError:
            self.event_queue.put(_TRANSPORT_CLOSED)


class UpperLayer(DULServiceProvider):
    """The DUL service provider without a thread: `step` reads one PDU, `send_pdu` acts at once."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.handler: DataHandler | None = None
        self.end_reason = ""
        self.end: End | None = None
        # Called and calling AE title of the A-ASSOCIATE-RQ, as sent.
        self.ae_titles = ("", "")
        # Set by another thread that also shuts the reading side down: end with an A-ABORT.
        self.interrupted = False
        # A PDU of ours is written in part only.
        self.is_mid_pdu = False
        self._held: bytearray | None = None
        self._reader: PduReader | None = None
        # The association binds what it learns of the peer.
        self.log = get_logger()
        # For what anybody can cause who connects; None: the peer is one that we called.
        self.lines: RepeatedLines | None = None

    def attach(self, connection: Connection, maximum_pdu_bytes: int, log: Any) -> None:
        """Take over the connection. The state machine goes to Sta2 if it was accepted."""
        self.log = log
        self._reader = PduReader(connection, maximum_pdu_bytes)
        self.assoc.set_socket(PeerSocket(self.assoc, connection))
        self._act()

    @property
    def reader(self) -> PduReader:
        """The reader of this connection."""
        if self._reader is None:
            raise RuntimeError("the upper layer has no connection")
        return self._reader

    @property
    def is_closed(self) -> bool:
        """Whether the state machine is back in Sta1: nothing can be read or sent any more."""
        return bool(self._kill_thread)

    @property
    def connection(self) -> Connection | None:
        """The socket, or TLS on it, while there is one."""
        return self.socket.socket if self.socket is not None else None

    @property
    def has_input(self) -> bool:
        """Whether the peer has said something, or gone, that no `step` has seen yet."""
        return self.wait_for_input(0)

    def wait_for_input(self, seconds: float, *others: int) -> bool:
        """Wait for `has_input`, or for one of the descriptors `others` to become readable; return `has_input`."""
        connection = self.connection
        if connection is None:
            return False
        if self.reader.has_buffered:
            return True
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        for other in others:
            poll.register(other, select.POLLIN)
        return any(fd not in others for fd, _events in poll.poll(seconds * 1000))

    def start(self) -> None:
        """There is no thread to start."""
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """There is no thread: nobody needs to wait for it."""
        return False

    def step(self, deadline: float | None = None) -> None:
        """Read one PDU and do what it asks for. `deadline` is time.monotonic for the whole PDU."""
        try:
            pdu_type, length = self.reader.header(deadline)
            if pdu_type == P_DATA_TF and self.handler and self.state_machine.current_state == "Sta6":
                on_pdv = self.handler.on_pdv
                for context_id, control, piece, complete in self.reader.pdvs(length, deadline):
                    on_pdv(context_id, control, piece, complete)
                if self.event_queue.empty():
                    return
            else:
                self._decode(pdu_type, length, deadline)
        except ConnectionEnded as end:
            self._on_end(end)
        except InvalidPdu as error:
            self.refuse(str(error))
        self._act()

    def end_silence(self) -> None:
        """The peer was silent for as long as it may be: end as `step` would."""
        self._on_end(ConnectionEnded(SILENT_REASON, silent=True))
        self._act()

    def _on_end(self, end: ConnectionEnded) -> None:
        self.end_reason = end.reason
        self.end = End.SILENT if end.silent else End.CLOSED
        if self.state_machine.current_state in _ABORTABLE and (end.silent or self.interrupted):
            self.assoc.acse.send_abort(0x00)
        else:
            self.event_queue.put(_TRANSPORT_CLOSED)

    def refuse(self, reason: str) -> None:
        """The peer broke the protocol: A-ABORT by the service provider (PS3.8 AA-1, AA-7, AA-8)."""
        if self.lines is None or self.assoc.is_established:
            self.log.warning("aborting: invalid PDU", reason=reason)
        else:
            self.lines.warning("aborting: invalid PDU", log=self.log, reason=reason)
        self.end_reason = reason
        self.end = End.INVALID
        self.event_queue.put(_INVALID_PDU)

    def drop(self, end: End, reason: str) -> None:
        """Reset the connection: for a peer that reads nothing, so that an A-ABORT would not arrive either."""
        self.end, self.end_reason = end, reason
        connection = self.connection
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            connection.close()
        self.event_queue.put(_TRANSPORT_CLOSED)
        self._act()

    def abort_now(self) -> None:
        """End the association after an error of our own; never raises."""
        try:
            self.event_queue.put(_INVALID_PDU)
            self._act()
        except Exception:  # noqa: BLE001 - whatever was broken before may still be
            self._close()

    def send_pdu(self, primitive: Any) -> None:
        """Send the PDU of `primitive` now."""
        if self.is_closed:
            return
        super().send_pdu(primitive)
        self._act()

    def _send(self, pdu: Any) -> None:
        """As it is, but not into the middle of another PDU, where it could not be understood."""
        if not self.is_mid_pdu:
            super()._send(pdu)

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """Return the next ACSE primitive; with `wait`, read from the peer until there is one."""
        if wait:
            deadline = None if timeout is None else time.monotonic() + timeout
            while self.to_user_queue.empty() and not self.is_closed:
                self.step(deadline)
        return super().receive_pdu(wait=False)

    def accept(self, associate_ac: bytes) -> None:
        """Send the encoded A-ASSOCIATE-AC (AE-7 of PS3.8 9.2.3): Sta3 becomes Sta6."""
        self.state_machine.transition("Sta6")
        self.send_bytes(associate_ac)

    def hold(self) -> None:
        """A message of ours begins: what `send_bytes` is given now waits for `unhold`."""
        self._held = bytearray()

    def unhold(self) -> None:
        """The message is complete, or the connection is at its end."""
        held, self._held = self._held, None
        if held and not self.is_closed:
            self.send_bytes(bytes(held))

    def send_bytes(self, data: bytes) -> None:
        """Send encoded PDUs as they are. Raises InvalidPdu for a peer with too many requests."""
        if self._held is not None:
            # Fragments of two messages must not mix.
            self._held += data
            if len(self._held) > _MAXIMUM_HELD_BYTES:
                raise InvalidPdu("too many requests while a request of ours is being sent")
            return
        if self.socket is not None:
            self.socket.send(data)
        if not self.event_queue.empty():
            self._act()

    def _decode(self, pdu_type: int, length: int, deadline: float | None) -> None:
        body = self.reader.body(length, deadline)
        if pdu_type == A_ABORT:
            self.end_reason, self.end = "aborted by the peer", End.ABORTED
        elif (self.state_machine.current_state, pdu_type) not in _EXPECTED:
            raise InvalidPdu(f"unexpected PDU of type 0x{pdu_type:02X}")
        if pdu_type == A_ASSOCIATE_RQ:
            self._on_associate_request(associate_request.decode(body))
            return
        if length < _SHORTEST_BYTES.get(pdu_type, 0):
            raise InvalidPdu(f"PDU of type 0x{pdu_type:02X} and {length} bytes")
        data = bytearray(struct.pack(">BxL", pdu_type, length)) + body
        try:
            pdu, event = self._decode_pdu(data)
            if pdu_type in (A_ASSOCIATE_AC, A_ASSOCIATE_RJ):
                _convert(pdu)
        except Exception as error:
            raise InvalidPdu(f"PDU of type 0x{pdu_type:02X} cannot be decoded: {error!r}") from error
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _on_associate_request(self, request: AssociateRequest) -> None:
        self.ae_titles = request.called_ae_title, request.calling_ae_title
        indication = AssociateIndication(request)
        if indication.protocol_version != VERSION_1:
            self.end_reason = f"protocol version 0x{indication.protocol_version:04X} is not supported"
        self._recv_pdu.put(indication)  # type: ignore[arg-type]  # it has what AE-6 looks at
        self.event_queue.put(_ASSOCIATE_RQ_RECEIVED)

    def _act(self) -> None:
        """Run the state machine until no event and no primitive of the user is left."""
        while not self.is_closed:
            try:
                event = self.event_queue.get_nowait()
            except queue.Empty:
                if self._process_recv_primitive():
                    continue
                break
            try:
                self.state_machine.do_action(event)
            except InvalidEventError:
                # A primitive of ours that came too late for the state, or noise after the end.
                self._close()
                return
            if self.state_machine.current_state == "Sta13":
                self._linger()

    def _linger(self) -> None:
        """Sta13: wait for the peer to close, not for long, then close (PS3.8 9.2.3, AR-5)."""
        sock = self.connection
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_WR)
                self.reader.set_timeout(LINGER_S)
                self.reader.discard_until_end(time.monotonic() + LINGER_S)
            except OSError:
                self.log.debug("connection was gone before it was closed")
        self._close()

    def _close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.artim_timer.stop()
        self.kill_dul()


def _convert(pdu: Any) -> None:
    """Do at once what the state machine would do where a failure could not be answered any more."""
    primitive = pdu.to_primitive()
    pdu.to_primitive = lambda: primitive
