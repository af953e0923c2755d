"""strace(1) on one thread or one process of the gateway: what it asks of the kernel, and halts on the way.

A halt holds the thread at the entry of a system call that has not been executed yet. If the process is killed
then, it never is: so a test chooses to the system call where an instance's life ends.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from tests.support.processes import wait_until

ATTACH_TIMEOUT_S: Final = 30
REACH_TIMEOUT_S: Final = 30
HALT_S: Final = 120


class Trace:
    """strace attached to the thread `tid` of the process `pid`, or to all its threads if none is given.

    `calls` are recorded, with the path or the addresses of each descriptor. `halt`: a system call and the
    how manieth of it (counted by thread, from the attachment) is never executed before `release`.
    """

    def __init__(
        self,
        pid: int,
        log: Path,
        calls: list[str],
        *,
        tid: int | None = None,
        halt: tuple[str, int] | None = None,
    ) -> None:
        self.pid = pid
        self._log = log
        self._messages = log.with_suffix(".messages")
        self._process: subprocess.Popen[bytes] | None = None
        self._command = ["strace", "-yy", "-s", "16", "-o", str(log), "-e", "trace=" + ",".join(calls)]
        self._command += ["-p", str(tid)] if tid is not None else ["-f", "-p", str(pid)]
        if halt is not None:
            self._command += ["-e", f"inject={halt[0]}:delay_enter={HALT_S}s:when={halt[1]}"]

    def __enter__(self) -> Trace:
        with self._messages.open("wb") as messages:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=messages)
        wait_until(
            lambda: "attached" in self._messages.read_text(),
            ATTACH_TIMEOUT_S,
            lambda: f"strace does not attach: {self._messages.read_text()}",
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Detaches: the thread, if it lives, goes on."""
        if self._process is not None:
            # By SIGKILL: strace waits in vain for the end of its delay when the thread has been killed in it.
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait_for(self, pattern: str) -> None:
        """Waits until a recorded call, finished or halted at its entry, matches the regular expression."""
        wait_until(
            lambda: re.search(pattern, self._log.read_text(errors="replace")),
            REACH_TIMEOUT_S,
            lambda: f"{pattern} was not reached:\n{self._log.read_text(errors='replace')}",
        )

    def lines(self) -> list[str]:
        """The recorded calls of a single thread, in their order."""
        return self._log.read_text(errors="replace").splitlines()
