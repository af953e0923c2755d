"""The driver that sends what an archive has."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from gateway.archive.interface import (
    Archive,
    Archives,
    ArchiveUnavailable,
    CannotTranscode,
    Fetched,
    InstanceReference,
    Selection,
)
from gateway.moves.interface import Acceptance, MoveDrivers, MoveRequest, Outcome, SubOperation, Target, TargetLost

# How often a target may do something else while the archive is waited for.
WAIT_INTERVAL_S: Final = 0.25


class ArchiveDriver:
    """A MoveDriver (gateway.moves.interface): lists when it is created, reads ahead, sends one after the other.

    Raises ArchiveUnavailable, TooBroad when it is created.
    """

    def __init__(self, archive: Archive, selection: Selection, target: Target) -> None:
        listing = archive.list_instances(selection)
        self._archive = archive
        self._target = target
        # By SOP class, because an association has room for a limited number of presentation contexts.
        self._instances = sorted(listing.instances, key=lambda instance: instance.sop_class_uid)
        self._missing = listing.missing
        self._position = 0
        self._begun = 0
        self._acceptances: Sequence[Acceptance] = ()
        self._prefetched: Fetched | None = None
        self._reading = contextlib.ExitStack()

    def size(self) -> int:
        """See MoveDriver."""
        return len(self._instances) + len(self._missing)

    def apply(self) -> SubOperation:
        """See MoveDriver."""
        number = self._position
        self._position += 1
        if number >= len(self._instances):
            uid = self._missing[number - len(self._instances)]
            return SubOperation(Outcome.FAILED, uid, "received, but not in the archive")
        if number == self._begun + len(self._acceptances):
            self._begin(number)
        instance, acceptance = self._instances[number], self._acceptances[number - self._begun]
        if acceptance.refusal:
            return SubOperation(Outcome.FAILED, instance.sop_instance_uid, acceptance.refusal)
        return self._send(instance, acceptance)

    def free(self) -> None:
        """See MoveDriver."""
        self._reading.close()

    def _begin(self, number: int) -> None:
        """Let the target get ready for the instances from `number` on, and begin to read them."""
        self._reading.close()
        self._prefetched = None
        rest = self._instances[number:]
        self._begun, self._acceptances = number, self._target.begin(rest)
        wanted = [
            (instance, acceptance.transfer_syntax_uid)
            for instance, acceptance in zip(rest, self._acceptances, strict=False)
            if not acceptance.refusal
        ]
        self._read_ahead = self._reading.enter_context(self._archive.read_ahead(wanted))

    def _send(self, instance: InstanceReference, acceptance: Acceptance) -> SubOperation:
        fetched = self._fetch()
        if isinstance(fetched.error, CannotTranscode):
            return _not_transcoded(instance, fetched.error)
        if fetched.encoded is None:
            return SubOperation(Outcome.FAILED, instance.sop_instance_uid, str(fetched.error))
        try:
            return self._target.store(instance, fetched.encoded, self._prefetch)
        except (TargetLost, ArchiveUnavailable):
            return self._send_again(instance, acceptance)

    def _fetch(self) -> Fetched:
        fetched, self._prefetched = self._prefetched, None
        if fetched is not None:
            return fetched
        while not self._read_ahead.wait(WAIT_INTERVAL_S):
            self._target.waiting()
        return next(self._read_ahead)

    def _prefetch(self) -> None:
        """While a response is awaited: take the next one in if it has come, but do not wait for it."""
        if self._prefetched is None and self._read_ahead.wait(0):
            self._prefetched = next(self._read_ahead, None)

    def _send_again(self, instance: InstanceReference, acceptance: Acceptance) -> SubOperation:
        """Once: an instance that breaks the receiver must not hold up the others."""
        try:
            with self._archive.open(instance, acceptance.transfer_syntax_uid) as encoded:
                return self._target.store(instance, encoded)
        except CannotTranscode as error:
            return _not_transcoded(instance, error)
        except (TargetLost, ArchiveUnavailable) as error:
            return SubOperation(Outcome.FAILED, instance.sop_instance_uid, str(error))


def _not_transcoded(instance: InstanceReference, error: CannotTranscode) -> SubOperation:
    return SubOperation(Outcome.FAILED, instance.sop_instance_uid, f"cannot be transcoded: {error}")


def archive_drivers(archives: Archives) -> MoveDrivers:
    """Each called AE title's archive sends what it has."""

    def create(request: MoveRequest, target: Target) -> ArchiveDriver:
        return ArchiveDriver(archives.of(request.source_ae_title), request.selection(), target)

    return MoveDrivers(create, {})
