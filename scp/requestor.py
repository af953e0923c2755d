"""An association as requestor, on the thread of its caller: negotiation, requests, release.

Replaces `AE.associate` and the two threads behind it; the state machine, the PDUs and the outcome of roles remain
pynetdicom's. Written for pynetdicom 3.0.4.
"""

import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext, build_context, build_role, negotiate_as_requestor
from pynetdicom.transport import AddressInformation

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.log import get_logger
from scp.association_errors import AssociationRejected, ConnectionLost, NoContextAccepted
from scp.command_set import Command
from scp.connection import connect, resolve, secure
from scp.messages import MessageReceiver
from scp.pdu_reader import InvalidPdu
from scp.requests import RequestSender, ended
from scp.statuses import Answer
from scp.tls_connection import Connection
from scp.upper_layer import SEND_TIMEOUT_S, UpperLayer

# Odd numbers of one byte (PS3.8 table 9-13).
MAXIMUM_CONTEXTS: Final = 128
# What we receive at most in one PDU: responses.
MAXIMUM_PDU_BYTES: Final = 16384
# For a peer that does not say what it receives (PS3.8 D.1 demands it): what all can take.
_DEFAULT_PDU_BYTES: Final = 16384

_CONFIRMED: Final = 0x00


@dataclass(frozen=True, slots=True)
class Destination:
    """A peer, and who we are to it. AE titles are valid ones (gateway.options.config).

    `timeout_s` is for the connection, for each answer to A-ASSOCIATE and A-RELEASE, and for a peer that takes
    nothing while we send.
    """

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    timeout_s: float = float(SEND_TIMEOUT_S)
    ssl_context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context to propose: the peer chooses one of its transfer syntaxes.

    `scp`: propose that we are SCP of this SOP class, and SCU too if `scu` (PS3.7 D.3.3.4). Contexts of one abstract
    syntax have the same roles.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scu: bool = True
    scp: bool = False


