"""DIMSE messages (PS3.7 6.3) put together from presentation data values, each given to the service it is for.

C-STORE and C-ECHO are served right here; responses go to who sent the request (scp/requests.py); other requests begin
an operation (scp/services.py).
"""

from typing import Any, Final, Protocol

from scp import command_set
from scp.command_set import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_STORE_RQ,
    NO_DATA_SET,
    RESPONSE_BIT,
    Command,
    InvalidCommand,
    Response,
)
from scp.operations import Operations
from scp.pdu_reader import InvalidPdu
from scp.requests import RequestSender
from scp.statuses import SUCCESS, Answer

_COMMAND_BIT: Final = 0x01
_LAST_BIT: Final = 0x02

# Data sets of normalized services; storage commitment of 10,000 instances has about 2 MB.
MAXIMUM_DATA_SET_BYTES: Final = 16 * 1024 * 1024
# Keys of C-FIND; lists of UIDs may be long.
MAXIMUM_QUERY_BYTES: Final = 1024 * 1024
_QUERIES: Final = frozenset({C_FIND_RQ})


class IncomingDataSet(Protocol):
    """A C-STORE request whose data set is arriving: ended by `finish` and then `answered`, or by `abandon`."""

    def write(self, piece: memoryview) -> None:
        """The next bytes of the data set."""

    def finish(self) -> Answer:
        """The data set is complete: decide."""

    def answered(self) -> None:
        """The response is sent: do what the peer need not wait for."""

    def abandon(self) -> None:
        """The association ended first."""


class StoreService(Protocol):
    """Who takes C-STORE requests."""

    def begin(self, command: Command, context_id: int) -> IncomingDataSet:
        """A request came; its data set follows."""


class _Refused:
    """A request that is not served: its data set is dropped."""

    def __init__(self, answer: Answer, log: Any) -> None:
        self._answer = answer
        self._log = log

    def write(self, piece: memoryview) -> None:
        """Dropped."""

    def finish(self) -> Answer:
        """The refusal."""
        answer = self._answer
        option = {"option": answer.option} if answer.option else {}
        self._log.warning("request refused", status=f"0x{answer.status.code:04X}", reason=answer.comment, **option)
        return answer

    def answered(self) -> None:
        """There is nothing left to do."""

    def abandon(self) -> None:
        """There is nothing to drop."""


class _Query:
    """The data set of an operation: small, and kept until it is complete."""

    def __init__(self, operations: Operations, context_id: int, command: Command) -> None:
        self._operations = operations
        self._context_id = context_id
        self._command = command
        self._limit = MAXIMUM_QUERY_BYTES if command.field in _QUERIES else MAXIMUM_DATA_SET_BYTES
        self._identifier = bytearray()

    def add(self, control: int, piece: memoryview, complete: bool) -> None:
        self._identifier += piece
        if len(self._identifier) > self._limit:
            raise InvalidPdu(f"data set of more than {self._limit} bytes in a request")
        if complete and control & _LAST_BIT:
            self._operations.begin(self._context_id, self._command, bytes(self._identifier))


class _ResponseDataSet:
    """The data set of a response: an Event Reply (PS3.7 10.3.1.1.9) has nothing that a requester needs."""

    def __init__(self, requests: RequestSender, response: Response) -> None:
        self._requests = requests
        self._response = response

    def add(self, control: int, piece: memoryview, complete: bool) -> None:
        if complete and control & _LAST_BIT:
            self._requests.complete(self._response)


