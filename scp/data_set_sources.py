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
        # A chunk is held in advance, to know of the last fragment that it is the last.
        self._chunk = memoryview(b"")

    def fill(self, views: Sequence[memoryview]) -> tuple[int, bool]:
        """See EncodedDataSet."""
        total = 0
        for view in views:
            position = 0
            while position < len(view) and self._has_more():
                piece = self._chunk[: len(view) - position]
                view[position : position + len(piece)] = piece
                position += len(piece)
                self._chunk = self._chunk[len(piece) :]
            total += position
            if position < len(view):
                break
        return total, not self._has_more()

    def _has_more(self) -> bool:
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                if self._missing:
                    raise DataSetUnavailable(f"the data set ends {self._missing} bytes early")
                return False
            if self._missing is not None:
                self._missing -= len(chunk)
                if self._missing < 0:
                    raise DataSetUnavailable("the data set is longer than announced")
            self._chunk = memoryview(chunk)
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
