"""One kept-alive HTTP/1.1 connection for requests whose answers are files.

urllib3 needs 0.09 ms of CPU time for each request, http.client 0.035 ms, this 0.01 ms (docs/architecture.md). It reads
what Orthanc answers: a length, then that many bytes. Whatever else a proxy may make of it is left to urllib3.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

import certifi
import urllib3

from gateway.forwarding.transports import CONNECT_TIMEOUT_S, Endpoint

MAXIMUM_HEAD_BYTES: Final = 16 * 1024
MAXIMUM_LENGTH_DIGITS: Final = 18
PIECE_BYTES: Final = 256 * 1024


class BrokenConnection(Exception):
    """Refused, closed, or cut off within the answer: another connection may do. The text is for the log."""


class UnusualAnswer(Exception):
    """An answer that is not read here, such as a chunked or compressed one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`start`: of the body, all of it if `missing` is 0. `is_kept`: the connection may be used again."""

    status: int
    start: memoryview
    missing: int
    is_kept: bool


class Address:
    """Where connections lead, and what each request says."""

    def __init__(self, endpoint: Endpoint) -> None:
        url = urllib3.util.parse_url(endpoint.url)
        self.host = (url.host or "").strip("[]")
        self.port = url.port or (443 if url.scheme == "https" else 80)
        self.timeout_s = endpoint.timeout_s
        self.context: ssl.SSLContext | None = None
        if url.scheme == "https":
            self.context = ssl.create_default_context(cafile=endpoint.ca_file or certifi.where())
            self.context.check_hostname = endpoint.check_hostname
        headers = {"Host": url.netloc or "", "Accept-Encoding": "identity"}
        if endpoint.authorization is not None:
            headers["Authorization"] = endpoint.authorization
        elif endpoint.credentials is not None:
            basic = urllib3.make_headers(basic_auth=":".join(endpoint.credentials))
            headers["Authorization"] = basic["authorization"]
        self._prefix = (url.path or "").encode("ascii")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")

    def request(self, uri: str, order: bytes | None = None) -> bytes:
        """GET, or POST of a JSON `order`, encoded. `uri`: quoted."""
        path = self._prefix + uri.encode("ascii")
        if order is None:
            return b"GET %b HTTP/1.1\r\n%b\r\n" % (path, self._headers)
        head = b"POST %b HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return head % (path, self._headers, len(order)) + order


class HttpConnection:
    """Sends a request, which may be answered later; opens itself when it must. One request at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._trouble = "the connection is closed"

    def send(self, request: bytes) -> None:
        """Send a request, on a new connection if there is none. What goes wrong is told when the answer is awaited."""
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.sendall(request)
        except (OSError, UnicodeError) as error:
            self.drop()
            self._trouble = _reason(error)

    def receive_into(self, view: memoryview) -> int:
        """Wait for some bytes. Raises BrokenConnection, TimeoutError."""
        if self._socket is None:
            raise BrokenConnection(self._trouble)
        try:
            count = self._socket.recv_into(view)
        except TimeoutError:
            raise
        except OSError as error:
            raise BrokenConnection(_reason(error)) from error
        if not count:
            raise BrokenConnection("Orthanc closed the connection")
        return count

    def wait(self, seconds: float) -> bool:
        """Whether `receive_into` has something to say, or comes to have within `seconds`."""
        connection = self._socket
        if connection is None or (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            return True
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def interrupt(self) -> None:
        """Have whoever waits for bytes wait no longer; from any thread."""
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS, too, the TCP connection

    def drop(self) -> None:
        """Close it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        address = self._address
        connection = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT_S)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.context is not None:
                connection = address.context.wrap_socket(connection, server_hostname=address.host)
            connection.settimeout(address.timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection


class Receiver:
    """Receives answers, one at a time, into one buffer: what was received before is overwritten."""

    def __init__(self, timeout_s: float, maximum_bytes: int) -> None:
        """`maximum_bytes`: how much of a body is received at once; within `timeout_s`."""
        self._timeout_s = timeout_s
        self._maximum_bytes = maximum_bytes
        self._buffer = memoryview(bytearray(4 * MAXIMUM_HEAD_BYTES))

    def receive(self, connection: HttpConnection, expected_bytes: int) -> Answer:
        """Wait for an answer with a body of perhaps `expected_bytes`.

        Raises BrokenConnection, UnusualAnswer, TimeoutError.
        """
        deadline = time.monotonic() + self._timeout_s
        self._reserve(min(expected_bytes, self._maximum_bytes) + MAXIMUM_HEAD_BYTES, 0)
        end, begin = 0, -1
        while begin < 0:
            end = self._receive_some(connection, end, len(self._buffer), deadline)
            begin = bytes(self._buffer[: min(end, MAXIMUM_HEAD_BYTES)]).find(b"\r\n\r\n")
            if begin < 0 and end >= MAXIMUM_HEAD_BYTES:
                raise UnusualAnswer("a head without an end")
        status, length, is_kept = _read_head(bytes(self._buffer[: begin + 2]))
        begin += 4
        last = begin + min(length, self._maximum_bytes)
        self._reserve(last, end)
        while end < last:
            end = self._receive_some(connection, end, last, deadline)
        # more than was announced belongs to nothing that was asked for
        is_kept = is_kept and end - begin <= length
        end = min(end, begin + length)
        return Answer(status, self._buffer[begin:end], length - (end - begin), is_kept)

    def receive_more(self, connection: HttpConnection, missing: int) -> memoryview:
        """The next part of a body, in memory of its own. Raises BrokenConnection, TimeoutError."""
        piece = memoryview(bytearray(min(missing, PIECE_BYTES)))
        return piece[: connection.receive_into(piece)]

    def _receive_some(self, connection: HttpConnection, begin: int, end: int, deadline: float) -> int:
        if time.monotonic() > deadline:
            raise TimeoutError
        return begin + connection.receive_into(self._buffer[begin:end])

    def _reserve(self, size: int, kept: int) -> None:
        if len(self._buffer) < size:
            buffer = memoryview(bytearray(1 << (size - 1).bit_length()))
            buffer[:kept] = self._buffer[:kept]
            self._buffer = buffer


def _read_head(text: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, and whether the connection stays open."""
    folded = text.lower()
    if not folded.startswith(b"http/1.1 ") or b"\r\ntransfer-encoding:" in folded or b"\r\ncontent-encoding:" in folded:
        raise UnusualAnswer("an answer that is chunked, compressed or no HTTP/1.1")
    status = text[9:12]
    length = folded.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
    if not (status.isdigit() and length.isdigit() and len(length) <= MAXIMUM_LENGTH_DIGITS):
        raise UnusualAnswer("an answer without a length")
    return int(status), int(length), b"\r\nconnection: close" not in folded


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
