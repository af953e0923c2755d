"""The thread that performs the sub-operations of one C-MOVE, so that its requester is listened to meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.archive.interface import ArchiveUnavailable, TooBroad
from gateway.moves.interface import CreateDriver, MoveDriver, MoveRequest
from gateway.moves.script_driver import NoTarget
from gateway.script_host.client import ScriptFailed, ScriptUnavailable
from scp.destination_target import DestinationTarget
from scp.retrieval import Tally, uncounted
from scp.statuses import Answer, Status

# A sub-operation that is under way when the move is to end may be finished within this time.
GRACE_S: Final = 2.0


class Signal:
    """Wakes a thread that polls `descriptor`. May be set until it is closed, and afterwards."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._is_closed = False

    def set(self) -> None:
        """Wake the other thread."""
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self.descriptor, 1)

    def clear(self) -> None:
        """Only what comes from now on is to wake."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._is_closed = True
            os.close(self.descriptor)


class Mover(threading.Thread):
    """One move: creates the driver, applies it as often as it says, frees it, and writes the line in the log.

    `answer` is set at the end; `tally.total` once the driver has said how much there is to do.
    """

    def __init__(
        self,
        request: MoveRequest,
        create: CreateDriver,
        target: DestinationTarget | NoTarget,
        log: Any,
        on_news: Callable[[], None],
    ) -> None:
        """`on_news` is called when the total is known, and at the end."""
        super().__init__(name=f"move-{request.originator_ae_title}", daemon=True)
        self.tally = Tally()
        self.answer: Answer | None = None
        self._request = request
        self._create = create
        self._target = target
        self._log = log
        self._on_news = on_news
        self._stop: Answer | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """See threading.Thread."""
        started = time.monotonic()
        answer = Answer(Status.RETRIEVE_UNABLE, "error of the gateway")
        try:
            answer = self._perform()
        except Exception:  # noqa: BLE001 - the outermost boundary of this thread
            self._log.exception("C-MOVE ended by an error of the gateway or of a driver")
        finally:
            self.tally.log(self._log, "C-MOVE", answer, seconds=round(time.monotonic() - started, 3))
            self.answer = answer
            self._ended.set()
            self._on_news()

    def stop(self, answer: Answer) -> None:
        """Begin no further sub-operation; end with `answer`. Called by another thread, which goes on at once."""
        if self._stop is None:
            self._stop = answer

    def end_soon(self) -> None:
        """After `stop`: wait for what is under way, not for long, then break it off and wait for the end of that."""
        if not self._ended.wait(GRACE_S):
            self._target.interrupt()
            self._ended.wait(GRACE_S)

    def _perform(self) -> Answer:
        try:
            driver = self._create(self._request, self._target)
        except (ArchiveUnavailable, TooBroad) as error:
            return uncounted(error)
        except ScriptUnavailable as error:
            return Answer(Status.RETRIEVE_CANNOT_PERFORM, str(error))
        except ScriptFailed as error:
            return Answer(Status.RETRIEVE_UNABLE, str(error))
        try:
            return self._apply(driver)
        finally:
            try:
                driver.free()
            finally:
                self._target.close()

    def _apply(self, driver: MoveDriver) -> Answer:
        tally = self.tally
        tally.total = driver.size()
        self._on_news()
        while not tally.is_complete:
            if self._stop is not None:
                return self._stop
            done = driver.apply()
            tally.add(done)
            if done.ends_move:
                return Answer(Status.RETRIEVE_WARNING, done.reason)
        return tally.answer()


def running_movers() -> list[Mover]:
    """Moves of this process whose threads run."""
    return [thread for thread in threading.enumerate() if isinstance(thread, Mover)]
