"""One answer of WADO-RS (PS3.18 10.4) on its way: a thread receives it, another takes DICOM files out of it.

What is in between is bounded: a receiver that is slow makes the server wait, never the memory grow.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.archive.interface import ArchiveUnavailable, EncodedInstance
from gateway.dicom.part10 import MAXIMUM_META_BYTES
from gateway.dicomweb.client import Answer, DicomWebClient, Request
from gateway.dicomweb.errors import DicomWebError, HttpStatusError, ServerUnreachable
from gateway.dicomweb.multipart import Multipart

# Twice as much is held: what was received, and what is taken apart.
QUEUED_BYTES: Final = 4 * 1024 * 1024
# PS3.18 8.7.3.5.2: any, that is as stored. A request without it means Explicit VR Little Endian (8.7.3.5).
AS_STORED: Final = "*"
# Taken by nobody who was asked for a transfer syntax: not acceptable, or not understood.
REFUSED_TRANSFER_SYNTAX: Final = frozenset((400, 406, 415))

_HEAD_BYTES: Final = 2 * MAXIMUM_META_BYTES


class Download:
    """The files of one resource. `next_file`, then `read` until there is no more of it. Used by one thread, but for
    `close`."""

    def __init__(self, client: DicomWebClient, resource: str, transfer_syntax_uid: str | None) -> None:
        """`resource`: a path of WADO-RS. `transfer_syntax_uid` None: as stored. Begins at once."""
        self._client = client
        self._resource = resource
        self._accept = accept(transfer_syntax_uid or (AS_STORED if client.section.wado_any_transfer_syntax else ""))
        # of a server that does not know `transfer-syntax=*` what it sends otherwise is taken
        self._may_be_plainer = transfer_syntax_uid is None and client.section.wado_any_transfer_syntax
        self._pieces: deque[bytes] = deque()
        # Taken out of them all at once: threads that hand over each piece wake each other up more than they work.
        self._batch: deque[bytes] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._headers: dict[str, str] | None = None
        self._error: DicomWebError | None = None
        self._is_done = False
        self._is_closed = False
        self._answer: Answer | None = None
        self._multipart: Multipart | None = None
        self._thread = threading.Thread(target=self._receive, name="wado", daemon=True)
        self._thread.start()

    @property
    def is_received(self) -> bool:
        """Whether the server has nothing more to do with it."""
        return self._is_done

    def wait(self, seconds: float) -> bool:
        """Whether there is something to be read, or comes within `seconds`."""
        if self._batch:
            return True
        with self._changed:
            return self._changed.wait_for(self._has_news, seconds)

    def next_file(self) -> bool:
        """Go to the next file; False when there is none. Raises DicomWebError."""
        if self._multipart is None:
            with self._changed:
                self._changed.wait_for(lambda: self._headers is not None or self._has_news())
                headers = self._headers
            if headers is None:
                raise self._error or ServerUnreachable("closed")
            self._multipart = Multipart(self._taken(), headers)
        return self._multipart.next_part()

    def read(self) -> bytes | memoryview:
        """Some bytes of the file, b"" at its end. Raises DicomWebError."""
        return self._multipart.read() if self._multipart is not None else b""

    def close(self) -> None:
        """Receive no more. From any thread; who reads finds that it has broken off."""
        with self._changed:
            self._is_closed = True
            self._pieces.clear()
            self._changed.notify_all()
            answer = self._answer
        if answer is not None:
            answer.interrupt()

    def _has_news(self) -> bool:
        return bool(self._pieces) or self._is_done or self._is_closed

    def _taken(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_news)
                if self._is_closed:
                    raise ServerUnreachable("closed")
                if not self._pieces:
                    if self._error is not None:
                        raise self._error
                    return
                self._batch, self._pieces = self._pieces, deque()
                self._queued = 0
                self._changed.notify_all()
            while self._batch:
                yield self._batch.popleft()

    def _receive(self) -> None:
        error: DicomWebError | None = ServerUnreachable("error of the gateway")
        try:
            try:
                self._receive_from(self._accept)
            except HttpStatusError as refused:
                if not self._may_be_plainer or refused.status not in REFUSED_TRANSFER_SYNTAX:
                    raise
                self._receive_from(accept(""))
            error = None
        except DicomWebError as problem:
            error = problem
        finally:
            self._end(error)

    def _receive_from(self, media_type: str) -> None:
        request = Request("GET", self._client.wado(self._resource), headers={"Accept": media_type})
        with self._client.open(request) as answer:
            with self._changed:
                self._answer = answer
                if self._is_closed:
                    return
            # 206: the server has not told all, and may have cut off what it tells
            if answer.status != 200:
                raise answer.error()
            with self._changed:
                self._headers = {"Content-Type": answer.headers.get("Content-Type", "")}
                self._changed.notify_all()
            for piece in answer.pieces():
                if not self._put(piece):
                    return

    def _put(self, piece: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._queued < QUEUED_BYTES or self._is_closed)
            if self._is_closed:
                return False
            self._pieces.append(piece)
            self._queued += len(piece)
            if len(self._pieces) == 1:
                self._changed.notify_all()
            return True

    def _end(self, error: DicomWebError | None) -> None:
        with self._changed:
            self._error = error
            self._is_done = True
            self._changed.notify_all()


def accept(transfer_syntax_uid: str) -> str:
    """The Accept header for instances; "" for a request that does not name a transfer syntax."""
    media_type = 'multipart/related; type="application/dicom"'
    return f"{media_type}; transfer-syntax={transfer_syntax_uid}" if transfer_syntax_uid else media_type


@dataclass(frozen=True, slots=True)
class FileStart:
    """The first bytes of a file, in pieces; `is_all`: there are no more. What file meta information may take
    (MAXIMUM_META_BYTES) is in the first piece."""

    pieces: Sequence[bytes | memoryview]
    size_bytes: int
    is_all: bool

    @property
    def head(self) -> memoryview:
        """The first piece."""
        return memoryview(self.pieces[0] if self.pieces else b"")


def read_start(download: Download, maximum_bytes: int) -> FileStart:
    """Read a file's first bytes, `maximum_bytes` and perhaps some more. Raises DicomWebError."""
    pieces: list[bytes | memoryview] = []
    size = 0
    while size < maximum_bytes:
        piece = download.read()
        if not piece:
            return FileStart(pieces, size, True)
        size += len(piece)
        if pieces and len(pieces[0]) < _HEAD_BYTES:
            piece = b"".join((pieces.pop(), piece))
        pieces.append(piece)
    return FileStart(pieces, size, False)


def data_set(download: Download, transfer_syntax_uid: str, start: FileStart, begin: int) -> EncodedInstance:
    """The data set of a file, which begins at `begin` of its first piece."""
    first: Iterator[bytes | memoryview] = itertools.chain((start.head[begin:],), start.pieces[1:])
    if start.is_all:
        return EncodedInstance(transfer_syntax_uid, start.size_bytes - begin, first)
    return EncodedInstance(transfer_syntax_uid, None, itertools.chain(first, _rest_of(download)))


def _rest_of(download: Download) -> Iterator[bytes | memoryview]:
    while True:
        try:
            piece = download.read()
        except DicomWebError as error:
            raise ArchiveUnavailable(f"the instance breaks off: {error}") from error
        if not piece:
            return
        yield piece
