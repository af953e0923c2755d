"""Which service answers which request: by the abstract syntax of its presentation context and its Command Field.

C-STORE and C-ECHO, which have no operation, are not in the table (scp/messages.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

from scp.command_set import C_CANCEL_RQ, C_FIND_RQ, C_GET_RQ, C_MOVE_RQ, Command
from scp.operations import Operation

# Makes an operation from its association, presentation context ID, command and encoded data set.
Begin = Callable[[Any, int, Command, bytes], Operation]

# Requests that C-CANCEL is for (PS3.7 9.3.2.3, 9.3.3.3, 9.3.4.3).
_CANCELLABLE = (C_FIND_RQ, C_GET_RQ, C_MOVE_RQ)


class Services:
    """The operations that the gateway has, for all associations of a worker."""

    def __init__(self, table: Mapping[tuple[str, int], Begin]) -> None:
        """`table`: by abstract syntax and Command Field."""
        self._table = dict(table)
        self._cancellable = frozenset(uid for uid, field in self._table if field in _CANCELLABLE)

    def has(self, abstract_syntax: str, field: int) -> bool:
        """Whether a request begins, or C-CANCEL ends, an operation on a context of this abstract syntax."""
        if field == C_CANCEL_RQ:
            return abstract_syntax in self._cancellable
        return (abstract_syntax, field) in self._table

    def begin(self, association: Any, context_id: int, command: Command, data_set: bytes) -> Operation:
        """Make a request ready to be run; `has` said that there is something to run."""
        abstract_syntax = str(association.accepted_context_ids[context_id].abstract_syntax)
        return self._table[abstract_syntax, command.field](association, context_id, command, data_set)
