"""Moves that a script drives (RegisterMoveCallback and its successors). The script sends the instances itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.archive.interface import EncodedInstance, InstanceReference
from gateway.moves.interface import (
    Acceptance,
    CreateDriver,
    MoveDriver,
    MoveDrivers,
    MoveRequest,
    Outcome,
    SubOperation,
    Target,
)
from gateway.script_host.client import Call, ScriptClient, ScriptFailed
from gateway.script_host.kinds import Kind


class NoTarget:
    """The target of a move that a script drives: nothing is sent from here."""

    def __init__(self) -> None:
        self.call: Call | None = None

    def begin(self, instances: Sequence[InstanceReference]) -> list[Acceptance]:
        """See Target."""
        return [Acceptance(refusal="the script sends")] * len(instances)

    def store(
        self, instance: InstanceReference, encoded: EncodedInstance, on_sent: Callable[[], None] | None = None
    ) -> SubOperation:
        """See Target."""
        return SubOperation(Outcome.FAILED, instance.sop_instance_uid, "the script sends")

    def waiting(self) -> None:
        """See Target."""

    def interrupt(self) -> None:
        """Wait no longer for the script. Called by another thread."""
        if self.call is not None:
            self.call.interrupt()

    def close(self) -> None:
        """Nothing is open."""


class ScriptDriver:
    """A MoveDriver (gateway.moves.interface). Raises ScriptFailed when it is created."""

    def __init__(self, script: ScriptClient, request: MoveRequest, target: Target) -> None:
        self._stops_on_failure = script.options.stop_on_first_failure
        self._call = script.call(Kind.MOVE)
        if isinstance(target, NoTarget):
            target.call = self._call
        header = {
            "request": request.as_dictionary(),
            "remote_aet": request.originator_ae_title,
            "called_aet": request.source_ae_title,
            "remote_ip": request.originator_address,
        }
        try:
            self._size = int(self._call.ask(header).header["size"])
        except BaseException:
            self._call.close()
            raise

    def size(self) -> int:
        """See MoveDriver."""
        return self._size

    def apply(self) -> SubOperation:
        """See MoveDriver. What the script returns does not count: only an exception is a failure."""
        try:
            self._call.ask({"apply": True})
        except ScriptFailed as error:
            return SubOperation(Outcome.FAILED, reason=str(error), ends_move=self._stops_on_failure)
        return SubOperation(Outcome.COMPLETED)

    def free(self) -> None:
        """See MoveDriver."""
        try:
            self._call.ask({"end": True})
        except ScriptFailed:
            return  # the host frees it when the connection ends
        finally:
            self._call.close()


class ScriptedMoveDrivers(MoveDrivers):
    """The script, if it has a callback for moves, else those that are there without it."""

    def __init__(self, script: ScriptClient, others: MoveDrivers) -> None:
        self._script = script
        self._others_without_script = others

    def needs_target(self, called_ae_title: str) -> bool:
        """See MoveDrivers. Raises ScriptFailed while nobody can know."""
        return not self._script.has(Kind.MOVE)

    def of(self, called_ae_title: str) -> CreateDriver:
        """See MoveDrivers. Raises ScriptFailed while nobody can know."""
        if self._script.has(Kind.MOVE):
            return self._create
        return self._others_without_script.of(called_ae_title)

    def _create(self, request: MoveRequest, target: Target) -> MoveDriver:
        return ScriptDriver(self._script, request, target)
