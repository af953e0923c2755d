"""HTTP towards one DICOMweb server: kept-alive connections, credentials, retries; every wait and size is bounded.

Redirections are not followed: credentials are for the server that was configured.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.response import BaseHTTPResponse

from gateway import waiting
from gateway.dicomweb.connections import pool_of, request_target, tls_context
from gateway.dicomweb.credentials import credentials_of
from gateway.dicomweb.errors import BadAnswer, HttpStatusError, ServerUnreachable
from gateway.forwarding.transports import SLOWEST_BYTES_PER_S
from gateway.options.dicomweb import DicomWebServerSection

# PS3.18 does not say which of them may be repeated: these speak of the moment, not of the request.
RETRIED: Final = frozenset((429, 502, 503, 504))
FIRST_RETRY_DELAY_S: Final = 0.5
LAST_RETRY_DELAY_S: Final = 10.0
# What Retry-After may ask for; a peer waits for us meanwhile.
MAXIMUM_RETRY_AFTER_S: Final = 30.0
# Of an answer that is an error: for the log.
MAXIMUM_EXPLANATION_BYTES: Final = 4096
MAXIMUM_EXPLANATION_CHARACTERS: Final = 200
MAXIMUM_TOKEN_ANSWER_BYTES: Final = 1024 * 1024
# What comes slower than this for as long as the timeout does not count as an answer.
SLOWEST_ANSWER_BYTES_PER_S: Final = 1024
PIECE_BYTES: Final = 512 * 1024
# Beyond letters, digits and "-._~": what may stand in a query, and stands for itself in DICOM's values.
UNQUOTED: Final = "*?,:/@"

# How urllib3 begins what it says of a connection: its class, host and port.
_CONNECTION: Final = re.compile(r"^\w+\(host=[^)]*\): ")

Body = Callable[[], bytes | IO[bytes] | Iterable[bytes]]
"""Makes a request's body; called anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Request:
    """`uri`: below the server's URL, with a leading slash, quoted. `size_bytes` of the body; None: it is sent chunked.

    `is_repeatable`: whether it may be sent again when it is not known what became of it.
    """

    method: str
    uri: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] | None = None
    body: Body | None = None
    size_bytes: int | None = None
    is_repeatable: bool = True

    @property
    def what(self) -> str:
        """For messages: without the query, which may have patients' names in it."""
        return f"{self.method} {self.uri}"


