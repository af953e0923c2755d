"""The driver that sends what an archive has."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import replace

from gateway.archive.interface import (
    Archive,
    ArchiveUnavailable,
    CannotTranscode,
    InstanceReference,
    Listing,
    Selection,
)
from gateway.moves.interface import Acceptance, Outcome, SubOperation, Target, TargetLost
from gateway.moves.sending import Reading, not_transcoded, send_again


class ArchiveDriver:
    """A MoveDriver (gateway.moves.interface): lists when it is created, reads ahead, sends in the archive's order.

    Raises ArchiveUnavailable, TooBroad when it is created.
    """

    def __init__(self, archive: Archive, selection: Selection, target: Target, listing: Listing | None = None) -> None:
        """`listing`: what is to be sent, if it has been listed already."""
        listing = listing or archive.list_instances(selection)
        self._archive = archive
        self._target = target
        # By SOP class, because an association has room for a limited number of presentation contexts.
        self._waiting = deque(sorted(listing.instances, key=lambda instance: instance.sop_class_uid))
        self._listing = listing
        # What the target is ready for, by handle; what it does not take, and why; what is not in the archive.
        self._expected: dict[str, tuple[InstanceReference, Acceptance]] = {}
        self._refused: deque[tuple[InstanceReference, str]] = deque()
        self._missing = iter(listing.missing)
        self._open = contextlib.ExitStack()
        # SOP classes and transfer syntaxes of which the listing was wrong, and the instances that were postponed.
        self._corrected: set[tuple[str, str]] = set()
        self._postponed: set[str] = set()

    def size(self) -> int:
        """See MoveDriver."""
        return len(self._listing.instances) + len(self._listing.missing)

    def apply(self) -> SubOperation:
        """See MoveDriver."""
        while True:
            if self._refused:
                instance, reason = self._refused.popleft()
                return SubOperation(Outcome.FAILED, instance.sop_instance_uid, reason)
            if self._expected:
                done = self._send_next()
                if done is not None:
                    return done
            elif self._waiting:
                self._begin()
            else:
                uid = next(self._missing)
                return SubOperation(Outcome.FAILED, uid, "received, but not in the archive")

    def free(self) -> None:
        """See MoveDriver."""
        self._open.close()

    def _begin(self) -> None:
        """Let the target get ready for what waits, and begin to read it."""
        self._open.close()
        for acceptance in self._target.begin(tuple(self._waiting)):
            instance = self._waiting.popleft()
            if acceptance.refusal:
                self._refused.append((instance, acceptance.refusal))
            else:
                self._expected[instance.handle] = instance, acceptance
        wanted = [(instance, acceptance.transfer_syntax_uid) for instance, acceptance in self._expected.values()]
        self._reading = Reading(self._open.enter_context(self._archive.read_ahead(wanted)), self._target)

    def _send_next(self) -> SubOperation | None:
        """Send what comes next; None when that has to wait for another transfer syntax."""
        fetched = self._reading.next()
        if fetched is None:
            raise RuntimeError("the archive gives less than it was asked for")
        instance, acceptance = self._expected.pop(fetched.instance.handle)
        if isinstance(fetched.error, CannotTranscode):
            return not_transcoded(instance, fetched.error)
        if fetched.encoded is None:
            return SubOperation(Outcome.FAILED, instance.sop_instance_uid, str(fetched.error))
        found = fetched.encoded.transfer_syntax_uid
        if acceptance.transfer_syntax_uid is None and found != instance.transfer_syntax_uid:
            return self._correct(instance, found)
        try:
            return self._target.store(instance, fetched.encoded, self._reading.prefetch)
        except (TargetLost, ArchiveUnavailable):
            return send_again(self._archive, self._target, instance, acceptance.transfer_syntax_uid)

    def _correct(self, instance: InstanceReference, found: str) -> SubOperation | None:
        """The listing was wrong, and the target is not ready for what came: it gets ready for that."""
        if instance.handle in self._postponed:
            reason = f"comes in transfer syntax {found} instead of {instance.transfer_syntax_uid or 'an unknown one'}"
            return SubOperation(Outcome.FAILED, instance.sop_instance_uid, reason)
        self._postponed.add(instance.handle)
        kind = (instance.sop_class_uid, instance.transfer_syntax_uid)
        if kind in self._corrected:
            self._waiting.append(replace(instance, transfer_syntax_uid=found))
            return None
        # Whoever is wrong about one is wrong about all of its kind, but for those that have been seen.
        self._corrected.add(kind)
        rest = [*(one for one, _acceptance in self._expected.values()), *self._waiting]
        self._expected.clear()
        self._waiting = deque([replace(instance, transfer_syntax_uid=found)])
        for one in rest:
            is_alike = (one.sop_class_uid, one.transfer_syntax_uid) == kind and one.handle not in self._postponed
            self._waiting.append(replace(one, transfer_syntax_uid=found) if is_alike else one)
        return None
