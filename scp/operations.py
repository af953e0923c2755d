"""Requests being answered, one at a time for each association: no asynchronous operations are negotiated.

The receiver of messages begins them, from within the reading of a PDU; the association's thread runs them after it.
"""

from collections.abc import Callable
from typing import Protocol

from scp.command_set import Command
from scp.pdu_reader import InvalidPdu


class Operation(Protocol):
    """A request that is being answered."""

    @property
    def message_id(self) -> int:
        """Of the request."""

    def run(self) -> None:
        """Send the response, or all of them; return early when the association is at its end."""

    def cancel(self) -> None:
        """C-CANCEL came (PS3.7 9.3.2.3): end with the next response. Called while `run` reads from the peer."""


class Operations:
    """The operation of one association, if there is one."""

    def __init__(self, begin: Callable[[int, Command, bytes], Operation]) -> None:
        """`begin` makes an operation from presentation context ID, command and encoded identifier."""
        self._begin = begin
        self._operation: Operation | None = None

    def begin(self, context_id: int, command: Command, identifier: bytes) -> None:
        """A request is complete. Raises InvalidPdu while another one is not answered (PS3.7 D.3.3.3.1)."""
        if self._operation is not None:
            raise InvalidPdu("a request before the last response to the one before")
        self._operation = self._begin(context_id, command, identifier)

    def cancel(self, message_id: int) -> None:
        """Give up the operation with this Message ID; nothing if it is answered already."""
        if self._operation is not None and self._operation.message_id == message_id:
            self._operation.cancel()

    def run(self) -> None:
        """Answer what was begun."""
        if self._operation is not None:
            try:
                self._operation.run()
            finally:
                self._operation = None
