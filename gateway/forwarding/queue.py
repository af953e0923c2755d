"""Which instance is delivered next. In memory; the spool's folders are the truth.

Deliveries of one SOP Instance UID never overlap and keep their order. Trouble with one instance delays that
instance (and those of the same UID behind it); trouble on the way holds all, and then one batch at a time tries
whether it is over.
"""

import heapq
import itertools
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.deliveries import Wanted
from gateway.forwarding.pending import Pending
from gateway.spool import Delivery

# How far behind the first in line the others of its batch may stand.
LOOK_AHEAD: Final = 1000


@dataclass
class Batching:
    """What travels together: instances of `small_bytes` each at most, `batch_bytes` in all, and of one study if
    `by_study`."""

    small_bytes: int
    batch_bytes: int
    by_study: bool = False


SMALL_BYTES: Final = 256 * 1024
BATCH_BYTES: Final = 8 * 1024 * 1024


class DeliveryQueue:
    """Thread-safe queue of deliveries."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        quiet_s: float = 0.0,
        patience_s: float = 0.0,
        batching: Batching | None = None,
    ) -> None:
        """Deliveries wait until nothing was added for `quiet_s`, but none for longer than `patience_s`."""
        self.batching = batching or Batching(SMALL_BYTES, BATCH_BYTES)
        self._clock = clock
        self._quiet_s = min(quiet_s, patience_s)
        self._patience_s = patience_s
        self._added_at = -math.inf
        self._patience_ends: dict[Path, float] = {}
        self._changed = threading.Condition()
        self._next: OrderedDict[Path, Delivery] = OrderedDict()
        self._delayed: list[tuple[float, int, Delivery]] = []
        self._active: dict[str, Delivery] = {}
        self._behind: dict[str, deque[Delivery]] = {}
        self._known = Pending()
        self._alone: set[Path] = set()
        self._hurried: set[Path] = set()
        self._numbers = itertools.count()
        self._held_until: float | None = None
        # While held: what was given out to try whether the trouble is over, and has no outcome yet.
        self._probe: set[Path] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, path: object) -> bool:
        return path in self._known

    def add(self, delivery: Delivery, *, urgent: bool = False) -> bool:
        """Add a delivery, before all others if `urgent`; False when its path is known already."""
        with self._changed:
            if delivery.path in self._known:
                return False
            self._known.add(delivery)
            self._added_at = self._clock()
            self._patience_ends[delivery.path] = -math.inf if urgent else self._added_at + self._patience_s
            if delivery.sop_instance_uid in self._active:
                self._behind.setdefault(delivery.sop_instance_uid, deque()).append(delivery)
            else:
                self._activate(delivery)
                if urgent:
                    self._next.move_to_end(delivery.path, last=False)
                if urgent or len(self._next) == 1:
                    self._changed.notify()  # for the others, who was woken looks again in time
            return True

    def matching(self, wanted: Wanted, folder: Path) -> dict[Path, Delivery]:
        """What of `folder` a query could match, by path."""
        with self._changed:
            return self._matching(wanted, folder)

    def hurry(self, query: Wanted, folder: Path) -> dict[Path, Delivery]:
        """Have what of `folder` a query could match given out before others, and at once; return it as `matching`."""
        with self._changed:
            wanted = self._matching(query, folder)
            self._hurried.update(wanted)
            for path in reversed(wanted):
                self._patience_ends[path] = -math.inf
                if path in self._next:
                    self._next.move_to_end(path, last=False)
            if wanted:
                self._changed.notify_all()
            return wanted

    def take(self, maximum_count: int) -> list[Delivery]:
        """Wait for the next batch: small instances together, anything else alone. Empty once stopped."""
        with self._changed:
            while not self._stopped:
                now = self._clock()
                while self._delayed and self._delayed[0][0] <= now:
                    delivery = heapq.heappop(self._delayed)[2]
                    self._next[delivery.path] = delivery
                if self._next and self._may_send(now) and self._due() <= now:
                    batch = self._batch(maximum_count)
                    if self._held_until is not None:
                        self._probe = {delivery.path for delivery in batch}
                    if self._next or self._delayed:
                        self._changed.notify()  # whoever waits next knows for how long
                    return batch
                self._changed.wait(self._wait_time(now))
            return []

    def done(self, delivery: Delivery) -> None:
        """The delivery reached a final outcome: the next one of its SOP Instance UID may go."""
        with self._changed:
            self._known.remove(delivery.path)
            del self._patience_ends[delivery.path]
            self._alone.discard(delivery.path)
            self._hurried.discard(delivery.path)
            self._end_probe(delivery)
            del self._active[delivery.sop_instance_uid]
            waiting = self._behind.get(delivery.sop_instance_uid)
            if waiting:
                self._activate(waiting.popleft())
                if not waiting:
                    del self._behind[delivery.sop_instance_uid]
                self._changed.notify()

    def retry(self, delivery: Delivery, delay_s: float) -> None:
        """Give a taken delivery out again after `delay_s`, alone."""
        with self._changed:
            self._alone.add(delivery.path)
            self._patience_ends[delivery.path] = -math.inf
            self._end_probe(delivery)
            heapq.heappush(self._delayed, (self._clock() + delay_s, next(self._numbers), delivery))
            self._changed.notify()

    def is_held(self) -> bool:
        """Whether nothing is given out, because of a `hold` whose time is not over."""
        with self._changed:
            return self._held_until is not None and self._clock() < self._held_until

    def hold(self, delay_s: float) -> None:
        """Trouble on the way: give nothing out for `delay_s`, then one batch until `release`."""
        with self._changed:
            self._held_until = self._clock() + delay_s
            self._probe.clear()
            self._changed.notify_all()

    def release(self) -> bool:
        """The way is free; True when it was not before."""
        with self._changed:
            was_held = self._held_until is not None
            self._held_until = None
            self._probe.clear()
            if was_held:
                self._changed.notify_all()
            return was_held

    def withdraw(self, path: Path) -> bool:
        """Forget a delivery that nobody has taken; False when it is unknown or being sent right now."""
        with self._changed:
            delivery = self._known.get(path)
            if delivery is None:
                return False
            waiting = self._behind.get(delivery.sop_instance_uid, deque())
            if delivery in waiting:
                waiting.remove(delivery)
                self._hurried.discard(path)
                self._known.remove(path)
                del self._patience_ends[path]
                if not waiting:
                    del self._behind[delivery.sop_instance_uid]
                return True
            before = len(self._delayed)
            self._delayed = [entry for entry in self._delayed if entry[2] is not delivery]
            heapq.heapify(self._delayed)
            if len(self._delayed) == before and self._next.pop(path, None) is None:
                return False
        self.done(delivery)
        return True

    def stop(self) -> None:
        """Let every `take` return."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _matching(self, wanted: Wanted, folder: Path) -> dict[Path, Delivery]:
        found = self._known.matching(wanted)
        return {one.path: one for one in found if one.path.parent == folder}

    def _activate(self, delivery: Delivery) -> None:
        self._active[delivery.sop_instance_uid] = delivery
        self._next[delivery.path] = delivery
        if delivery.path in self._hurried:
            self._next.move_to_end(delivery.path, last=False)

    def _end_probe(self, delivery: Delivery) -> None:
        # A probe may end without an answer, for example because its files are gone: then another must follow.
        if delivery.path in self._probe:
            self._probe.remove(delivery.path)
            if not self._probe:
                self._changed.notify_all()

    def _may_send(self, now: float) -> bool:
        return self._held_until is None or (now >= self._held_until and not self._probe)

    def _due(self) -> float:
        """When the first in line is to be sent: when the line is quiet, or its patience is over."""
        if self._held_until is not None:
            return -math.inf
        return min(self._added_at + self._quiet_s, self._patience_ends[next(iter(self._next))])

    def _wait_time(self, now: float) -> float | None:
        dues = []
        if self._next and self._may_send(now):
            dues.append(self._due())
        if self._held_until is not None and not self._probe and self._next:
            dues.append(self._held_until)
        if self._delayed:
            dues.append(self._delayed[0][0])
        return max(0.0, min(dues) - now) if dues else None

    def _batch(self, maximum_count: int) -> list[Delivery]:
        first = next(iter(self._next.values()))
        batch = [first]
        if self._is_small(first):
            size = first.size
            for delivery in itertools.islice(self._next.values(), 1, LOOK_AHEAD):
                if len(batch) == maximum_count or size + delivery.size > self.batching.batch_bytes:
                    break
                if self._is_small(delivery) and self._goes_with(first, delivery):
                    batch.append(delivery)
                    size += delivery.size
        for delivery in batch:
            del self._next[delivery.path]
        return batch

    def _is_small(self, delivery: Delivery) -> bool:
        return delivery.size <= self.batching.small_bytes and delivery.path not in self._alone

    def _goes_with(self, first: Delivery, other: Delivery) -> bool:
        return not self.batching.by_study or other.study_instance_uid == first.study_instance_uid
