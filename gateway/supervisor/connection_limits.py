"""How many connections may be open, in all and from one address, and who serves which: the counts, without sockets."""

import itertools
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Excess:
    """What a connection would be too many for: the option, and in words."""

    option: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Connection:
    worker: str
    host: str
    over_limit: bool


class OpenConnections:
    """The connections that workers serve now, each with a number."""

    def __init__(self, maximum: int, maximum_per_peer: int) -> None:
        """Take MaximumAssociations and MaximumAssociationsPerPeer, which may be 0: none."""
        self._maximum = maximum
        self._maximum_per_peer = maximum_per_peer
        self._numbers = itertools.count(1)
        self._open: dict[int, _Connection] = {}
        self._loads: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()
        self._rejected = 0

    @property
    def rejected(self) -> int:
        """How many connections over a limit are open, to be rejected."""
        return self._rejected

    def excess(self, host: str) -> Excess | None:
        """Return which limit one more connection from `host` would exceed, or None."""
        if len(self._open) - self._rejected >= self._maximum:
            return Excess("MaximumAssociations", f"{self._maximum} associations are open")
        if self._maximum_per_peer and self._hosts[host] >= self._maximum_per_peer:
            reason = f"{self._maximum_per_peer} associations of this address are open"
            return Excess("MaximumAssociationsPerPeer", reason)
        return None

    def number(self) -> int:
        """Return the number for the next connection."""
        return next(self._numbers)

    def opened(self, number: int, worker: str, host: str, *, over_limit: bool) -> None:
        """Count a connection that `worker` has got. One over a limit counts as rejected only."""
        self._open[number] = _Connection(worker, host, over_limit)
        self._loads[worker] += 1
        if over_limit:
            self._rejected += 1
        else:
            self._hosts[host] += 1

    def ended(self, number: int) -> None:
        """Give back what the connection counted; one that is not open counts nothing."""
        connection = self._open.pop(number, None)
        if connection is None:
            return
        self._loads[connection.worker] -= 1
        if connection.over_limit:
            self._rejected -= 1
            return
        self._hosts[connection.host] -= 1
        if not self._hosts[connection.host]:
            del self._hosts[connection.host]

    def lost(self, worker: str) -> None:
        """Give back what all connections of a worker count that has ended: the system has closed them."""
        for number in [number for number, connection in self._open.items() if connection.worker == worker]:
            self.ended(number)

    def load(self, worker: str) -> int:
        """Return how many connections `worker` serves."""
        return self._loads[worker]
