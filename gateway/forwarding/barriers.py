"""Query barriers: who asks an archive is told when what was acknowledged before, and could match, has arrived there.

A worker answers a C-STORE before it tells the forwarder. So each barrier first has all other workers say what they
have acknowledged ("flush"); what is then in the queue and could match is delivered before all else.
"""

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.deliveries import Wanted, identifiers_of
from gateway.forwarding.queue import DeliveryQueue
from gateway.forwarding.refused import RefusedInstances
from gateway.spool import Delivery

# Of the text of identifiers; as much fits into a message, however it is quoted.
MISSING_AT_ONCE_BYTES: Final = 8 * 1024


@dataclass
class _Barrier:
    connection: socket.socket
    number: int
    wanted: Wanted
    # Workers that have not said yet what they acknowledged.
    unheard: set[socket.socket]
    # Whether it is kept until it is forgotten, for the question what is missing.
    lists: bool
    # What it waits for, once all are heard.
    waits_for: dict[Path, Delivery] | None = None
    has_ended: bool = False
    # What is missing, since that was asked first.
    missing: list[Delivery] | None = None


class Barriers:
    """The barriers of all workers. Thread-safe."""

    def __init__(
        self,
        queue_of: Callable[[str], DeliveryQueue | None],
        ready: Path,
        refused: RefusedInstances,
        *,
        receivers: int = 0,
        rescan: Callable[[], None] = lambda: None,
        may_change: Callable[[], bool] = lambda: False,
    ) -> None:
        """`queue_of` a destination. `ready`: the spool's folder; nobody waits for what is elsewhere, which is not
        acknowledged. `receivers`: how many workers there are to be; while one is not connected (it has just started, or
        we have), what it acknowledges is only found by `rescan`, a look into `ready`. `may_change`: whether a script
        may change identifiers on the way; then anything could match."""
        self._queue_of = queue_of
        self._ready = ready
        self._refused = refused
        self._receivers_expected = receivers
        self._rescan = rescan
        self._may_change = may_change
        self._lock = threading.Lock()
        # All who are connected, and those of them that receive.
        self._workers: set[socket.socket] = set()
        self._receivers: set[socket.socket] = set()
        self._barriers: dict[int, _Barrier] = {}
        self._numbers = itertools.count(1)
        self._is_complete = False

    def complete(self) -> None:
        """All that was in `ready` at the start is in the queue."""
        with self._lock:
            self._is_complete = True
            for own_number in list(self._barriers):
                self._look(own_number)

    def join(self, connection: socket.socket) -> None:
        """A worker has connected."""
        with self._lock:
            self._workers.add(connection)

    def receives(self, connection: socket.socket) -> None:
        """It is a worker that receives instances."""
        with self._lock:
            self._receivers.add(connection)

    def leave(self, connection: socket.socket) -> None:
        """A worker is gone: what it had acknowledged is in `ready`, and found by the rescan that came before."""
        with self._lock:
            self._workers.discard(connection)
            self._receivers.discard(connection)
            for own_number, barrier in list(self._barriers.items()):
                if barrier.connection is connection:
                    del self._barriers[own_number]
                elif connection in barrier.unheard:
                    barrier.unheard.discard(connection)
                    self._look(own_number)

    def ask(self, connection: socket.socket, number: int, wanted: Wanted, lists: bool = False) -> None:
        """A worker asks, under a number of its own; it has said all that it has acknowledged.

        `lists`: it will ask, too, what is missing then.
        """
        with self._lock:
            has_all = len(self._receivers) >= self._receivers_expected
        if not has_all:
            self._rescan()
        with self._lock:
            own_number = next(self._numbers)
            barrier = _Barrier(connection, number, wanted, self._workers - {connection}, lists)
            self._barriers[own_number] = barrier
            for worker in barrier.unheard:
                _tell(worker, {"flush": own_number})
            self._look(own_number)

    def say_missing(self, connection: socket.socket, number: int, start: int) -> None:
        """A worker asks what has not arrived; from the one at `start` on, because not all fits into a message."""
        with self._lock:
            for barrier in self._barriers.values():
                if (barrier.connection, barrier.number) == (connection, number):
                    _tell(connection, {"missing": number, **self._missing(barrier, start)})
                    return

    def forget(self, connection: socket.socket, number: int) -> None:
        """A worker does not wait any longer."""
        with self._lock:
            for own_number, barrier in list(self._barriers.items()):
                if (barrier.connection, barrier.number) == (connection, number):
                    del self._barriers[own_number]

    def flushed(self, connection: socket.socket, own_number: int) -> None:
        """A worker has said all that it has acknowledged."""
        with self._lock:
            if own_number in self._barriers:
                self._barriers[own_number].unheard.discard(connection)
                self._look(own_number)

    def ended(self, path: Path) -> None:
        """A delivery is delivered, or has failed."""
        with self._lock:
            for own_number, barrier in list(self._barriers.items()):
                if barrier.waits_for is not None and path in barrier.waits_for:
                    del barrier.waits_for[path]
                    self._look(own_number)

    def _missing(self, barrier: _Barrier, start: int) -> dict[str, Any]:
        if barrier.missing is None:
            waits_for = barrier.waits_for
            if waits_for is None:  # somebody has not been heard: what is known
                queue = self._queue_of(barrier.wanted.destination)
                waits_for = queue.matching(barrier.wanted, self._ready) if queue is not None else {}
            late = [delivery for delivery in waits_for.values() if barrier.wanted.may_be(delivery)]
            barrier.missing = [*late, *self._refused.matching(barrier.wanted)]
        identifiers: list[tuple[str, ...]] = []
        size = 0
        for delivery in itertools.islice(barrier.missing, start, None):
            identifiers.append(identifiers_of(delivery))
            size += sum(map(len, identifiers[-1]))
            if size > MISSING_AT_ONCE_BYTES:
                break
        is_all = start + len(identifiers) == len(barrier.missing)
        return {"instances": identifiers, "is_all": is_all, "is_known": barrier.waits_for is not None}

    def _look(self, own_number: int) -> None:
        barrier = self._barriers[own_number]
        if barrier.unheard or not self._is_complete or barrier.has_ended:
            return
        if barrier.waits_for is None:
            queue = self._queue_of(barrier.wanted.destination)
            wanted = Wanted(destination=barrier.wanted.destination) if self._may_change() else barrier.wanted
            barrier.waits_for = queue.hurry(wanted, self._ready) if queue is not None else {}
        if not barrier.waits_for:
            barrier.has_ended = True
            if not barrier.lists:
                del self._barriers[own_number]
            _tell(barrier.connection, {"barrier": barrier.number})


def _tell(connection: socket.socket, message: dict[str, Any]) -> None:
    # A worker that does not read is not waited for: its query goes on when its time is over.
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
