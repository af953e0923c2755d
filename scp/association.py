"""An association as acceptor, on one thread: negotiation, messages, end.

Replaces `Association.run_reactor` and its polling, ACSE's negotiation as acceptor, and pynetdicom's service classes.
Written for pynetdicom 3.0.4.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation

from gateway.access.admission import Refusal, Rejection, Verb
from gateway.access.called_titles import CalledTitles
from gateway.access.certificate_names import names
from gateway.access.peers import plain_address
from gateway.access.users import UserVerdict, user_name
from gateway.log import get_logger
from gateway.tls.context import TlsError
from scp import associate_accept
from scp.associate_request import APPLICATION_CONTEXT_NAME, AssociateRequest
from scp.command_set import (
    C_ECHO_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    Command,
    encode_response,
    p_data_tf,
)
from scp.contexts import Offer
from scp.environment import ACSE_TIMEOUT_S, Environment
from scp.messages import MessageReceiver
from scp.negotiation import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTANCE,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    negotiate,
)
from scp.operations import Operations
from scp.requests import RequestSender
from scp.statuses import Answer, Status
from scp.storage import AssociationStore, Peers
from scp.tls_connection import HANDSHAKE_TIMEOUT_S, Connection, HandshakeFailed, TlsConnection
from scp.upper_layer import SEND_TIMEOUT_S, UpperLayer

if TYPE_CHECKING:  # a worker without storage commitment needs no database
    from scp.association_reports import AssociationReports

# A peer that is only told that there are too many must not hold its place for long.
OVER_LIMIT_TIMEOUT_S: Final = 5.0
# Results of A-ASSOCIATE-RJ, and the source whose reasons all pass (PS3.8 table 9-21).
PERMANENT: Final = 1
TRANSIENT: Final = 2
PRESENTATION_PROVIDER: Final = 3
LOCAL_LIMIT_EXCEEDED: Final = (TRANSIENT, PRESENTATION_PROVIDER, 2)
# Results of PS3.8 table 9-18 that are about what exists here, and how many UIDs a log line names.
_NOT_SUPPORTED: Final = {
    ABSTRACT_SYNTAX_NOT_SUPPORTED: "abstract syntax not supported",
    TRANSFER_SYNTAXES_NOT_SUPPORTED: "transfer syntaxes not supported",
}
LOGGED_UIDS: Final = 10
# Requests that may come on a context of another service, and what they ask for. Some modalities send C-ECHO on
# whatever context they have.
_VERBS: Final = {C_STORE_RQ: Verb.STORE, C_ECHO_RQ: Verb.ECHO}
# Requests on a context of storage commitment, which is accepted if either is permitted.
_COMMITMENT_VERBS: Final = {N_ACTION_RQ: Verb.STORAGE_COMMITMENT, N_EVENT_REPORT_RQ: Verb.STORAGE_COMMITMENT_REPORT}
_NAMES: Final = {
    C_STORE_RQ: "C-STORE",
    C_ECHO_RQ: "C-ECHO",
    N_ACTION_RQ: "N-ACTION",
    N_EVENT_REPORT_RQ: "N-EVENT-REPORT",
}

_numbers = itertools.count(1)


class AcceptedAssociation(Association):
    """One connection to the DICOM port, from its first byte to its end. Start it as a thread."""

    def __init__(
        self,
        environment: Environment,
        client_socket: socket.socket,
        address: tuple[Any, ...],
        on_end: Callable[[], None],
        *,
        over_limit: bool = False,
    ) -> None:
        """Take over an accepted connection; `over_limit`: only to reject its association."""
        super().__init__(environment.ae, "acceptor")
        self._environment = environment
        self._on_end = on_end
        self._over_limit = over_limit
        self._request_timeout_s = OVER_LIMIT_TIMEOUT_S if over_limit else ACSE_TIMEOUT_S
        self._client_socket = client_socket
        self._address = str(address[0])
        self.name = f"association-{os.getpid()}-{next(_numbers)}"
        self.log = get_logger(association=self.name.removeprefix("association-"), peer=address[0])
        self.upper_layer = UpperLayer(self)
        self.upper_layer.lines = environment.lines
        self.dul = self.upper_layer
        # The timers live in the upper layer, which is new.
        self.acse_timeout = environment.ae.acse_timeout
        self.network_timeout = environment.ae.network_timeout
        # For requests of ours on this association: sub-operations, reports.
        self.requests = RequestSender(self, SEND_TIMEOUT_S)
        # Requests of the peer besides C-STORE and C-ECHO.
        self.operations = Operations(partial(environment.services.begin, self))
        # For requests of storage commitment that came here, if their reports may come here too.
        self.reports: AssociationReports | None = None
        # What the peer receives at most in a P-DATA-TF PDU; 0 is unlimited.
        self.peer_maximum_pdu_bytes = 0
        self._admission: CalledTitles
        self._permitted: frozenset[Verb] = frozenset()
        # The peer's verified certificate, as ssl's getpeercert() gives it.
        self._certificate: dict[str, Any] = {}
        self._receiver: MessageReceiver | None = None
        self._store: AssociationStore | None = None
        self.acceptor.address_info = AddressInformation.from_tuple(plain_address(client_socket.getsockname()))
        self.requestor.address_info = AddressInformation.from_tuple(address)

    @property
    def accepted_context_ids(self) -> dict[int, Any]:
        """Accepted presentation contexts by ID."""
        return self._accepted_cx

    @property
    def address(self) -> str:
        """The peer's IP address."""
        return self._address

    @property
    def is_between_messages(self) -> bool:
        """Whether the peer is not in the middle of a message."""
        return self._receiver is None or self._receiver.is_between_messages

    def is_operation(self, context_id: int, field: int) -> bool:
        """Whether a request with this Command Field begins or ends an operation of ours on this accepted context."""
        return self._environment.services.has(str(self._accepted_cx[context_id].abstract_syntax), field)

    def refusal(self, context_id: int, field: int) -> Answer | None:
        """Return why a request with this Command Field is not served on this accepted context, or None.

        A context is accepted only if its own service is permitted, but a request may be of another one.
        """
        verb = self._environment.contexts.verb(str(self._accepted_cx[context_id].abstract_syntax))
        asked = _VERBS.get(field) or (_COMMITMENT_VERBS.get(field) if verb is Verb.STORAGE_COMMITMENT else None)
        if asked is not None and asked not in self._permitted:
            return Answer(
                Status.NOT_AUTHORIZED,
                f"{_NAMES[field]} is not permitted to this AE title",
                option=self._option_for(asked),
            )
        if self.is_operation(context_id, field):
            return None
        if field == C_STORE_RQ and verb is not Verb.STORE:
            return Answer(Status.SOP_CLASS_NOT_SUPPORTED, "the presentation context is not for storage")
        if field not in (C_STORE_RQ, C_ECHO_RQ):
            service = verb.name if verb is not None else "nothing"
            return Answer(Status.UNRECOGNIZED_OPERATION, f"command 0x{field:04X} on a context for {service}")
        return None

    def run_reactor(self) -> None:
        """Serve the association. Nothing that happens here reaches another association."""
        phase = "connection"
        try:
            connection = self._connection()
            if connection is not None:
                phase = "negotiation"
                self.upper_layer.attach(connection, self._environment.ae.maximum_pdu_size, self.log)
                self.upper_layer.reader.set_timeout(self._request_timeout_s)
                if self._negotiate():
                    phase = "service"
                    self._serve()
        except Exception:
            self.log.exception("association ended by an error of the gateway", phase=phase)
            self.upper_layer.abort_now()
        finally:
            if self._receiver is not None:
                self._receiver.abandon()
            if self.reports is not None:
                self.reports.close()
            with contextlib.suppress(OSError):
                self._client_socket.close()
            self._on_end()

    def interrupt(self) -> None:
        """Abort the association; called from another thread. The association's own thread does the work."""
        self.upper_layer.interrupted = True
        with contextlib.suppress(OSError):
            self._client_socket.shutdown(socket.SHUT_RD)

    def respond(self, context_id: int, request: Command, answer: Answer) -> None:
        """Send the response to `request`, without data set."""
        data = encode_response(
            request,
            answer.status.code,
            error_comment=answer.comment,
            offending_element=answer.offending_element,
            error_id=answer.error_id,
        )
        self.upper_layer.send_bytes(p_data_tf(context_id, data, self.peer_maximum_pdu_bytes))

    def _connection(self) -> Connection | None:
        """What to read from and write to: TLS, if the port is for TLS. None if the handshake fails."""
        if self._environment.tls is None:
            return self._client_socket
        try:
            connection = TlsConnection(self._client_socket, self._environment.tls.current())
            connection.handshake(min(HANDSHAKE_TIMEOUT_S, self._request_timeout_s))
        except (TlsError, HandshakeFailed) as failure:
            if str(failure) and not self._over_limit:
                self._environment.lines.warning("TLS handshake failed", log=self.log, reason=str(failure))
            return None
        self._certificate = connection.certificate
        if self._certificate:
            self.log = self.log.bind(certificate=next(iter(names(self._certificate)), "without name"))
        self.log.debug("TLS handshake done", version=connection.version)
        return connection

    def _negotiate(self) -> bool:
        """Wait for the A-ASSOCIATE-RQ and answer it; True when the association is established."""
        primitive = self.dul.receive_pdu(wait=True, timeout=self._request_timeout_s)
        if primitive is None or self.upper_layer.is_closed:
            if self.upper_layer.end_reason and not self._over_limit:
                self._environment.lines.info(
                    "connection ended before an association", log=self.log, reason=self.upper_layer.end_reason
                )
            else:
                self.log.debug("connection without A-ASSOCIATE-RQ")
            return False
        request: AssociateRequest = primitive.request
        called, calling = request.called_ae_title, request.calling_ae_title
        self.log = self.upper_layer.log = self.log.bind(calling=calling, called=called)
        if self._over_limit:  # the supervisor has logged it
            self.acse.send_reject(*LOCAL_LIMIT_EXCEEDED)
            return False
        self._admission = self._environment.admission()
        rejection = self._check_application_context(request)
        rejection = rejection or self._admission.reject(calling, called, self._address)
        rejection = rejection or self._environment.subjects.reject(calling, self._certificate)
        user = UserVerdict(rejection) if rejection else self._judge_user(request)
        if user.rejection is not None:
            self._reject(user.rejection)
            return False
        self._permitted = self._admission.permitted(calling, called, self._address)
        offer = self._environment.contexts.offer(
            self._permitted, (context.abstract_syntax for context in request.contexts), request.roles
        )
        self._log_forbidden(offer)
        self._prepare_messages(calling, called)
        self._accept(request, offer, user.response)
        self._log_not_supported()
        return True

    def _accept(self, request: AssociateRequest, offer: Offer, identity_response: bytes | None) -> None:
        """What pynetdicom's ACSE does as acceptor, from the negotiation of the contexts on."""
        contexts, roles = negotiate(request, offer)
        accepted = [context for context in contexts if context.result == ACCEPTANCE]
        self._accepted_cx = {cast(int, context.context_id): context for context in accepted}
        self._rejected_cx = [context for context in contexts if context.result != ACCEPTANCE]
        self.upper_layer.accept(
            associate_accept.encode(
                request.repeated,
                contexts,
                self._environment.ae.maximum_pdu_size,
                roles=roles,
                identity_response=identity_response,
            )
        )
        self.peer_maximum_pdu_bytes = request.maximum_length
        self.is_established = True

    def _check_application_context(self, request: AssociateRequest) -> Rejection | None:
        """PS3.8 table 9-21: what is not DICOM's (PS3.7 annex A.2.1) is rejected, as by DCMTK's servers."""
        if request.application_context_name == APPLICATION_CONTEXT_NAME:
            return None
        return Rejection(
            Refusal.APPLICATION_CONTEXT_NAME_NOT_SUPPORTED, "the application context is not the one of DICOM"
        )

    def _judge_user(self, request: AssociateRequest) -> UserVerdict:
        identity = request.user_identity
        if identity is not None:
            self.log = self.upper_layer.log = self.log.bind(user=user_name(identity))
        return self._environment.users.judge(identity)

    def _reject(self, rejection: Rejection) -> None:
        source, reason = rejection.refusal.value
        option = {"option": rejection.option} if rejection.option else {}
        self.log.warning("association rejected", reason=rejection.explanation, **option)
        self.acse.send_reject(TRANSIENT if source == PRESENTATION_PROVIDER else PERMANENT, source, reason)

    def _option_for(self, verb: Verb) -> str:
        called, calling = self.upper_layer.ae_titles
        return self._admission.option_for(calling, called, self._address, verb)

    def _log_forbidden(self, offer: Offer) -> None:
        for verb in sorted(set(offer.forbidden.values()), key=lambda verb: verb.name):
            self.log.warning(
                "presentation contexts not accepted",
                verb=verb.name,
                reason="not permitted",
                option=self._option_for(verb),
            )

    def _log_not_supported(self) -> None:
        for result, reason in _NOT_SUPPORTED.items():
            refused = sorted({str(c.abstract_syntax) for c in self.rejected_contexts if c.result == result})
            if refused:
                more = f" and {len(refused) - LOGGED_UIDS} more" if len(refused) > LOGGED_UIDS else ""
                self.log.warning(
                    "presentation contexts not accepted",
                    reason=reason,
                    abstract_syntaxes=",".join(refused[:LOGGED_UIDS]) + more,
                )

    def _prepare_messages(self, calling: str, called: str) -> None:
        peers = Peers(
            calling_ae_title=calling,
            called_ae_title=called,
            calling_address=_uri(self.requestor.address_info),
            called_address=_uri(self.acceptor.address_info),
        )
        self._store = AssociationStore(
            self._environment.storage,
            peers,
            lambda context_id: str(self._accepted_cx[context_id].transfer_syntax[0]),
            self.log,
        )
        self._receiver = MessageReceiver(self, self._store, self.log)
        self.upper_layer.handler = self._receiver

    def _serve(self) -> None:
        started = time.monotonic()
        self.upper_layer.reader.set_timeout(self._environment.idle_timeout)
        while not self.upper_layer.is_closed:
            if self.reports is None or self.reports.peer_speaks():
                self.upper_layer.step()
            self.operations.run()
            if self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.is_established = False
        self._log_end(time.monotonic() - started)

    def _log_end(self, seconds: float) -> None:
        counters = self._store.counters if self._store is not None else None
        end = (
            "released"
            if self.is_released
            else ("interrupted" if self.upper_layer.interrupted else "ended without release")
        )
        self.log.info(
            f"association {end}",
            stored=counters.instances if counters else 0,
            refused=counters.refused if counters else 0,
            bytes=counters.bytes if counters else 0,
            seconds=round(seconds, 3),
            **({"reason": self.upper_layer.end_reason} if self.upper_layer.end_reason and not self.is_released else {}),
        )


def _uri(address: AddressInformation | None) -> str:
    if address is None:
        return ""
    host = f"[{address.address}]" if ":" in address.address else address.address
    return f"dicom://{host}:{address.port}"


def running_associations() -> list[AcceptedAssociation]:
    """Associations of this process whose threads run."""
    return [thread for thread in threading.enumerate() if isinstance(thread, AcceptedAssociation)]
