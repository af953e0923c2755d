"""Windows over the bytes of a data set, from a file or inflated, for a reader that goes forwards.

A window is a piece of the data set from an asked position on. It is followed by `PADDING` at the end of
the data, so that a whole element header can be unpacked there without asking first how much is left.
"""

from __future__ import annotations

import os
import zlib
from typing import Final, Protocol

HEADER_BYTES: Final = 12  # PS3.5 7.1.2: the longest header, of an explicit VR with a 32-bit length
PADDING: Final = bytes(HEADER_BYTES)

_FIRST_WINDOW_BYTES: Final = 8 << 10
_SPARSE_WINDOW_BYTES: Final = 4 << 10
_LARGEST_WINDOW_BYTES: Final = 64 << 10


class StructureError(Exception):
    """A data set whose structure is broken, or that exceeds a limit.

    `reason` is ASCII of at most 64 characters, fit for an Error Comment (0000,0902). `tag` is the element
    at fault (group << 16 | element), or None.
    """

    def __init__(self, reason: str, tag: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tag = tag


class UnskippableError(StructureError):
    """What no doubt about an element's meaning excuses: a limit exceeded, data cut short."""


class Window(Protocol):
    """The bytes of a data set, read forwards."""

    end: int
    """Length of the data set in bytes; the greatest permitted length while it is unknown."""

    def read(self, position: int) -> bytes:
        """The bytes from `position` on: at least 2 KiB of them, or up to the end and then `PADDING`.

        `position` must not be less than at the call before. Raises StructureError.
        """


class FileWindow:
    """A data set as it stands in a file."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self.end = length
        self._fd = fd
        self._offset = offset
        self._size = _FIRST_WINDOW_BYTES
        self._read_up_to = 0

    def read(self, position: int) -> bytes:
        size = self._size
        if position > self._read_up_to:  # a value was skipped: the next one may be as large
            size = _SPARSE_WINDOW_BYTES
        elif position:
            size = min(2 * size, _LARGEST_WINDOW_BYTES)
        self._size = size
        wanted = min(size, self.end - position)
        data = os.pread(self._fd, wanted, self._offset + position) if wanted else b""
        if len(data) != wanted:
            raise UnskippableError("data set is shorter than announced")
        self._read_up_to = position + wanted
        return data + PADDING if self._read_up_to == self.end else data


class InflatedWindow:
    """A data set of Deflated Explicit VR Little Endian (PS3.5 A.5), inflated piece by piece."""

    def __init__(self, fd: int, offset: int, length: int, maximum_inflated_bytes: int) -> None:
        self.end = maximum_inflated_bytes
        self._maximum_inflated_bytes = maximum_inflated_bytes
        self._fd = fd
        self._next_input = offset
        self._end_of_input = offset + length
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: RFC 1951, without zlib's header
        self._pieces = b""
        self._start = 0  # position of the first byte of _pieces

    def read(self, position: int) -> bytes:
        pieces = self._pieces[position - self._start :]
        inflated = self._start + len(self._pieces)
        while inflated < position + _LARGEST_WINDOW_BYTES and not self._inflater.eof:
            piece = self._inflate()
            inflated += len(piece)
            if inflated > self._maximum_inflated_bytes:
                raise UnskippableError(f"inflates to more than {self._maximum_inflated_bytes} bytes")
            if inflated > position:
                pieces += piece[max(0, position - (inflated - len(piece))) :]
        if self._inflater.eof:
            self.end = inflated
            if position > inflated:
                raise UnskippableError("data set ends within a value")
        self._pieces = pieces
        self._start = position
        return pieces + PADDING if self._inflater.eof else pieces

    def _inflate(self) -> bytes:
        compressed = self._inflater.unconsumed_tail
        if not compressed:
            wanted = min(_LARGEST_WINDOW_BYTES, self._end_of_input - self._next_input)
            compressed = os.pread(self._fd, wanted, self._next_input) if wanted else b""
            self._next_input += len(compressed)
        try:
            piece = self._inflater.decompress(compressed, _LARGEST_WINDOW_BYTES)
        except zlib.error as error:
            raise UnskippableError("deflate stream is corrupt") from error
        if not (piece or compressed or self._inflater.eof):
            raise UnskippableError("deflate stream is truncated")
        return piece