class Answer:
    """The answer to a request, whatever its status, as a stream. Used by one thread, but for `interrupt`."""

    def __init__(self, response: BaseHTTPResponse, what: str, timeout_s: float) -> None:
        self._response = response
        self._what = what
        self._timeout_s = timeout_s
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def is_delimited(self) -> bool:
        """Whether the end of the body is told, and not only the end of the connection."""
        return "Content-Length" in self.headers or "Transfer-Encoding" in self.headers

    def pieces(self) -> Iterator[bytes]:
        """The body, as it comes, compressed or not. Raises ServerUnreachable when it breaks off or hardly moves."""
        decode = self.headers.get("Content-Encoding", "identity").lower() != "identity"
        window_bytes, window_s = 0, 0.0
        while True:
            asked_at = time.monotonic()
            try:
                piece = self._response.read1(PIECE_BYTES, decode_content=decode)
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                raise ServerUnreachable(f"the answer to {self._what} breaks off: {short(error)}") from error
            if not piece:
                self._check_length()
                return
            window_s += time.monotonic() - asked_at
            window_bytes += len(piece)
            if window_s > self._timeout_s:
                if window_bytes < SLOWEST_ANSWER_BYTES_PER_S * self._timeout_s:
                    raise ServerUnreachable(f"the answer to {self._what} hardly moves: {window_bytes} bytes")
                window_bytes, window_s = 0, 0.0
            yield piece

    def read(self, maximum_bytes: int) -> bytes:
        """The whole body. Raises BadAnswer if it is larger, and what `pieces` raises."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > maximum_bytes:
                raise BadAnswer(f"the answer to {self._what} has more than {maximum_bytes} bytes")
        return bytes(body)

    def error(self) -> HttpStatusError:
        """The answer as an error, with what it says of itself."""
        explanation = b""
        with contextlib.suppress(ServerUnreachable):
            for piece in self.pieces():
                explanation += piece
                if len(explanation) >= MAXIMUM_EXPLANATION_BYTES:
                    break
        return HttpStatusError(self.status, self._what, _readable(explanation, self.headers))

    def interrupt(self) -> None:
        """Let who reads the body, or will, find that it has broken off. From any thread."""
        with contextlib.suppress(HTTPError, HTTPException, OSError, ValueError, RuntimeError):
            self._response.shutdown()

    def _check_length(self) -> None:
        """http.client does not mind a body that ends early when it is read in pieces."""
        left = getattr(self._response, "length_remaining", None)
        if isinstance(left, int) and left > 0:
            raise ServerUnreachable(f"the answer to {self._what} ends {left} bytes early")


class DicomWebClient:
    """One server, used by several threads. Each request under way has a connection; some are kept for the next ones."""

    def __init__(self, title: str, section: DicomWebServerSection, path: Callable[[str], Path]) -> None:
        """`path` makes a path of the configuration absolute. Raises ConfigurationError for files that cannot be used.

        `title`: the AE title under which the server is known.
        """
        self.title = title
        self.section = section
        self._timeout_s = section.timeout
        self._context = tls_context(title, section, path)
        self._pool = pool_of(section.url, section, self._context)
        self._prefix = request_target(section.url, section).rstrip("/")
        self._credentials = credentials_of(section, path, self._post_form)
        self._closed = threading.Event()

    def qido(self, uri: str) -> str:
        """`uri` of a query (PS3.18 10.6) below the server's URL."""
        return _joined(self.section.qido_path, uri)

    def wado(self, uri: str) -> str:
        """`uri` of a retrieval (PS3.18 10.4)."""
        return _joined(self.section.wado_path, uri)

    def stow(self, uri: str) -> str:
        """`uri` of a storage request (PS3.18 10.5)."""
        return _joined(self.section.stow_path, uri)

    @contextlib.contextmanager
    def open(self, request: Request, attempts: int | None = None) -> Iterator[Answer]:
        """Send a request; what is answered in the end, whatever its status, is read within the context.

        Raises ServerUnreachable after the last attempt. A token that is refused is renewed once.
        """
        response = self._send_patiently(request, attempts or self.section.attempts)
        try:
            yield Answer(response, request.what, self._timeout_s)
        finally:
            _leave(response)

    def close(self) -> None:
        """End waits between attempts, and idle connections."""
        self._closed.set()
        self._pool.close()

    def _send_patiently(self, request: Request, attempts: int) -> BaseHTTPResponse:
        for attempt in range(1, attempts + 1):
            is_last = attempt == attempts or not request.is_repeatable
            try:
                response = self._send_authorized(request)
            except ServerUnreachable:
                if is_last or self._closed.is_set():
                    raise
                delay_s = _delay_s(attempt)
            else:
                if response.status not in RETRIED or is_last:
                    return response
                delay_s = retry_after_s(response.headers.get("Retry-After"), _delay_s(attempt))
                _leave(response)
            waiting.pause(self._closed, delay_s)
        raise ServerUnreachable(f"no answer to {request.what}")

    def _send_authorized(self, request: Request) -> BaseHTTPResponse:
        authorization = self._credentials.authorization()
        response = self._send(request, authorization)
        if response.status == 401 and self._credentials.can_be_renewed:
            _leave(response)
            response = self._send(request, self._credentials.authorization(refused=authorization))
        return response

    def _send(self, request: Request, authorization: str | None) -> BaseHTTPResponse:
        headers = {**self.section.headers, "Accept-Encoding": "identity", **(request.headers or {})}
        if authorization is not None:
            headers["Authorization"] = authorization
        timeout_s = self._timeout_s
        body = request.body() if request.body is not None else None
        if body is not None and request.size_bytes is not None:
            headers["Content-Length"] = str(request.size_bytes)
            timeout_s += request.size_bytes / SLOWEST_BYTES_PER_S
        try:
            return self._pool.urlopen(
                request.method,
                f"{self._prefix}{request.uri}{_query(request.query)}",
                body=body,
                headers=headers,
                chunked=body is not None and request.size_bytes is None,
                timeout=urllib3.Timeout(connect=self.section.connect_timeout, read=timeout_s),
                redirect=False,
                retries=False,
                assert_same_host=False,  # a proxy is asked for another one
                preload_content=False,
            )
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise ServerUnreachable(f"no answer to {request.what}: {short(error)}") from error

    def _post_form(self, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """For tokens (gateway.dicomweb.credentials.Post)."""
        pool = pool_of(url, self.section, self._context)
        try:
            response = pool.urlopen(
                "POST",
                request_target(url, self.section),
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=self.section.connect_timeout, read=self._timeout_s),
                redirect=False,
                retries=False,
                assert_same_host=False,  # a proxy is asked for another one
                preload_content=False,
            )
            try:
                answer = Answer(response, f"POST {url}", self._timeout_s)
                return response.status, answer.read(MAXIMUM_TOKEN_ANSWER_BYTES)
            finally:
                response.close()
        except (HTTPError, HTTPException, OSError, ValueError, BadAnswer) as error:
            raise ServerUnreachable(short(error)) from error
        finally:
            pool.close()


