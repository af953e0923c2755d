"""Calls that are under way: their turns, their deadlines, and what becomes of one that does not end.

A call that is late is interrupted by an exception in its thread. One that this does not end, because it waits in
something that is not Python, is left behind: the next call of its kind runs on another thread, and the process ends
as soon as nobody else waits for an answer of it. A call that keeps the interpreter lock ends the process by itself
(faulthandler's thread does not need that lock).
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gateway.log import STANDARD_ERROR_FD, get_logger
from gateway.options.script import ScriptOptions
from gateway.script_host.kinds import Kind

TICK_S: Final = 0.5
# The interpreter lock cannot be had for longer than any call may take: no callback of any kind can run.
MINIMUM_LOCK_TIMEOUT_S: Final = 4.0
INTERRUPT_GRACE_S: Final = 2.0
FAILURE_LOG_INTERVAL_S: Final = 10.0
# Threads that are left behind while a move keeps the process from being replaced.
MAXIMUM_LEFT_BEHIND: Final = 16
# EX_TEMPFAIL: the supervisor starts it again.
EXIT_REPLACE: Final = 75


class TooLate(BaseException):
    """Raised in the thread of a call that is late. No Exception: a script's own handlers let it pass."""


class NoTurn(Exception):
    """Calls of the same kind took all the time that this one had."""


@dataclass(eq=False)
class _Running:
    kind: Kind
    deadline: float
    thread: int = field(default_factory=threading.get_ident)
    is_interrupted: bool = False
    is_left_behind: bool = False


_call = threading.local()


def remaining_s(otherwise: float) -> float:
    """How long the call may still take that runs on this thread; `otherwise` if none does."""
    deadline = getattr(_call, "deadline", None)
    return otherwise if deadline is None else max(0.01, deadline - time.monotonic())


class Turns:
    """Who may call the script, and for how long."""

    def __init__(self, options: ScriptOptions) -> None:
        shortest_s = min(kind.limit_s(options) for kind in Kind)
        self._lock_timeout_s = max(MINIMUM_LOCK_TIMEOUT_S, shortest_s) + INTERRUPT_GRACE_S
        self._guard = threading.Lock()
        self._locks = {kind: threading.Lock() for kind in Kind if kind.is_serial}
        self._running: set[_Running] = set()
        self._conversations = 0
        self._is_to_end = ""
        self._log_again_at: dict[Kind, float] = {}
        self._log = get_logger()

    @contextlib.contextmanager
    def turn(self, kind: Kind, limit_s: float) -> Iterator[None]:
        """Run the body as a call of `kind`, its wait for its turn included in `limit_s`. Raises NoTurn, TooLate."""
        deadline = time.monotonic() + limit_s
        lock = self._locks.get(kind)
        if lock is not None and not lock.acquire(timeout=limit_s):
            raise NoTurn(f"other calls of the {kind.text} callback took {limit_s:g} s")
        running = _Running(kind, deadline)
        with self._guard:
            self._running.add(running)
        _call.deadline = deadline
        try:
            yield
        finally:
            try:
                self._finish(running, lock)
            except TooLate:  # it was on its way when the callback ended
                self._finish(running, lock)

    def _finish(self, running: _Running, lock: threading.Lock | None) -> None:
        """The call is over. May be called again: then it does what was not done yet."""
        _call.deadline = None
        with self._guard:
            is_over = running not in self._running
            self._running.discard(running)
            if running.is_interrupted:
                # What is still on its way to this call must not reach the next one.
                _set_exception(running.thread, None)
            if lock is not None and not is_over and not running.is_left_behind:
                lock.release()

    def begin_conversation(self) -> None:
        """The script is about to be called: until the last answer is sent the process is not replaced."""
        with self._guard:
            self._conversations += 1

    def end_conversation(self) -> None:
        """The last answer is sent, or nobody waits for it any more."""
        with self._guard:
            self._conversations -= 1
        self._end_if_idle()

    def end_soon(self, reason: str) -> None:
        """End the process, to be started again, as soon as no conversation is under way."""
        with self._guard:
            is_new, self._is_to_end = not self._is_to_end, self._is_to_end or reason
        if is_new:
            self._log.warning("the script is to be started again when its calls are over", reason=reason)
        self._end_if_idle()

    def log_failure(self, kind: Kind, error: BaseException) -> None:
        """Write where a callback failed, not for each of thousands: those who called know that it did."""
        now = time.monotonic()
        with self._guard:
            if now < self._log_again_at.get(kind, 0.0):
                return
            self._log_again_at[kind] = now + FAILURE_LOG_INTERVAL_S
        self._log.error("a callback of the script failed", callback=kind.text, exc_info=error)

    def watch(self) -> None:
        """Look after the calls, for ever."""
        while True:
            faulthandler.dump_traceback_later(self._lock_timeout_s, exit=True, file=STANDARD_ERROR_FD)
            time.sleep(TICK_S)
            now = time.monotonic()
            with self._guard:
                late = [one for one in self._running if now > one.deadline and not one.is_left_behind]
                for one in late:
                    self._hurry(one, now)
            if late:
                self._end_if_idle()

    def _hurry(self, running: _Running, now: float) -> None:
        if not running.is_interrupted:
            running.is_interrupted = True
            _set_exception(running.thread, TooLate)
        elif now > running.deadline + INTERRUPT_GRACE_S:
            running.is_left_behind = True
            if running.kind in self._locks:
                self._locks[running.kind].release()  # it is the next one's turn
            self._is_to_end = f"a {running.kind.text} callback does not end"
            self._log.error("a callback of the script does not end and is left behind", callback=running.kind.text)

    def _end_if_idle(self) -> None:
        with self._guard:
            left_behind = sum(one.is_left_behind for one in self._running)
            if not self._is_to_end:
                return
            if self._conversations > left_behind and left_behind < MAXIMUM_LEFT_BEHIND:
                return
            self._log.error("the script is started again", reason=self._is_to_end)
            os._exit(EXIT_REPLACE)


def _set_exception(thread: int, exception: type[BaseException] | None) -> None:
    argument = ctypes.py_object(exception) if exception is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), argument)