class MessageReceiver:
    """The `DataHandler` of one association."""

    def __init__(self, association: Any, store: StoreService, log: Any) -> None:
        self._association = association
        self._store = store
        self._log = log
        self._command_bytes = bytearray()
        self._command: Command | None = None
        self._context_id = 0
        self._data_set: IncomingDataSet | None = None
        self._identifier: _Query | _ResponseDataSet | None = None

    @property
    def is_between_messages(self) -> bool:
        """Whether no message has begun that is not complete."""
        return self._data_set is None and self._identifier is None and not self._command_bytes

    def on_pdv(self, context_id: int, control: int, piece: memoryview, complete: bool) -> None:
        """See DataHandler. A message may be split into PDVs and PDUs in any way (PS3.8 Annex E.1)."""
        if control & _COMMAND_BIT:
            self._on_command(context_id, control, piece, complete)
        elif self._data_set is not None and context_id == self._context_id:
            self._data_set.write(piece)
            if complete and control & _LAST_BIT:
                self._finish()
        elif self._identifier is not None and context_id == self._context_id:
            self._identifier.add(control, piece, complete)
            if complete and control & _LAST_BIT:
                self._identifier = None
        elif len(piece) or not complete or not control & _LAST_BIT:
            raise InvalidPdu(f"data set fragment on presentation context {context_id} without its command")

    def abandon(self) -> None:
        """The association ended; what was not complete is dropped."""
        if self._data_set is not None:
            self._log.warning("the peer left in the middle of an instance; nothing of it is kept")
            self._data_set.abandon()
            self._data_set = None

    def _on_command(self, context_id: int, control: int, piece: memoryview, complete: bool) -> None:
        if self._data_set is not None or self._identifier is not None:
            raise InvalidPdu("command fragment in the middle of a data set")
        if self._command_bytes and context_id != self._context_id:
            raise InvalidPdu("fragments of one command on two presentation contexts")
        self._context_id = context_id
        self._command_bytes += piece
        if len(self._command_bytes) > command_set.MAXIMUM_COMMAND_BYTES:
            raise InvalidPdu(f"command set of more than {command_set.MAXIMUM_COMMAND_BYTES} bytes")
        if complete and control & _LAST_BIT:
            data = bytes(self._command_bytes)
            self._command_bytes.clear()
            self._dispatch(context_id, data)

    def _dispatch(self, context_id: int, data: bytes) -> None:
        if context_id not in self._association.accepted_context_ids:
            raise InvalidPdu(f"message on presentation context {context_id}, which was not accepted")
        try:
            field = command_set.field_of(data)
            if field & RESPONSE_BIT:
                self._on_response(field, data)
                return
            command = command_set.decode(data)
        except InvalidCommand as error:
            raise InvalidPdu(str(error)) from error
        self._command = command
        refusal = self._association.refusal(context_id, command.field)
        if command.field == C_CANCEL_RQ and refusal is not None:
            return  # it has no response (PS3.7 9.3.2.3), and there is nothing to cancel
        if refusal is not None or command.field == C_STORE_RQ:
            self._data_set = _Refused(refusal, self._log) if refusal else self._store.begin(command, context_id)
            if command.data_set_type == NO_DATA_SET:
                self._finish()
        elif command.field == C_ECHO_RQ:
            self._association.respond(context_id, command, SUCCESS)
        else:
            self._operate(context_id, command)

    def _operate(self, context_id: int, command: Command) -> None:
        operations = self._association.operations
        if command.field == C_CANCEL_RQ:
            operations.cancel(command.message_id_being_responded_to)
        elif command.data_set_type == NO_DATA_SET:
            operations.begin(context_id, command, b"")
        else:
            self._identifier = _Query(operations, context_id, command)

    def _on_response(self, field: int, data: bytes) -> None:
        response = self._association.requests.expect(field, data)
        if response.data_set_type == NO_DATA_SET:
            self._association.requests.complete(response)
        else:
            self._identifier = _ResponseDataSet(self._association.requests, response)

    def _finish(self) -> None:
        data_set, command = self._data_set, self._command
        if data_set is None or command is None:
            raise InvalidPdu("end of a data set that never began")
        self._data_set = None
        answer = data_set.finish()
        try:
            self._association.respond(self._context_id, command, answer)
        finally:
            data_set.answered()
