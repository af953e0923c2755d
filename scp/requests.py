"""Requests of ours on an association, whoever opened it: a message out, its response in.

The sub-operations of C-GET go out on the association that the peer opened, those of C-MOVE and the reports of storage
commitment on one of ours. While a response is awaited the association is read as always: other messages of the
peer are served, and C-CANCEL reaches the operation that it is for.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pynetdicom.pdu_primitives import A_ABORT, A_P_ABORT, A_RELEASE

from scp.association_errors import (
    AssociationAborted,
    AssociationError,
    AssociationTimedOut,
    ConnectionLost,
    ContextNotAccepted,
    error_of,
)
from scp.command_set import RESPONSE_BIT, Request, Response, decode_response, encode_request, p_data_tf
from scp.data_set_sources import EncodedDataSet
from scp.fragments import FragmentBuffer
from scp.pdu_reader import InvalidPdu
from scp.peer_writer import PeerWriter
from scp.upper_layer import End, UpperLayer

# How often somebody who waits for a response may do something else.
WAIT_INTERVAL_S: Final = 0.25

_LAST_MESSAGE_ID: Final = 0xFFFF
# Success and the warnings of PS3.7 C.1: the peer says that it has the whole data set.
_TAKEN: Final = frozenset({0x0000, 0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)})


class NegotiatedAssociation(Protocol):
    """What a RequestSender needs of its association."""

    upper_layer: UpperLayer

    @property
    def accepted_context_ids(self) -> Mapping[int, Any]:
        """Accepted presentation contexts by ID."""

    @property
    def peer_maximum_pdu_bytes(self) -> int:
        """What the peer receives at most in a P-DATA-TF PDU; 0 is unlimited."""


@dataclass
class _Awaited:
    message_id: int
    field: int
    is_sent: bool = False
    response: Response | None = None


class RequestSender:
    """Sends the requests of one association, one at a time: no asynchronous operations are negotiated (PS3.7 D.3.3.3).

    It belongs to the association's thread.
    """

    def __init__(self, association: NegotiatedAssociation, write_timeout_s: float) -> None:
        self._association = association
        self._upper_layer = association.upper_layer
        self._write_timeout_s = write_timeout_s
        self._last_message_id = 0
        self._awaited: _Awaited | None = None
        self._writer: PeerWriter | None = None
        self._fragments: FragmentBuffer | None = None
        self._context_ids: dict[tuple[str, str | None, str], int] = {}

    def context_id(self, abstract_syntax: str, transfer_syntax: str | None, role: str = "scu") -> int:
        """Return the accepted presentation context for these, in the role of ours ("scu" or "scp").

        `transfer_syntax` None: any. Raises ContextNotAccepted.
        """
        key = (abstract_syntax, transfer_syntax, role)
        if key not in self._context_ids:
            for number, context in self._association.accepted_context_ids.items():
                if (
                    context.abstract_syntax == abstract_syntax
                    and transfer_syntax in (None, context.transfer_syntax[0])
                    and (context.as_scu if role == "scu" else context.as_scp)
                ):
                    self._context_ids[key] = number
                    break
            else:
                raise ContextNotAccepted(
                    f"no presentation context for {abstract_syntax}"
                    + (f" in {transfer_syntax}" if transfer_syntax else "")
                    + f" as {role.upper()}"
                )
        return self._context_ids[key]

    def perform(
        self,
        context_id: int,
        request: Request,
        data_set: EncodedDataSet | None = None,
        *,
        timeout_s: float,
        on_sent: Callable[[], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Response:
        """Send `request` with its encoded `data_set` and return the response.

        `timeout_s` is for the response, once all is sent. `on_sent` is called then, `on_wait` again and again while
        the response does not come, at least each WAIT_INTERVAL_S; it may send on the association.

        Raises AssociationError when the association is over; DataSetUnavailable and whatever the source raises (the
        association is over if a part was sent).
        """
        self._check("before a request")
        reader = self._upper_layer.reader
        idle_timeout = reader.timeout
        reader.set_timeout(timeout_s)
        try:
            self._listen()
            awaited = self._begin(request)
            command = encode_request(request, awaited.message_id, data_set=data_set is not None)
            self._send(context_id, p_data_tf(context_id, command, self._association.peer_maximum_pdu_bytes), data_set)
            awaited.is_sent = True
            if on_sent is not None:
                on_sent()
            return self._await(awaited, timeout_s, on_wait)
        finally:
            self._awaited = None
            if not self._upper_layer.is_closed:
                reader.set_timeout(idle_timeout)

    def expect(self, field: int, command: bytes) -> Response:
        """Decode the command set of a response. Raises InvalidPdu if it is not the one that is awaited."""
        awaited = self._awaited
        if awaited is None or awaited.response is not None:
            raise InvalidPdu(f"response 0x{field:04X} to a request that was never sent")
        response = decode_response(command)
        if (response.message_id, response.field) != (awaited.message_id, awaited.field):
            raise InvalidPdu(
                f"response 0x{response.field:04X} to message {response.message_id} instead of "
                f"0x{awaited.field:04X} to message {awaited.message_id}"
            )
        if not awaited.is_sent and response.status in _TAKEN:
            raise InvalidPdu(f"status 0x{response.status:04X} before the request was complete")
        return response

    def complete(self, response: Response) -> None:
        """The response that was expected is complete."""
        if self._awaited is not None:
            self._awaited.response = response

    def _begin(self, request: Request) -> _Awaited:
        self._last_message_id = self._last_message_id % _LAST_MESSAGE_ID + 1
        self._awaited = _Awaited(self._last_message_id, request.field | RESPONSE_BIT)
        return self._awaited

    def _listen(self) -> None:
        """Act on what the peer has said meanwhile; what it says before a request is no response to it."""
        while self._upper_layer.has_input and not self._upper_layer.is_closed:
            self._upper_layer.step()
        self._check("before a request")

    def _send(self, context_id: int, command: bytes, data_set: EncodedDataSet | None) -> None:
        pdus: bytes | memoryview = command
        fragments, is_last = self._fragments, True
        if data_set is not None:
            if fragments is None:
                fragments = self._fragments = FragmentBuffer(self._association.peer_maximum_pdu_bytes)
            pdus, is_last = fragments.first(context_id, command, data_set)
        is_complete = False
        self._upper_layer.hold()
        try:
            self._write(pdus)
            while fragments is not None and data_set is not None and not is_last:
                if self._upper_layer.has_input:
                    self._upper_layer.step()
                    self._check("sending")
                pdus, is_last = fragments.next(data_set)
                self._write(pdus)
            is_complete = True
        finally:
            if not is_complete and not self._upper_layer.is_closed:
                # A message cannot be broken off in any other way.
                self._upper_layer.assoc.acse.send_abort(0x00)
            self._upper_layer.unhold()

    def _write(self, data: bytes | memoryview) -> None:
        if self._writer is None:
            self._writer = PeerWriter(self._upper_layer, self._write_timeout_s)
        self._writer.write(data)
        self._check("sending")

    def _await(self, awaited: _Awaited, timeout_s: float, on_wait: Callable[[], None] | None) -> Response:
        deadline = time.monotonic() + timeout_s
        while awaited.response is None:
            self._check("waiting for a response")
            if time.monotonic() > deadline:
                self._upper_layer.assoc.acse.send_abort(0x00)
                raise AssociationTimedOut(f"no response within {timeout_s:g} s")
            if on_wait is not None:
                on_wait()
                if not self._upper_layer.wait_for_input(WAIT_INTERVAL_S):
                    continue
            self._upper_layer.step(deadline)
        return awaited.response

    def _check(self, doing: str) -> None:
        upper_layer = self._upper_layer
        if upper_layer.is_closed:
            raise ended(upper_layer, doing)
        if isinstance(upper_layer.peek_next_pdu(), A_RELEASE):
            raise ConnectionLost(f"released by the peer {doing}")


def ended(upper_layer: UpperLayer, doing: str) -> AssociationError:
    """Return the exception for an association that ended while `doing` something."""
    if upper_layer.end is End.ABORTED:
        primitive = upper_layer.peek_next_pdu()
        if isinstance(primitive, A_ABORT):
            return AssociationAborted(primitive.abort_source, 0)
        if isinstance(primitive, A_P_ABORT):
            return AssociationAborted(2, primitive.provider_reason)
    return error_of(upper_layer.end, upper_layer.end_reason, doing)
