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
        self._buffer = b""
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

    def read(self) -> bytes:
        """Some bytes of the part, b"" at its end. Raises BadAnswer when the body ends within it."""
        while self._in_part:
            if self._delimiter is None:
                if self._buffer or self._fill():
                    piece, self._buffer = self._buffer, b""
                    return piece
                self._in_part = False
                break
            found = self._buffer.find(self._delimiter)
            if found >= 0:
                piece, self._buffer = self._buffer[:found], self._buffer[found + len(self._delimiter) :]
                self._in_part = False
                return piece
            # the last bytes may be the begin of the delimiter
            safe = len(self._buffer) - len(self._delimiter) + 1
            if safe > 0:
                piece, self._buffer = self._buffer[:safe], self._buffer[safe:]
                return piece
            if not self._fill():
                raise BadAnswer("the answer ends within a part")
        return b""

    def _begin(self) -> bool:
        """Find out what the body is."""
        self._need(_SNIFFED_BYTES)
        if not self._buffer:
            return False
        if self._buffer[_PREAMBLE_BYTES:_SNIFFED_BYTES] == _PREFIX and not self._buffer.startswith(b"--"):
            self._in_part = True  # a DICOM file, whatever its type is called
            return True
        marker = b"--" + (self._boundary or b"")
        while True:
            start = self._buffer.find(marker)
            # a boundary stands at the begin of a line
            if start >= 0 and (start == 0 or self._buffer[start - 1 : start] == b"\n"):
                break
            if start >= 0:
                self._buffer = self._buffer[start + 2 :]
                continue
            if len(self._buffer) > MAXIMUM_PROLOGUE_BYTES or not self._fill():
                raise BadAnswer("no DICOM file and no multipart")
        self._buffer = self._buffer[start:]
        self._need(len(marker) + 2)
        if self._boundary is not None and self._buffer.startswith(marker + b"--"):
            return False  # no part at all
        line = self._line(MAXIMUM_BOUNDARY_BYTES + 4)
        self._delimiter = self._newline + b"--" + (self._boundary or line[2:].rstrip(b" \t"))
        if self._delimiter == self._newline + b"--":
            raise BadAnswer("a boundary that is none")
        return self._read_headers()

    def _enter(self) -> bool:
        """After a delimiter: the end of all, or the headers of the next part."""
        self._need(2)
        if self._buffer.startswith(b"--"):
            self._is_closed = True
            return False
        self._line(MAXIMUM_BOUNDARY_BYTES)
        return self._read_headers()

    def _read_headers(self) -> bool:
        """Skip them: a DICOM file says itself what it is."""
        self._in_part = True
        self._need(_SNIFFED_BYTES)
        if self._buffer[_PREAMBLE_BYTES:_SNIFFED_BYTES] == _PREFIX:
            return True
        left = MAXIMUM_HEADERS_BYTES
        while line := self._line(left):
            left -= len(line)
        return True

    def _line(self, maximum_bytes: int) -> bytes:
        """One line, without its end."""
        searched = 0
        while True:
            end = self._buffer.find(b"\n", searched)
            if end >= 0:
                break
            searched = len(self._buffer)
            if searched > maximum_bytes or not self._fill():
                raise BadAnswer("a part without an end of its headers")
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        if not line.endswith(b"\r"):
            self._newline = b"\n"
        if len(line) > maximum_bytes:
            raise BadAnswer("a part whose headers are too long")
        return line.removesuffix(b"\r")

    def _need(self, count: int) -> None:
        """Have so many bytes in the buffer, if there are so many."""
        while len(self._buffer) < count and self._fill():
            pass

    def _fill(self) -> bool:
        piece = b"" if self._is_ended else next(self._pieces, b"")
        if not piece:
            self._is_ended = True
            return False
        self._buffer = self._buffer + piece if self._buffer else piece
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
