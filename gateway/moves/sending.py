"""What drivers of archives have in common: reading ahead while a target is busy, and sending once more."""

from __future__ import annotations

from typing import Final

from gateway.archive.interface import (
    Archive,
    ArchiveUnavailable,
    CannotTranscode,
    Fetched,
    InstanceReference,
    ReadAhead,
)
from gateway.moves.interface import Outcome, SubOperation, Target, TargetLost

# How often a target may do something else while the archive is waited for.
WAIT_INTERVAL_S: Final = 0.25


class Reading:
    """What an archive gives, one instance after the other."""

    def __init__(self, read_ahead: ReadAhead, target: Target) -> None:
        self._read_ahead = read_ahead
        self._target = target
        self._prefetched: Fetched | None = None

    def next(self) -> Fetched | None:
        """Wait for the next instance; None at the end."""
        fetched, self._prefetched = self._prefetched, None
        if fetched is not None:
            return fetched
        while not self._read_ahead.wait(WAIT_INTERVAL_S):
            self._target.waiting()
        return next(self._read_ahead, None)

    def prefetch(self) -> None:
        """While a response is awaited: take the next one in if it has come, but do not wait for it."""
        if self._prefetched is None and self._read_ahead.wait(0):
            self._prefetched = next(self._read_ahead, None)


def send_again(
    archive: Archive, target: Target, instance: InstanceReference, transfer_syntax_uid: str | None
) -> SubOperation:
    """Once: an instance that breaks the receiver must not hold up the others."""
    try:
        with archive.open(instance, transfer_syntax_uid) as encoded:
            return target.store(instance, encoded)
    except CannotTranscode as error:
        return not_transcoded(instance, error)
    except (TargetLost, ArchiveUnavailable) as error:
        return SubOperation(Outcome.FAILED, instance.sop_instance_uid, str(error))


def not_transcoded(instance: InstanceReference, error: CannotTranscode) -> SubOperation:
    """The outcome for an instance that the archive does not have as the target takes it."""
    return SubOperation(Outcome.FAILED, instance.sop_instance_uid, f"cannot be transcoded: {error}")