def short(error: BaseException) -> str:
    """The innermost cause in few words, without objects' addresses."""
    cause: BaseException = error
    while True:
        inner = [
            argument for argument in (*cause.args, getattr(cause, "reason", None)) if isinstance(argument, Exception)
        ]
        if not inner:
            break
        cause = inner[0]
    is_late = isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError)
    if is_late and not isinstance(cause, NewConnectionError):
        return "no answer in time"
    text = getattr(cause, "strerror", None) or _CONNECTION.sub("", str(cause))
    return text or type(cause).__name__


def _leave(response: BaseHTTPResponse) -> None:
    """After the last byte the connection is in the pool again; one that is left before is closed."""
    with contextlib.suppress(HTTPError, HTTPException, OSError, ValueError):
        if _is_at_end(response):
            response.release_conn()
        response.close()


def _is_at_end(response: BaseHTTPResponse) -> bool:
    """Whether nothing is left to be read, so that to drain it does not wait."""
    return response.status in (204, 304) or getattr(response, "length_remaining", None) == 0


def _joined(path: str, uri: str) -> str:
    path = path.strip("/")
    return f"/{path}{uri}" if path else uri


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    """RFC 3986 3.4. What need not be quoted is not: Orthanc 1.10.1 takes quoted characters literally."""
    if not pairs:
        return ""
    return "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe=UNQUOTED)}" for name, value in pairs)


def _delay_s(attempt: int) -> float:
    """Doubled each time, and spread, so that those who failed together do not come back together."""
    return min(LAST_RETRY_DELAY_S, FIRST_RETRY_DELAY_S * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)


def retry_after_s(value: str | None, otherwise_s: float) -> float:
    """RFC 9110 10.2.3: seconds, or a date."""
    if value is None:
        return otherwise_s
    try:
        seconds = float(int(value))
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return otherwise_s
    return min(MAXIMUM_RETRY_AFTER_S, max(0.0, seconds))


def _readable(body: bytes, headers: Mapping[str, str]) -> str:
    """An explanation that fits into one line; nothing of pages that are made for browsers."""
    if "html" in headers.get("Content-Type", "").lower():
        return ""
    text = " ".join(body.decode("utf-8", "replace").split())
    return "".join(c for c in text if c.isprintable())[:MAXIMUM_EXPLANATION_CHARACTERS]
