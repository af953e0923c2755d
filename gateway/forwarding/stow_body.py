"""Instances as the body of a STOW-RS request (PS3.18 10.5.1, RFC 2387): streamed from the spool's files."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from gateway.dicom.part10 import read_meta

# Each piece must be sent within the timeout for connecting (urllib3): on a slow line, a small one.
PIECE_BYTES: Final = 64 * 1024


class SpoolFileChanged(Exception):
    """A file that is being sent got shorter. Not an OSError: those mean the connection."""


@dataclass(frozen=True, slots=True)
class _Part:
    fd: int
    head: bytes
    offset: int
    size: int


class StowBody:
    """The body of one request. Holds its files open; a context manager.

    What the server gets is the data set as it was received, after file meta information that does not tell the
    addresses of peers: they are of no use elsewhere.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises OSError, Part10Error."""
        boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        self._end = f"--{boundary}--\r\n".encode("ascii")
        self._files = ExitStack()
        try:
            head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
            self._parts = [self._part(path, head) for path in paths]
        except BaseException:
            self._files.close()
            raise
        self.size_bytes = sum(len(part.head) + part.size + 2 for part in self._parts) + len(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._files.close()

    def pieces(self) -> Iterator[bytes]:
        """The body from its begin. Raises SpoolFileChanged."""
        for part in self._parts:
            piece, position, end = part.head, part.offset, part.offset + part.size
            while position < end:
                read = os.pread(part.fd, min(PIECE_BYTES, end - position), position)
                if not read:
                    raise SpoolFileChanged("a file of the spool got shorter while it was sent")
                yield piece + read if piece else read
                piece, position = b"", position + len(read)
            yield piece + b"\r\n"
        yield self._end

    def _part(self, path: Path, head: bytes) -> _Part:
        fd = self._files.enter_context(path.open("rb")).fileno()
        meta, offset = read_meta(fd)
        told = replace(meta, sending_address="", receiving_address="").encode()
        return _Part(fd, head + told, offset, os.fstat(fd).st_size - offset)
