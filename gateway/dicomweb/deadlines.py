"""HTTP connections whose answers come within a time: http.client bounds each read from the socket, but not how many
it takes to read a head, a chunk's size, or a trailer. A peer that sends them byte after byte would hold a thread.
"""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from gateway import waiting


class _Reader(io.RawIOBase):
    """What comes from a socket, until a deadline. Used by one thread."""

    def __init__(self, stream: io.RawIOBase, connection: socket.socket) -> None:
        self._stream = stream
        self._connection = connection
        self._timeout_s = connection.gettimeout()
        self._deadline = 0.0
        self.begin()

    def begin(self) -> None:
        """What is read from here on until the next call comes within the socket's timeout."""
        if self._timeout_s is not None:
            self._deadline = time.monotonic() + self._timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._timeout_s is not None:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer in time")
            waiting.until_readable(self._connection, left_s)
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer in time")
            self._connection.settimeout(left_s)
        return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Response(HTTPResponse):
    """The head comes within the timeout, and so does each piece of the body, whatever stands around it."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._reader = _Reader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)

    def read1(self, n: int = -1) -> bytes:
        self._reader.begin()
        return super().read1(n)


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class BoundedPool(HTTPConnectionPool):
    """Connections that are not encrypted."""

    ConnectionCls = _Connection


class BoundedTlsPool(HTTPSConnectionPool):
    """Connections over TLS."""

    ConnectionCls = _TlsConnection
