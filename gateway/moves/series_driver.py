"""The driver that sends whole series while they come, without a list of what is in them.

It knows how many there are, and sends what is as expected. What does not come so is listed, and left to ArchiveDriver.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Final

from gateway.archive.interface import Archive, ArchiveUnavailable, Fetched, Listing, Selection, TooBroad, WholeSeries
from gateway.moves.archive_driver import ArchiveDriver
from gateway.moves.interface import Acceptance, Outcome, SubOperation, Target, TargetLost
from gateway.moves.sending import Reading, send_again

_AS_STORED: Final = Acceptance()


class SeriesDriver:
    """A MoveDriver (gateway.moves.interface) for `whole`, which is what `selection` means to the archive."""

    def __init__(self, archive: Archive, selection: Selection, whole: WholeSeries, target: Target) -> None:
        self._archive = archive
        self._selection = selection
        self._whole = whole
        self._target = target
        self._total = sum(series.count for series in whole.series)
        # SOP Instance UIDs of the sub-operations that were performed here.
        self._sent: set[str] = set()
        # The one after the last of which `size` knew.
        self._uncounted: Fetched | None = None
        self._reading: Reading | None = None
        self._open = contextlib.ExitStack()
        # What is left when no more comes: its driver, how much it has to do, and why there is less than was counted.
        self._rest: ArchiveDriver | None = None
        self._listed = 0
        self._uncounted_rest = 0
        self._reason = ""

    def size(self) -> int:
        """See MoveDriver."""
        return self._total

    def apply(self) -> SubOperation:
        """See MoveDriver."""
        if self._rest is None:
            fetched = self._next()
            if fetched is not None:
                return self._send(fetched)
            self._rest = self._driver_of_rest()
        if not self._listed:
            return SubOperation(Outcome.FAILED, reason=self._reason)
        self._listed -= 1
        more, self._uncounted_rest = self._uncounted_rest, 0
        return replace(self._rest.apply(), more=more)

    def free(self) -> None:
        """See MoveDriver."""
        self._open.close()

    def _read(self) -> Reading:
        """Let the target get ready for all series, and begin to read those that it takes as they are."""
        series = self._whole.series
        acceptances = self._target.begin([one.sample for one in series])
        # there may be fewer answers: the association has no room for the others
        taken = [one for one, acceptance in zip(series, acceptances, strict=False) if acceptance == _AS_STORED]
        return Reading(self._open.enter_context(self._whole.read(taken)), self._target)

    def _next(self) -> Fetched | None:
        """What comes next, each instance once; None when no more comes."""
        fetched, self._uncounted = self._uncounted, None
        if fetched is not None:
            return fetched
        self._reading = self._reading or self._read()
        while True:
            fetched = self._reading.next()
            if fetched is None or fetched.instance.sop_instance_uid not in self._sent:
                return fetched

    def _send(self, fetched: Fetched) -> SubOperation:
        done = self._store(fetched)
        self._sent.add(fetched.instance.sop_instance_uid)
        if len(self._sent) == self._total:
            # A count may be old: what comes beyond it is sent as well.
            self._uncounted = self._next()
            if self._uncounted is not None:
                self._total += 1
                return replace(done, more=1)
        return done

    def _store(self, fetched: Fetched) -> SubOperation:
        instance = fetched.instance
        if fetched.encoded is None or self._reading is None:
            return SubOperation(Outcome.FAILED, instance.sop_instance_uid, str(fetched.error))
        try:
            return self._target.store(instance, fetched.encoded, self._reading.prefetch)
        except (TargetLost, ArchiveUnavailable):
            return send_again(self._archive, self._target, instance, None)

    def _driver_of_rest(self) -> ArchiveDriver:
        self._open.close()
        try:
            listed = self._archive.list_instances(self._selection).instances
            self._reason = f"the archive counts {self._total} instances, and lists {len(listed)}"
        except (ArchiveUnavailable, TooBroad) as error:
            listed = []
            self._reason = str(error)
        rest = [instance for instance in listed if instance.sop_instance_uid not in self._sent]
        self._listed = len(rest)
        self._uncounted_rest = max(0, len(self._sent) + len(rest) - self._total)
        self._total += self._uncounted_rest
        driver = ArchiveDriver(self._archive, self._selection, self._target, Listing(rest))
        self._open.callback(driver.free)
        return driver
