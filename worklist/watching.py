"""Hears of changed files from the kernel, as far as it tells: of network file systems it does not know everything."""

import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from watchfiles import watch

from gateway.log import get_logger

# Changes of one moment are told together.
STEP_MS: Final = 20
DEBOUNCE_MS: Final = 200
# How often to see whether a folder that was not there is there now, or another one under its name.
RENEW_S: Final = 10.0


class Watcher:
    """The paths that change in the folders, from a thread that waits for inotify."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._changes: queue.SimpleQueue[set[Path]] = queue.SimpleQueue()
        self._log = get_logger()
        if folders:
            threading.Thread(target=self._run, name="watcher", daemon=True).start()

    def wait(self, timeout_s: float) -> set[Path]:
        """What has changed; nothing when time runs out."""
        try:
            return self._changes.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return set()

    def _run(self) -> None:
        complained = False
        while True:
            try:
                self._watch()
            except (OSError, RuntimeError) as error:  # no inotify here, or its limit is reached
                if not complained:
                    self._log.warning("changes of worklist files are noticed late", reason=str(error))
                complained = True
            time.sleep(RENEW_S)

    def _watch(self) -> None:
        """Tell of changes until the folders are others."""
        watched = self._identities()
        if not watched:
            return
        for changes in watch(
            *watched,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            rust_timeout=int(RENEW_S * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            if changes:
                self._changes.put({Path(path) for _kind, path in changes})
            if self._identities() != watched:
                return

    def _identities(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for folder in self._folders:
            try:
                status = folder.stat()
            except OSError:
                continue
            found[folder] = status.st_dev, status.st_ino
        return found
