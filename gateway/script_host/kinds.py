"""The kinds of callbacks that are called for peers: one table."""

from __future__ import annotations

from enum import Enum
from typing import Final

from gateway.options.script import ScriptOptions


class Kind(Enum):
    """What is called, and how its calls are serialised.

    As in Orthanc: filters under one lock, queries under another, worklist queries under a third. Moves have none.
    Received instances, which Orthanc asks about under the lock of filters, have their own: no C-STORE waits for them.
    Lookups of storage commitment run in Orthanc's jobs engine, two at a time; here one after the other.
    """

    FILTER = ("filter", True)
    RECEIVED_INSTANCE = ("received instance", True)
    FIND = ("find", True)
    WORKLIST = ("worklist", True)
    MOVE = ("move", False)
    STORAGE_COMMITMENT = ("storage commitment", True)

    def __init__(self, text: str, is_serial: bool) -> None:
        self.text = text
        self.is_serial = is_serial

    @classmethod
    def of(cls, text: str) -> Kind:
        """The kind that is called `text`. Raises KeyError."""
        return _BY_TEXT[text]

    def limit_s(self, options: ScriptOptions) -> float:
        """How long one call may take, the wait for its turn included."""
        return {
            Kind.FILTER: options.filter_timeout,
            Kind.RECEIVED_INSTANCE: options.received_instance_timeout,
            Kind.FIND: options.find_timeout,
            Kind.WORKLIST: options.worklist_timeout,
            Kind.MOVE: options.move_timeout,
            Kind.STORAGE_COMMITMENT: options.storage_commitment_timeout,
        }[self]


_BY_TEXT: Final = {kind.text: kind for kind in Kind}
