"""A thread that waits for one side hears the other meanwhile: a peer that no longer wants what an archive is asked for.

Whoever answers a peer says with `listening` how it is listened to; whatever may take long, waits or loops with the
functions below. Without a listener, as in most threads, they only wait.
"""

from __future__ import annotations

import queue
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")

LISTEN_INTERVAL_S: Final = 0.25


class Unwanted(Exception):
    """Nobody wants the result any more: raised by a listener, through all that works on it."""


class _Listener(threading.local):
    listen: Callable[[], None] | None = None
    due: float = 0.0


class _Result(Protocol):
    """A concurrent.futures.Future."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it."""


_listener = _Listener()


@contextmanager
def listening(listen: Callable[[], None]) -> Iterator[None]:
    """Have `listen` called in this thread about every LISTEN_INTERVAL_S while it works; it may raise Unwanted."""
    _listener.listen, _listener.due = listen, time.monotonic() + LISTEN_INTERVAL_S
    try:
        yield
    finally:
        _listener.listen = None


def listen() -> None:
    """Call the listener of this thread, if there is one and it is due. Raises Unwanted."""
    heard = _listener.listen
    if heard is None or time.monotonic() < _listener.due:
        return
    # what the peer says may make us wait for something else, and is not to be interrupted
    _listener.listen = None
    try:
        heard()
    finally:
        _listener.listen = heard
        _listener.due = time.monotonic() + LISTEN_INTERVAL_S


def until_readable(connection: Any, timeout_s: float | None) -> None:
    """Return when the socket `connection` has something to read, at once if nobody listens, or after `timeout_s`."""
    if _listener.listen is None or getattr(connection, "pending", int)():  # TLS has read it already
        return
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while not poll.poll(_slice_s(deadline) * 1000):
        listen()
        if deadline is not None and time.monotonic() >= deadline:
            return


def get(answers: queue.SimpleQueue[T], timeout_s: float) -> T:
    """Return the next of `answers`. Raises queue.Empty after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while _listener.listen is not None and time.monotonic() < deadline:
        with suppress(queue.Empty):
            return answers.get(timeout=_slice_s(deadline))
        listen()
    return answers.get(timeout=max(0.0, deadline - time.monotonic()))


def wait_for(changed: threading.Condition, predicate: Callable[[], T], timeout_s: float) -> T:
    """As `changed.wait_for`, by a thread that does not hold `changed`, nor does it when this returns."""
    deadline = time.monotonic() + timeout_s
    while True:
        with changed:
            slice_s = max(0.0, deadline - time.monotonic()) if _listener.listen is None else _slice_s(deadline)
            value = changed.wait_for(predicate, slice_s)
        if value or time.monotonic() >= deadline:
            return value
        listen()


def pause(ends: threading.Event, timeout_s: float) -> None:
    """As `ends.wait`."""
    deadline = time.monotonic() + timeout_s
    while _listener.listen is not None and time.monotonic() < deadline and not ends.wait(_slice_s(deadline)):
        listen()
    ends.wait(max(0.0, deadline - time.monotonic()))


def result(future: _Result) -> Any:
    """As `future.result()`."""
    while _listener.listen is not None:
        with suppress(NotDone):
            return future.result(LISTEN_INTERVAL_S)
        listen()
    return future.result()


def results(executor: Executor, function: Callable[[Any], T], arguments: Iterable[Any]) -> list[T]:
    """As `executor.map`, of which what has not begun is given up when this fails."""
    futures = [executor.submit(function, argument) for argument in arguments]
    try:
        return [result(future) for future in futures]
    finally:
        for future in futures:
            future.cancel()


def _slice_s(deadline: float | None) -> float:
    if deadline is None:
        return LISTEN_INTERVAL_S
    return max(0.0, min(LISTEN_INTERVAL_S, deadline - time.monotonic()))
