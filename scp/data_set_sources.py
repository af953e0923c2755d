"""Encoded data sets to send, as streams: no more of them is in memory than is on its way."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from scp.association_errors import DataSetUnavailable


class EncodedDataSet(Protocol):
    """A data set in the transfer syntax of its presentation context, read once from its begin to its end."""

    def fill(self, views: Sequence[memoryview]) -> tuple[int, bool]:
        """Fill `views` one after the other; return the number of bytes and whether the data set ends with them.

        Fewer bytes than there is room for come only at the end. Raises DataSetUnavailable.
        """


class FileRange:
    """A part of an open file, such as the data set behind the file meta information."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self._fd = fd
        self._position = offset
        self._end = offset + length

    def fill(self, views: Sequence[memoryview]) -> tuple[int, bool]:
        """See EncodedDataSet. One system call, unless the kernel reads less."""
        total = 0
        pending = _limited(views, self._end - self._position)
        while pending:
            try:
                count = os.preadv(self._fd, pending, self._position)
            except OSError as error:
                raise DataSetUnavailable(f"the file cannot be read: {error.strerror or error}") from error
            if not count:
                raise DataSetUnavailable(f"the file ends {self._end - self._position} bytes early")
            self._position += count
            total += count
            pending = _behind(pending, count)
        return total, self._position == self._end


class Chunks:
    """Pieces of any size, such as the body of an HTTP response; `length`: of all, if it is known.

    What the iterator raises is passed on.
    """

    def __init__(self, chunks: Iterable[bytes | memoryview], length: int | None = None) -> None:
        self._chunks: Iterator[bytes | memoryview] = iter(chunks)
        self._missing = length
        # A chunk is held in advance, to know of the last fragment that it is the last; it is read up to the position.
        self._chunk = memoryview(b"")
        self._position = 0

    def fill(self, views: Sequence[memoryview]) -> tuple[int, bool]:
        """See EncodedDataSet."""
        total = 0
        for view in views:
            size = len(view)
            end = self._position + size
            if end <= len(self._chunk):  # nearly always, and fragments are many
                view[:] = self._chunk[self._position : end]
                self._position = end
                total += size
                continue
            filled = self._fill_from_several(view)
            total += filled
            if filled < size:
                break
        return total, not self._has_more()

    def _fill_from_several(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view) and self._has_more():
            piece = self._chunk[self._position : self._position + len(view) - filled]
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
            self._position += len(piece)
        return filled

    def _has_more(self) -> bool:
        while self._position == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                if self._missing:
                    raise DataSetUnavailable(f"the data set ends {self._missing} bytes early")
                return False
            if self._missing is not None:
                self._missing -= len(chunk)
                if self._missing < 0:
                    raise DataSetUnavailable("the data set is longer than announced")
            self._chunk, self._position = memoryview(chunk), 0
        return True


def _limited(views: Sequence[memoryview], count: int) -> list[memoryview]:
    """The first `count` bytes of `views`."""
    limited = []
    for view in views:
        if count <= 0:
            break
        limited.append(view[:count])
        count -= len(view)
    return limited


def _behind(views: list[memoryview], count: int) -> list[memoryview]:
    """`views` without their first `count` bytes."""
    for number, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[number + 1 :]]
        count -= len(view)
    return []
