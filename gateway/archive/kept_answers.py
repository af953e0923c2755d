"""Answers of an archive, kept while it has not changed: what many ask for is found, described and encoded once."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, NamedTuple

from gateway.matching.keys import Key

# Of one process: some 40,000 studies.
MAXIMUM_BYTES: Final = 16 * 1024 * 1024
MAXIMUM_BYTES_OF_ONE: Final = MAXIMUM_BYTES // 4
# Who is behind this may have grown old without being changed (gateway.archive.index.query_index.LEAST_AGE_S).
MAXIMUM_AGE_S: Final = 60.0
# Beside its value: an object, its attributes, its place.
_KEY_BYTES: Final = 300


class Asked(NamedTuple):
    """A question, the same for all who are to get the same bytes: `form` says how they are encoded."""

    keys: tuple[Key, ...]
    form: Hashable


class _Kept(NamedTuple):
    answers: list[bytes]
    size_bytes: int
    until: float


class KeptAnswers:
    """Used by several threads."""

    def __init__(
        self,
        state: Callable[[], Hashable],
        maximum_bytes: int = MAXIMUM_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`state`: of all that answers depend on. Between two that are equal nothing has changed; None: not known."""
        self._state = state
        self._maximum_bytes = maximum_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._of: Hashable = None
        self._kept: OrderedDict[Asked, _Kept] = OrderedDict()
        self._size_bytes = 0

    def answers(self, asked: Asked, ask: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
        """What `ask` yields, or yielded before. Only what is fetched to its end is kept."""
        # before anything is read: what changes meanwhile makes it another one
        state = self._state()
        if state is None:
            return ask()
        kept = self._look_up(asked, state)
        return iter(kept) if kept is not None else self._ask(asked, ask, state)

    def _look_up(self, asked: Asked, state: Hashable) -> list[bytes] | None:
        with self._lock:
            if state != self._of:
                self._of = state
                self._kept.clear()
                self._size_bytes = 0
                return None
            kept = self._kept.get(asked)
            if kept is None or kept.until < self._clock():
                return None
            self._kept.move_to_end(asked)
            return kept.answers

    def _ask(self, asked: Asked, ask: Callable[[], Iterator[bytes]], state: Hashable) -> Iterator[bytes]:
        until = self._clock() + MAXIMUM_AGE_S
        answers: list[bytes] = []
        size_bytes = _size_bytes(asked.keys)
        maximum_bytes = min(MAXIMUM_BYTES_OF_ONE, self._maximum_bytes)
        for answer in ask():
            if size_bytes <= maximum_bytes:
                size_bytes += sys.getsizeof(answer)
                answers.append(answer)
            yield answer
        if size_bytes <= maximum_bytes:
            self._keep(asked, _Kept(answers, size_bytes, until), state)

    def _keep(self, asked: Asked, kept: _Kept, state: Hashable) -> None:
        with self._lock:
            if state != self._of:
                return
            before = self._kept.pop(asked, None)
            self._size_bytes += kept.size_bytes - (before.size_bytes if before is not None else 0)
            self._kept[asked] = kept
            while self._size_bytes > self._maximum_bytes:
                _asked, oldest = self._kept.popitem(last=False)
                self._size_bytes -= oldest.size_bytes


def _size_bytes(keys: Iterable[Key]) -> int:
    return sum(_KEY_BYTES + sys.getsizeof(key.value) + _size_bytes(key.items) for key in keys)
