"""multipart/related (RFC 2387, RFC 2046 5.1) as a stream: one part after the other, nothing of it held whole.

Taken as well: a body without a boundary in its Content-Type, one that is no multipart but a DICOM file, parts without
headers, lines that end without a carriage return.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Final

from gateway.dicomweb.errors import BadAnswer

# RFC 2046 5.1.1 has 70.
MAXIMUM_BOUNDARY_BYTES: Final = 256
MAXIMUM_HEADERS_BYTES: Final = 16 * 1024
# PS3.10 7.1: a preamble, then this.
_PREAMBLE_BYTES: Final = 128
_PREFIX: Final = b"DICM"
_SNIFFED_BYTES: Final = _PREAMBLE_BYTES + len(_PREFIX)
# What is thrown away before the first boundary.
MAXIMUM_PROLOGUE_BYTES: Final = 64 * 1024


class Multipart:
    """The parts of a body. `next_part`, then `read` until there is no more of it; a part need not be read.

    Raises BadAnswer, and what `pieces` raises.
    """

    def __init__(self, pieces: Iterator[bytes], headers: Mapping[str, str]) -> None:
        self._pieces = pieces
        # What is not read yet: the buffer from the position on. Nothing is moved, as most of a buffer is one part's.
        self._buffer = b""
        self._position = 0
        self._is_ended = False
        self._boundary = _boundary_of(headers.get("Content-Type", ""))
        # What stands before each further part; None: the body is one part.
        self._delimiter: bytes | None = None
        self._newline = b"\r\n"
        self._begun = False
        self._in_part = False
        self._is_closed = False

    def next_part(self) -> bool:
        """Go to the next part; False when there is none."""
        if not self._begun:
            self._begun = True
            return self._begin()
        while self._in_part:
            self.read()
        if self._is_closed or self._delimiter is None:
            return False
        return self._enter()

    def read(self) -> bytes | memoryview:
        """Some bytes of the part, b"" at its end. Raises BadAnswer when the body ends within it."""
        delimiter = self._delimiter
        while self._in_part:
            if delimiter is None:
                if self._left or self._fill():
                    return self._take(len(self._buffer))
                self._in_part = False
                break
            found = self._buffer.find(delimiter, self._position)
            if found >= 0:
                piece = self._take(found)
                self._position += len(delimiter)
                self._in_part = False
                return piece
            end = self._before_possible(delimiter)
            if end > self._position:
                return self._take(end)
            if not self._fill():
                raise BadAnswer("the answer ends within a part")
        return b""

    @property
    def _left(self) -> int:
        return len(self._buffer) - self._position

    def _take(self, end: int) -> bytes | memoryview:
        begin, self._position = self._position, end
        return self._buffer if end - begin == len(self._buffer) else memoryview(self._buffer)[begin:end]

    def _before_possible(self, delimiter: bytes) -> int:
        """Where the buffer ends, or where its last bytes may be the begin of the delimiter."""
        start = max(self._position, len(self._buffer) - len(delimiter) + 1)
        while (start := self._buffer.find(delimiter[:1], start)) >= 0:
            if delimiter.startswith(self._buffer[start:]):
                return start
            start += 1
        return len(self._buffer)

    def _begin(self) -> bool:
        """Find out what the body is."""
        self._need(_SNIFFED_BYTES)
        if not self._buffer:
            return False
        if self._is_file() and not self._buffer.startswith(b"--"):
            self._in_part = True  # a DICOM file, whatever its type is called
            return True
        marker = b"--" + (self._boundary or b"")
        start = 0
        while True:
            start = self._buffer.find(marker, start)
            # a boundary stands at the begin of a line
            if start == 0 or (start > 0 and self._buffer[start - 1 : start] == b"\n"):
                break
            if start > 0:
                start += 2
                continue
            if len(self._buffer) > MAXIMUM_PROLOGUE_BYTES or not self._fill():
                raise BadAnswer("no DICOM file and no multipart")
            start = 0
        self._position = start
        self._need(len(marker) + 2)
        if self._boundary is not None and self._buffer.startswith(marker + b"--", self._position):
            return False  # no part at all
        line = self._line(MAXIMUM_BOUNDARY_BYTES + 4)
        self._delimiter = self._newline + b"--" + (self._boundary or line[2:].rstrip(b" \t"))
        if self._delimiter == self._newline + b"--":
            raise BadAnswer("a boundary that is none")
        return self._read_headers()

    def _enter(self) -> bool:
        """After a delimiter: the end of all, or the headers of the next part."""
        self._need(2)
        if self._buffer.startswith(b"--", self._position):
            self._is_closed = True
            return False
        self._line(MAXIMUM_BOUNDARY_BYTES)
        return self._read_headers()

    def _read_headers(self) -> bool:
        """Skip them: a DICOM file says itself what it is."""
        self._in_part = True
        self._need(_SNIFFED_BYTES)
        if self._is_file():
            return True
        left = MAXIMUM_HEADERS_BYTES
        while line := self._line(left):
            left -= len(line)
        return True

    def _is_file(self) -> bool:
        return self._buffer.startswith(_PREFIX, self._position + _PREAMBLE_BYTES)

    def _line(self, maximum_bytes: int) -> bytes:
        """One line, without its end."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", self._position + searched)
            if end >= 0:
                break
            searched = self._left
            if searched > maximum_bytes or not self._fill():
                raise BadAnswer("a part without an end of its headers")
        line = self._buffer[self._position : end]
        self._position = end + 1
        if not line.endswith(b"\r"):
            self._newline = b"\n"
        if len(line) > maximum_bytes:
            raise BadAnswer("a part whose headers are too long")
        return line.removesuffix(b"\r")

    def _need(self, count: int) -> None:
        """Have so many bytes in the buffer, if there are so many."""
        while self._left < count and self._fill():
            pass

    def _fill(self) -> bool:
        piece = b"" if self._is_ended else next(self._pieces, b"")
        if not piece:
            self._is_ended = True
            return False
        self._buffer = self._buffer[self._position :] + piece if self._left else piece
        self._position = 0
        return True


def _boundary_of(content_type: str) -> bytes | None:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if not boundary:
        return None
    if len(boundary) > MAXIMUM_BOUNDARY_BYTES or not boundary.isascii():
        raise BadAnswer("a boundary that is none")
    return boundary.encode("ascii")
