"""What a script prints: lines of our log, so many in a second."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from typing import Any, Final

from gateway.log import get_logger

LINES_PER_S: Final = 50
MAXIMUM_LINE_BYTES: Final = 1000


class LogStream(io.BufferedIOBase):
    """Under a standard stream of Python's: writes lines into the log. Those above LINES_PER_S are counted instead."""

    def __init__(self, stream: str, fd: int) -> None:
        """`fd`: the descriptor of this stream, for whoever asks for it. Nothing is written there."""
        self.name = f"<{stream}>"
        self._fd = fd
        self._log = get_logger(stream=stream)
        self._lock = threading.Lock()
        self._line = b""
        self._second = 0
        self._lines = 0

    def writable(self) -> bool:
        """See io.BufferedIOBase."""
        return True

    def fileno(self) -> int:
        """See io.BufferedIOBase: a child process can be given it, and faulthandler."""
        return self._fd

    def write(self, data: Any) -> int:
        """See io.BufferedIOBase."""
        content = bytes(data)
        *lines, rest = content.split(b"\n")
        with self._lock:
            for line in lines:
                self._say(self._line + line)
                self._line = b""
            self._line = (self._line + rest)[:MAXIMUM_LINE_BYTES]
        return len(content)

    def _say(self, line: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._lines > LINES_PER_S:
                self._log.warning("more lines of the script were not written", lines=self._lines - LINES_PER_S)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_PER_S and line.strip():
            self._log.info("script", text=line[:MAXIMUM_LINE_BYTES].decode("utf-8", "replace"))


def redirect() -> None:
    """From now on Python's standard streams are log lines, and what writes to descriptor 1 itself is lost.

    Standard error keeps its descriptor: it is the log's. The module logging is as in a new interpreter.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    streams: Any = sys
    streams.stdout, streams.stderr = _text(LogStream("stdout", 1)), _text(LogStream("stderr", 2))
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
    # Ours, and of no use to whoever wrote the script.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _text(stream: LogStream) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", write_through=True)
