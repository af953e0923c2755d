"""Instances of Orthanc in order, the next ones requested while one is read.

No threads: a request is sent on each of a few connections, and Orthanc's answers wait in the kernel until it is their
turn. So what is on its way is bounded by the kernel's buffers, and a file that is larger than the buffer here is read
at the speed at which its reader takes it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.archive.fetching import Fetching
from gateway.archive.http_connection import Address, BrokenConnection, HttpConnection, Receiver, UnusualAnswer
from gateway.archive.interface import (
    ArchiveUnavailable,
    CannotTranscode,
    EncodedInstance,
    Fetched,
    InstanceReference,
    Wanted,
)
from gateway.archive.orthanc_instances import encoded, open_streamed, order_of, refusal
from gateway.archive.rest import OrthancRest

# More are no faster (docs/architecture.md), and each may hold one of Orthanc's HTTP threads.
CONNECTIONS: Final = 3
# Files up to this size are read whole before they are handed out, so that one that breaks off is fetched again.
WHOLE_BYTES: Final = 4 * 1024 * 1024
# Of what is requested in advance: Orthanc itself holds whole files in memory.
REQUESTED_BYTES: Final = 16 * 1024 * 1024
# An Orthanc that is restarted is waited for. When twice in a row nothing came, nothing is expected any more.
RECONNECT_TIMEOUT_S: Final = 10.0
RECONNECT_DELAY_S: Final = 0.2
FAILURES_IN_A_ROW: Final = 2


class Slots:
    """How many connections all that is read ahead may have, beyond the one that each may always have."""

    def __init__(self, count: int) -> None:
        self._semaphore = threading.Semaphore(count)

    def take(self) -> bool:
        """Whether there was one."""
        return self._semaphore.acquire(blocking=False)

    def give_back(self, count: int) -> None:
        """Of those that were taken."""
        if count > 0:
            self._semaphore.release(count)


@dataclass(frozen=True, slots=True)
class _Requested:
    instance: InstanceReference
    transfer_syntax_uid: str | None
    request: bytes
    connection: HttpConnection

    @property
    def wanted(self) -> Wanted:
        return self.instance, self.transfer_syntax_uid


class OrthancReadAhead(Fetching):
    """A ReadAhead (gateway.archive.interface)."""

    def __init__(self, rest: OrthancRest, address: Address, slots: Slots, wanted: Iterable[Wanted]) -> None:
        """`rest`: for answers that HttpConnection does not read."""
        super().__init__()
        self._rest = rest
        self._address = address
        self._slots = slots
        self._wanted = iter(wanted)
        self._next: Wanted | None = None
        self._coming: deque[_Requested | Fetched] = deque()
        self._connections: list[HttpConnection] = []
        self._idle: list[HttpConnection] = []
        self._receiver = Receiver(address.timeout_s, WHOLE_BYTES)
        # The connection on which the rest of a large file comes, and how much of it is still to come.
        self._reading: HttpConnection | None = None
        self._missing = 0
        self._failures = 0
        self._has_answered = False
        # Answers are unusual: they are read by urllib3, one after the other.
        self._is_unusual = False
        self._streamed = contextlib.ExitStack()

    def wait(self, seconds: float) -> bool:
        """See ReadAhead."""
        with self._in_use:
            if self._closed.is_set():
                return True
            self._request_more()
            first = self._coming[0] if self._coming else None
        return not isinstance(first, _Requested) or first.connection.wait(seconds)

    def close(self) -> None:
        """See ReadAhead."""
        self._closed.set()
        for connection in list(self._connections):
            connection.interrupt()
        if self._in_use.acquire(blocking=False):  # otherwise it is done by who uses it
            try:
                self._release()
            finally:
                self._in_use.release()

    def _release(self) -> None:
        for connection in self._connections:
            connection.drop()
        self._slots.give_back(len(self._connections) - 1)
        self._connections.clear()
        self._coming.clear()
        self._streamed.close()

    def _fetch_next(self) -> Fetched | None:
        self._leave_last()
        self._request_more()
        if self._coming:
            first = self._coming.popleft()
        else:  # answers are unusual, or do not come any more: nothing is requested in advance
            wanted = self._pull()
            if wanted is None:
                return None
            first = _Requested(*wanted, b"", HttpConnection(self._address))
        fetched = first if isinstance(first, Fetched) else self._fetch(first)
        self._request_more()
        return fetched

    def _fetch(self, requested: _Requested) -> Fetched:
        instance = requested.instance
        try:
            fetched = Fetched(instance, self._receive(requested))
        except CannotTranscode as error:
            fetched = Fetched(instance, None, error)
        except ArchiveUnavailable as error:
            return Fetched(instance, None, error)
        self._failures = 0
        return fetched

    def _leave_last(self) -> None:
        self._streamed.close()
        if self._reading is not None:
            self._reading.drop()
            self._idle.append(self._reading)
            self._reading = None

    def _pull(self) -> Wanted | None:
        wanted, self._next = self._next or next(self._wanted, None), None
        return wanted

    def _request_more(self) -> None:
        while not self._is_unusual and self._failures < FAILURES_IN_A_ROW and len(self._coming) < CONNECTIONS:
            wanted = self._pull()
            if wanted is None:
                return
            try:
                order = order_of(*wanted)
            except CannotTranscode as error:
                self._coming.append(Fetched(wanted[0], None, error))
                continue
            connection = self._connection_for(wanted)
            if connection is None:
                self._next = wanted
                return
            request = self._address.request(*order)
            connection.send(request)
            self._coming.append(_Requested(wanted[0], wanted[1], request, connection))

    def _connection_for(self, wanted: Wanted) -> HttpConnection | None:
        """None: nothing more is to be requested yet."""
        if (
            self._coming
            and wanted[0].size_bytes + sum(one.instance.size_bytes for one in self._coming) > REQUESTED_BYTES
        ):
            return None
        if self._idle:
            return self._idle.pop()
        # a second one only when it is known that anybody answers
        may_be_more = self._has_answered and len(self._connections) < CONNECTIONS
        if self._connections and not (may_be_more and self._slots.take()):
            return None
        connection = HttpConnection(self._address)
        self._connections.append(connection)
        return connection

    def _receive(self, requested: _Requested) -> EncodedInstance:
        """Raises ArchiveUnavailable, CannotTranscode."""
        instance = requested.instance
        if self._is_unusual:
            return self._streamed.enter_context(open_streamed(self._rest, requested.wanted))
        if self._failures >= FAILURES_IN_A_ROW:
            raise ArchiveUnavailable(f"instance {instance.handle} is not asked for: Orthanc has not answered any more")
        try:
            return self._receive_patiently(requested)
        except UnusualAnswer:
            self._is_unusual = True
            for connection in self._connections:
                connection.drop()
            return self._receive(requested)
        except (BrokenConnection, TimeoutError) as error:
            requested.connection.drop()
            self._idle.append(requested.connection)
            self._failures += 1
            late = f"no answer within {self._address.timeout_s:g} s"
            reason = late if isinstance(error, TimeoutError) else str(error)
            raise ArchiveUnavailable(f"instance {instance.handle}: {reason}") from error

    def _receive_patiently(self, requested: _Requested) -> EncodedInstance:
        """Repeats the request on new connections for a while: Orthanc ends idle ones, and may be restarted."""
        deadline = time.monotonic() + RECONNECT_TIMEOUT_S
        delay_s = 0.0
        while True:
            try:
                return self._receive_answer(requested)
            except BrokenConnection:
                requested.connection.drop()
                if time.monotonic() > deadline or self._closed.wait(delay_s):
                    raise
            delay_s = RECONNECT_DELAY_S
            requested.connection.send(requested.request)

    def _receive_answer(self, requested: _Requested) -> EncodedInstance:
        connection = requested.connection
        answer = self._receiver.receive(connection, requested.instance.size_bytes)
        self._has_answered = True
        self._missing = answer.missing
        if not answer.missing and answer.is_kept:
            self._idle.append(connection)
        else:
            self._reading = connection
        if answer.status != 200:
            raise refusal(*requested.wanted, answer.status)
        rest = self._rest_of(connection) if answer.missing else iter(())
        return encoded(requested.wanted, answer.start, answer.missing, rest)

    def _rest_of(self, connection: HttpConnection) -> Iterator[memoryview]:
        while self._missing:
            with self._in_use:
                if self._closed.is_set() or self._reading is not connection:
                    raise ArchiveUnavailable("the instance is not read any more")
                try:
                    piece = self._receiver.receive_more(connection, self._missing)
                except (BrokenConnection, TimeoutError) as error:
                    raise ArchiveUnavailable(f"the instance breaks off: {error}") from error
                self._missing -= len(piece)
            yield piece
