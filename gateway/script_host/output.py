"""What a script prints: lines of our log, so many in a second."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from typing import Any, Final

from gateway.log import get_logger

LINES_PER_S: Final = 50
MAXIMUM_LINE_CHARACTERS: Final = 1000


class LogStream(io.TextIOBase):
    """A standard stream that writes lines into the log. Those above LINES_PER_S are counted instead."""

    def __init__(self, stream: str) -> None:
        self._log = get_logger(stream=stream)
        self._lock = threading.Lock()
        self._line = ""
        self._second = 0
        self._lines = 0

    def writable(self) -> bool:
        """See io.TextIOBase."""
        return True

    def write(self, text: str) -> int:
        """See io.TextIOBase."""
        *lines, rest = text.split("\n")
        with self._lock:
            for line in lines:
                self._say(self._line + line)
                self._line = ""
            self._line = (self._line + rest)[:MAXIMUM_LINE_CHARACTERS]
        return len(text)

    def _say(self, line: str) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._lines > LINES_PER_S:
                self._log.warning("more lines of the script were not written", lines=self._lines - LINES_PER_S)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_S and line.strip():
            self._log.info("script", text=line[:MAXIMUM_LINE_CHARACTERS])


def redirect() -> None:
    """From now on Python's standard streams are log lines, and what writes to descriptor 1 itself is lost.

    Standard error keeps its descriptor: it is the log's.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    streams: Any = sys
    streams.stdout, streams.stderr = LogStream("stdout"), LogStream("stderr")
