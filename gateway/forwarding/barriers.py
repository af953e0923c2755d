"""Query barriers: who asks Orthanc is told when what was acknowledged before, and could match, has arrived there.

A worker answers a C-STORE before it tells the forwarder. So each barrier first has all other workers say what they
have acknowledged ("flush"); what is then in the queue and could match is delivered before all else.
"""

import contextlib
import itertools
import json
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.deliveries import Wanted
from gateway.forwarding.queue import DeliveryQueue
from gateway.spool import Delivery


@dataclass
class _Barrier:
    connection: socket.socket
    number: int
    wanted: Wanted
    # Workers that have not said yet what they acknowledged.
    unheard: set[socket.socket] = field(default_factory=set)
    # What it waits for, once all are heard.
    paths: set[Path] | None = None


class Barriers:
    """The barriers of all workers. Thread-safe."""

    def __init__(self, queue: DeliveryQueue, ready: Path) -> None:
        """`ready`: the spool's folder; what is elsewhere is not acknowledged, and nobody waits for it."""
        self._queue = queue
        self._ready = ready
        self._lock = threading.Lock()
        self._workers: set[socket.socket] = set()
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

    def leave(self, connection: socket.socket) -> None:
        """A worker is gone: what it had acknowledged is in `ready`, and found by the rescan that came before."""
        with self._lock:
            self._workers.discard(connection)
            for own_number, barrier in list(self._barriers.items()):
                if barrier.connection is connection:
                    del self._barriers[own_number]
                elif connection in barrier.unheard:
                    barrier.unheard.discard(connection)
                    self._look(own_number)

    def ask(self, connection: socket.socket, number: int, wanted: Wanted) -> None:
        """A worker asks, under a number of its own; it has said all that it has acknowledged."""
        with self._lock:
            own_number = next(self._numbers)
            barrier = _Barrier(connection, number, wanted, unheard=self._workers - {connection})
            self._barriers[own_number] = barrier
            for worker in barrier.unheard:
                _tell(worker, {"flush": own_number})
            self._look(own_number)

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
                if barrier.paths is not None and path in barrier.paths:
                    barrier.paths.discard(path)
                    self._look(own_number)

    def _look(self, own_number: int) -> None:
        barrier = self._barriers[own_number]
        if barrier.unheard or not self._is_complete:
            return
        if barrier.paths is None:

            def is_waited_for(delivery: Delivery) -> bool:
                return delivery.path.parent == self._ready and barrier.wanted.may_be(delivery)

            barrier.paths = self._queue.hurry(is_waited_for)
        if not barrier.paths:
            del self._barriers[own_number]
            _tell(barrier.connection, {"barrier": barrier.number})


def _tell(connection: socket.socket, message: dict[str, Any]) -> None:
    # A worker that does not read is not waited for: its query goes on when its time is over.
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
