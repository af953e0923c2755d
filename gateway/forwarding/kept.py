"""What was delivered stays in the spool for a time: who has it may lose its last commits when power fails."""

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.options.gateway import ForwardingSection
from gateway.spool import Delivery, Spool

# How many files leave the spool together, and when those that may not yet are asked for again.
LEAVING_COUNT: Final = 100
LEAVING_RETRY_S: Final = 1.0

MayLeave = Callable[[list[Path]], bool]


class KeptDeliveries:
    """The folder `delivered`: each file for a time, all with what scripts made of them under a number of bytes."""

    def __init__(self, spool: Spool, section: ForwardingSection, may_leave: MayLeave | None = None) -> None:
        """`may_leave`: with quotas, whether these files may leave the spool; if not, it is asked again."""
        self._may_leave = may_leave
        self._spool = spool
        spool.clean_notes()
        self._keep_s = section.keep_delivered
        self._keep_bytes = section.keep_delivered_bytes
        self._changed = threading.Condition()
        self._files: deque[tuple[float, Path, int]] = deque()
        self._bytes = 0
        self._stopped = False
        threading.Thread(target=self._run, name="kept-deliveries", daemon=True).start()

    def take_over(self, delivery: Delivery, stored_as: str | None = None) -> None:
        """Move a delivered file here, or delete it when nothing is to be kept. `stored_as`: see Spool."""
        name = delivery.path.name
        size = delivery.size + self._spool.changed_bytes(name)
        if self._may_leave is None and (not self._keep_s or size > self._keep_bytes):
            self._spool.leave(delivery.path)
            return
        if stored_as is not None:
            self._spool.note_stored_as(name, stored_as)
        target = self._spool.delivered / name
        delivery.path.rename(target)
        self._add(target, size)

    def add(self, path: Path, size: int) -> None:
        """A file of this size is in the folder since the last start."""
        self._add(path, size + self._spool.changed_bytes(path.name))

    def _add(self, path: Path, size: int) -> None:
        with self._changed:
            self._files.append((time.monotonic() + self._keep_s, path, size))
            self._bytes += size
            if len(self._files) == 1 or self._bytes > self._keep_bytes:
                self._changed.notify()

    def stop(self) -> None:
        """Leave the rest for the next start."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and not self._is_due():
                    self._changed.wait(max(0.0, self._files[0][0] - time.monotonic()) if self._files else None)
                if self._stopped:
                    return
                leaving: list[tuple[Path, int]] = []
                while self._is_due() and len(leaving) < LEAVING_COUNT:
                    _due, path, size = self._files.popleft()
                    self._bytes -= size
                    leaving.append((path, size))
            if self._may_leave is not None and not self._may_leave([path for path, _size in leaving]):
                self._keep_on(leaving)
                continue
            for path, _size in leaving:
                self._spool.leave(path)

    def _keep_on(self, leaving: list[tuple[Path, int]]) -> None:
        with self._changed:
            self._files.extendleft((time.monotonic(), path, size) for path, size in reversed(leaving))
            self._bytes += sum(size for _path, size in leaving)
            self._changed.wait_for(lambda: self._stopped, LEAVING_RETRY_S)

    def _is_due(self) -> bool:
        return bool(self._files) and (self._bytes > self._keep_bytes or self._files[0][0] <= time.monotonic())
