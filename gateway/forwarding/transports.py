"""Two ways into Orthanc's REST API: HTTP, and `orthanc.RestApiPost` that the glue lends us (transport "Plugin")."""

import contextlib
import itertools
import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, Any, Final, Protocol

import certifi
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from gateway.forwarding.connections import OrthancPool, OrthancTlsPool
from gateway.forwarding.verdicts import Reply, error_code

CONNECT_TIMEOUT_S: Final = 5.0
# What Orthanc needs for a large body, beyond the configured timeout: a slow disk's speed.
SLOWEST_BYTES_PER_S: Final = 10 * 1024 * 1024
# http.client reads a streamed body in pieces of this size; its own 16 KiB cost a system call each.
STREAM_BLOCK_BYTES: Final = 512 * 1024
MAXIMUM_ANSWER_BYTES: Final = 16 * 1024 * 1024

Body = bytes | IO[bytes]


class Unreachable(Exception):
    """No answer: connection refused, broken or timed out. The text is for the log.

    `wait_s`: how long the other side asks not to be asked again.
    """

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Transport(Protocol):
    """Posts to Orthanc's REST API; used by one thread."""

    def post(self, uri: str, body: Body, size: int) -> Reply:
        """POST `body` of `size` bytes (a file is sent from its start). Raises Unreachable."""


@dataclass(frozen=True)
class Endpoint:
    """Orthanc's HTTP server and what opens it."""

    url: str
    authorization: str | None = None
    credentials: tuple[str, str] | None = None
    # The certificates to trust; None: certifi's.
    ca_file: str | None = None
    check_hostname: bool = True
    timeout_s: float = 60.0


class HttpTransport:
    """Kept-alive HTTP connections. urllib3 without requests, which needs 0.13 ms more for each request."""

    def __init__(self, endpoint: Endpoint, connections: int = 1) -> None:
        """With several `connections` it may be used by several threads; one that finds none free waits."""
        self._timeout_s = endpoint.timeout_s
        self._shared = connections > 1
        url = urllib3.util.parse_url(endpoint.url)
        self._prefix = url.path or ""
        self._headers: dict[str, str] = {}
        if endpoint.authorization is not None:
            self._headers["Authorization"] = endpoint.authorization
        elif endpoint.credentials is not None:
            credentials = urllib3.make_headers(basic_auth=":".join(endpoint.credentials))
            self._headers["Authorization"] = credentials["authorization"]
        options: dict[str, Any] = {
            "maxsize": connections,
            "block": self._shared,
            "blocksize": STREAM_BLOCK_BYTES,
        }
        if url.scheme == "https":
            options |= {
                "cert_reqs": "CERT_REQUIRED",
                "ca_certs": endpoint.ca_file or certifi.where(),
                "assert_hostname": None if endpoint.check_hostname else False,
            }
        pool = OrthancTlsPool if url.scheme == "https" else OrthancPool
        self._pool = pool(url.host or "", url.port, **options)

    @property
    def authorization(self) -> str | None:
        """What opens Orthanc, in the header Authorization."""
        return self._headers.get("Authorization")

    def post(self, uri: str, body: Body, size: int) -> Reply:
        """See Transport."""
        timeout = self._timeout_s + size / SLOWEST_BYTES_PER_S
        return self._reply(self._request("POST", uri, timeout, body, size))

    def get(self, uri: str) -> Reply:
        """GET a small resource."""
        return self._reply(self._request("GET", uri, self._timeout_s))

    @contextlib.contextmanager
    def download(self, uri: str, order: bytes | None = None) -> Iterator[BaseHTTPResponse]:
        """GET a resource, or POST `order`, and answer as a stream. Raises Unreachable, while it is read too."""
        with self.request("GET" if order is None else "POST", uri, order, self._timeout_s) as response:
            yield response

    @contextlib.contextmanager
    def request(self, method: str, uri: str, body: bytes | None, timeout_s: float) -> Iterator[BaseHTTPResponse]:
        """Any request; the answer as a stream. Raises Unreachable, while it is read too."""
        response = self._request(method, uri, timeout_s, body, len(body or b""))
        try:
            yield response
        except (HTTPError, HTTPException) as error:
            raise Unreachable(_short(error)) from error
        finally:
            response.close()  # after the last byte the connection is in the pool again, and stays open

    def _request(
        self, method: str, uri: str, timeout_s: float, body: Body | None = None, size: int = 0
    ) -> BaseHTTPResponse:
        headers = self._headers if body is None else {**self._headers, "Content-Length": str(size)}
        try:
            return self._pool.urlopen(
                method,
                self._prefix + uri,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
                redirect=False,
                retries=False,
                preload_content=False,
                pool_timeout=math.ceil(timeout_s) if self._shared else None,
            )
        except (HTTPError, HTTPException, OSError) as error:
            raise Unreachable(_short(error)) from error

    def _reply(self, response: BaseHTTPResponse) -> Reply:
        try:
            body = response.read(MAXIMUM_ANSWER_BYTES, decode_content=True)
        except (HTTPError, HTTPException, OSError) as error:
            raise Unreachable(_short(error)) from error
        finally:
            response.close()
        code = error_code(body) if response.status != 200 else None
        return Reply(response.status, body, code)


def _short(error: Exception) -> str:
    """The innermost cause in few words, without objects' addresses."""
    cause: BaseException = error
    while inner := [argument for argument in cause.args if isinstance(argument, BaseException)]:
        cause = inner[0]
    reason = getattr(cause, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else cause)
    return text.rsplit(">: ", 1)[-1].rsplit("object at", 1)[-1].split(": ", 1)[-1] or type(cause).__name__


class PluginTransport:
    """`orthanc.RestApiPost` in Orthanc's own process, through the descriptor that the glue shares.

    Bodies travel as descriptors of sealed memory or of the spool file, answers likewise. Serial: the plugin
    4.0 holds Python's interpreter lock for the whole call.
    """

    def __init__(self, connection: socket.socket, lock: threading.Lock, timeout_s: float) -> None:
        self._connection = connection
        self._lock = lock
        self._numbers = itertools.count(time.monotonic_ns())
        connection.settimeout(timeout_s)

    def post(self, uri: str, body: Body, size: int) -> Reply:
        """See Transport."""
        with self._lock:
            fd = _descriptor(body)
            try:
                return self._exchange(uri, fd, size)
            except OSError as error:
                raise Unreachable(f"Orthanc's plugin does not answer: {error}") from error
            finally:
                if isinstance(body, bytes):
                    os.close(fd)

    def _exchange(self, uri: str, fd: int, size: int) -> Reply:
        number = next(self._numbers)
        request = {"number": number, "uri": uri, "size": size}
        socket.send_fds(self._connection, [json.dumps(request).encode()], [fd])
        while True:
            packet, fds, _flags, _address = socket.recv_fds(self._connection, 4096, 1)
            if not packet or not fds:
                raise Unreachable("Orthanc's plugin is gone")
            answer = json.loads(packet)
            with os.fdopen(fds[0], "rb") as file:
                file.seek(0)
                body = file.read(MAXIMUM_ANSWER_BYTES)
            if answer["number"] == number:  # not the late answer to a request that was given up
                return Reply(None, body, answer["error"])


def _descriptor(body: Body) -> int:
    if not isinstance(body, bytes):
        return body.fileno()
    fd = os.memfd_create("instances")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(body)
    return fd
