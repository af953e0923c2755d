"""What is done about the worklist without anybody's asking: files are read when they change, items expire."""

import time
from collections.abc import Mapping
from typing import Final

from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from worklist.expiry import expire
from worklist.folders import SETTLE_S, FolderImport
from worklist.performed.expiry import expire_steps
from worklist.watching import Watcher

# Everything is looked at so often, for what the kernel does not tell.
RESCAN_S: Final = 10.0
EXPIRY_S: Final = 60.0
DATABASE_RETRY_S: Final = 5.0


class Housekeeping:
    """The loop of the worklist's process."""

    def __init__(
        self, database: Database, importing: FolderImport, watcher: Watcher, kept_s: Mapping[str, int | None]
    ) -> None:
        self._database = database
        self._importing = importing
        self._watcher = watcher
        self._kept_s = kept_s
        self._opened = False
        self._complained = False
        self._rescan_at = self._expire_at = 0.0
        self._log = get_logger()

    def run(self) -> None:
        """For ever. A database that is away is waited for: it was there at the start."""
        wait_s = 0.0
        while True:
            try:
                wait_s = self._once(wait_s)
                self._complained = False
            except DatabaseError as error:
                if not self._complained:
                    self._log.error("the worklist's database fails; it is tried again", reason=str(error))
                self._complained = True
                self._rescan_at = 0.0
                wait_s = DATABASE_RETRY_S

    def _once(self, wait_s: float) -> float:
        """Wait for changes, do what is due; return how long to wait next."""
        changed = self._watcher.wait(wait_s) | self._importing.fresh()
        if not self._opened:
            self._importing.open()
            self._opened = True
        now, done = time.monotonic(), True
        if now >= self._rescan_at:
            done = self._importing.look()
            self._rescan_at = time.monotonic() + RESCAN_S
        elif changed:
            done = self._importing.look_at(changed)
        if not done:
            self._rescan_at = 0.0
        if now >= self._expire_at:
            expired = expire(self._database, self._kept_s)
            if expired:
                self._log.info("worklist items expired", items=expired)
            expired = expire_steps(self._database, self._kept_s)
            if expired:
                self._log.info("procedure steps expired", steps=expired)
            self._expire_at = time.monotonic() + EXPIRY_S
        if not done or self._importing.fresh():
            return SETTLE_S
        return max(0.0, min(self._rescan_at, self._expire_at) - time.monotonic())
