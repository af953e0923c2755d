"""Two ways into Orthanc's REST API: HTTP, and `orthanc.RestApiPost` that the glue lends us (transport "Plugin")."""

import itertools
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from gateway.forwarding.verdicts import Reply, error_code

CONNECT_TIMEOUT_S: Final = 5.0
# What Orthanc needs for a large body, beyond the configured timeout: a slow disk's speed.
SLOWEST_BYTES_PER_S: Final = 10 * 1024 * 1024
# http.client reads a streamed body in pieces of this size; its own 16 KiB cost a system call each.
STREAM_BLOCK_BYTES: Final = 512 * 1024
MAXIMUM_ANSWER_BYTES: Final = 16 * 1024 * 1024

Body = bytes | IO[bytes]


class Unreachable(Exception):
    """No answer: connection refused, broken or timed out. The text is for the log."""


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
    # True, or the file with the certificates to trust.
    verify: bool | str = True
    check_hostname: bool = True
    timeout_s: float = 60.0


class _Adapter(HTTPAdapter):
    """HTTPAdapter with large blocks, and for our own loopback no look at the certificate's name."""

    def __init__(self, *, check_hostname: bool) -> None:
        self._check_hostname = check_hostname
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs["blocksize"] = STREAM_BLOCK_BYTES
        if not self._check_hostname:
            kwargs["assert_hostname"] = False
        super().init_poolmanager(*args, **kwargs)


class HttpTransport:
    """One kept-alive HTTP connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session = requests.Session()
        self._session.trust_env = False
        adapter = _Adapter(check_hostname=endpoint.check_hostname)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.verify = endpoint.verify
        if endpoint.authorization is not None:
            self._session.headers["Authorization"] = endpoint.authorization
        elif endpoint.credentials is not None:
            self._session.auth = endpoint.credentials

    def post(self, uri: str, body: Body, size: int) -> Reply:
        """See Transport."""
        timeout = self._endpoint.timeout_s + size / SLOWEST_BYTES_PER_S
        return self._reply(self._request("POST", uri, timeout, data=body))

    def get(self, uri: str) -> Reply:
        """GET a small resource."""
        return self._reply(self._request("GET", uri, self._endpoint.timeout_s))

    def download(self, uri: str, order: bytes | None = None) -> requests.Response:
        """GET a resource, or POST `order`, and answer as a stream; to be closed by the caller."""
        return self._request("GET" if order is None else "POST", uri, self._endpoint.timeout_s, data=order)

    def _request(self, method: str, uri: str, timeout_s: float, data: Body | None = None) -> requests.Response:
        try:
            return self._session.request(
                method,
                self._endpoint.url + uri,
                data=data,
                timeout=(CONNECT_TIMEOUT_S, timeout_s),
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, OSError) as error:
            raise Unreachable(_short(error)) from error

    def _reply(self, response: requests.Response) -> Reply:
        with response:
            try:
                body = response.raw.read(MAXIMUM_ANSWER_BYTES, decode_content=True)
            except (requests.RequestException, HTTPError, OSError) as error:
                raise Unreachable(_short(error)) from error
        code = error_code(body) if response.status_code != 200 else None
        return Reply(response.status_code, body, code)


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