class RequestorAssociation(Association):
    """One association that we open. Not thread-safe, no thread of its own; `close` releases the socket.

    Used in a with statement it is released at the end, or aborted if an exception leaves the block.
    """

    def __init__(self, destination: Destination, contexts: Sequence[ProposedContext]) -> None:
        """Nothing is sent yet. Raises ValueError for no context, or more than MAXIMUM_CONTEXTS."""
        if not 1 <= len(contexts) <= MAXIMUM_CONTEXTS:
            raise ValueError(f"{len(contexts)} presentation contexts instead of 1 to {MAXIMUM_CONTEXTS}")
        super().__init__(AE(ae_title=destination.calling_ae_title), "requestor")
        self.destination = destination
        self.log = get_logger(calling=destination.calling_ae_title, called=destination.called_ae_title)
        self.upper_layer = UpperLayer(self)
        self.dul = self.upper_layer
        # The timers live in the upper layer, which is new.
        self.acse_timeout = destination.timeout_s
        self.network_timeout = destination.timeout_s
        self.requests = RequestSender(self, destination.timeout_s)
        self._connection: Connection | None = None
        self._receiver = MessageReceiver(self, _NoStorage(), self.log)
        self.requestor.ae_title = destination.calling_ae_title
        self.requestor.maximum_length = MAXIMUM_PDU_BYTES
        self.requestor.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self.requestor.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self.acceptor.ae_title = destination.called_ae_title
        self._propose(contexts)

    @property
    def accepted_context_ids(self) -> dict[int, Any]:
        """Accepted presentation contexts by ID."""
        return self._accepted_cx

    @property
    def peer_maximum_pdu_bytes(self) -> int:
        """What the peer receives at most in a P-DATA-TF PDU; 0 is unlimited."""
        length = self.acceptor.maximum_length
        return _DEFAULT_PDU_BYTES if length is None else length

    def open(self) -> "RequestorAssociation":
        """Connect and negotiate. Raises AssociationError."""
        destination = self.destination
        connection = connect(resolve(destination.host, destination.port), destination.timeout_s)
        if destination.ssl_context is None:
            return self.negotiate(connection)
        return self.negotiate(secure(connection, destination.ssl_context, destination.host, destination.timeout_s))

    def negotiate(self, connection: Connection) -> "RequestorAssociation":
        """Open the association on a connection, which is ours from now on. Raises AssociationError."""
        self._connection = connection
        try:
            self._negotiate(connection)
        except OSError as error:  # the peer was gone before the first byte
            self.close()
            raise ConnectionLost(f"connection lost before A-ASSOCIATE: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def release(self) -> None:
        """Release the association and close it. What can go wrong now changes nothing any more: it is logged only."""
        try:
            if self.upper_layer.is_closed:
                return
            self.upper_layer.reader.set_timeout(self.destination.timeout_s)
            if self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                return
            self.acse.negotiate_release()
            if not self.is_released:
                self.log.info("association not released in order", reason=self.upper_layer.end_reason)
        finally:
            self.close()

    def abort(self, block: bool = True) -> None:
        """Send an A-ABORT, if there is still somebody to hear it, and close."""
        try:
            if not self.upper_layer.is_closed:
                self.acse.send_abort(0x00)
        finally:
            self.close()

    def interrupt(self) -> None:
        """Abort the association; called from another thread. The thread that uses it does the work."""
        self.upper_layer.interrupted = True
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close the connection as it is."""
        self.is_established = False
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()

    def __enter__(self) -> "RequestorAssociation":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def refusal(self, context_id: int, field: int) -> Answer | None:
        """Raise InvalidPdu: no role in which we propose to act takes requests here (PS3.7 D.3.3.4)."""
        raise InvalidPdu(f"request 0x{field:04X} on an association of ours")

    def _propose(self, contexts: Sequence[ProposedContext]) -> None:
        proposed = []
        for number, each in enumerate(contexts):
            context = build_context(UID(each.abstract_syntax), list(each.transfer_syntaxes))
            context.context_id = 2 * number + 1
            if each.scp:
                context.scu_role, context.scp_role = each.scu, True
            proposed.append(context)
        for uid in dict.fromkeys(each.abstract_syntax for each in contexts if each.scp):
            scu = any(each.scu for each in contexts if each.abstract_syntax == uid)
            self.requestor.add_negotiation_item(build_role(uid, scu_role=scu, scp_role=True))
        self.requestor.requested_contexts = proposed

    def _negotiate(self, connection: Connection) -> None:
        self.requestor.address_info = AddressInformation.from_tuple(connection.getsockname())
        self.acceptor.address_info = AddressInformation.from_tuple(connection.getpeername())
        self.log = self.log.bind(peer=self.acceptor.address_info.address)
        self.upper_layer.attach(connection, MAXIMUM_PDU_BYTES, self.log)
        self.upper_layer.reader.set_timeout(self.destination.timeout_s)
        self.acse.send_request()
        answer = self.dul.receive_pdu(wait=True, timeout=self.destination.timeout_s)
        if not isinstance(answer, A_ASSOCIATE):
            if answer is not None:
                # It says who aborted, and why.
                self.upper_layer.to_user_queue.queue.appendleft(answer)
            raise ended(self.upper_layer, "waiting for the answer to A-ASSOCIATE")
        if answer.result != _CONFIRMED or self.upper_layer.is_closed:
            self.is_rejected = True
            raise AssociationRejected(answer.result, answer.result_source, answer.diagnostic)
        self._settle(answer)

    def _settle(self, answer: A_ASSOCIATE) -> None:
        """Which contexts are accepted, in which roles (PS3.7 D.3.3.4)."""
        self.acceptor.primitive = answer
        roles = {uid: (item.scu_role, item.scp_role) for uid, item in self.acceptor.role_selection.items()}
        proposed: dict[Any, Any] = {context.context_id: context for context in self.requestor.requested_contexts}
        results = answer.presentation_context_definition_results_list
        contexts: list[Any] = negotiate_as_requestor(list(proposed.values()), results, roles)
        self._accepted_cx = {
            context.context_id: context
            for context in contexts
            if context.result == _CONFIRMED and _was_proposed(context, proposed[context.context_id])
        }
        self._rejected_cx = [context for context in contexts if context.context_id not in self._accepted_cx]
        if not self._accepted_cx:
            self.acse.send_abort(0x00)
            raise NoContextAccepted(f"none of {len(contexts)} presentation contexts was accepted")
        self.is_established = True
        self.upper_layer.handler = self._receiver


class _NoStorage:
    """A StoreService that is never asked: requests are refused before."""

    def begin(self, command: Command, context_id: int) -> Any:
        raise RuntimeError("an association of ours receives no instances")


def _was_proposed(context: PresentationContext, proposed: PresentationContext) -> bool:
    return bool(context.transfer_syntax) and context.transfer_syntax[0] in proposed.transfer_syntax
