"""What opens a DICOMweb server: the value of the Authorization header, made anew when it must be."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote_plus, urlencode

import urllib3

from gateway.dicomweb.errors import ServerUnreachable
from gateway.options.dicomweb import DicomWebServerSection, OAuth2Section
from gateway.options.orthanc_json import ConfigurationError

MAXIMUM_TOKEN_BYTES: Final = 64 * 1024
# A token is replaced so long before it expires, or after four fifths of a short life.
REFRESH_BEFORE_EXPIRY_S: Final = 60.0
SHORT_LIFE_SHARE: Final = 0.8
# RFC 6749 5.1 recommends, but does not require, that a server says how long a token lives.
DEFAULT_LIFE_S: Final = 300.0
# A file with a token is read again after this time: others rotate it.
TOKEN_FILE_LIFE_S: Final = 60.0
# An authorization server that refuses is not asked again at once by each request that waits.
REFUSAL_LIFE_S: Final = 2.0

Post = Callable[[str, dict[str, str], bytes], tuple[int, bytes]]
"""POST of a URL with headers and a body: status and body. Raises ServerUnreachable."""


class Credentials(Protocol):
    """Used by several threads."""

    def authorization(self, refused: str | None = None) -> str | None:
        """The header's value. `refused`: the one that the server did not take, if it did not.

        Raises ServerUnreachable when there is none to be had.
        """

    @property
    def can_be_renewed(self) -> bool:
        """Whether there may be another value after one was refused."""


class Fixed:
    """A value that never changes; None for a server that is open, or opened by headers or a certificate."""

    can_be_renewed = False

    def __init__(self, value: str | None) -> None:
        self._value = value

    def authorization(self, refused: str | None = None) -> str | None:
        """See Credentials."""
        return self._value


class Renewed:
    """A token that is fetched, kept for a while, and fetched again when it is refused."""

    can_be_renewed = True

    def __init__(self, fetch: Callable[[], tuple[str, float]]) -> None:
        """`fetch` returns a token and for how many seconds it may be used. Raises ServerUnreachable."""
        self._fetch = fetch
        self._lock = threading.Lock()
        self._value = ""
        self._until = 0.0
        self._refusal: ServerUnreachable | None = None

    def authorization(self, refused: str | None = None) -> str | None:
        """See Credentials."""
        with self._lock:
            now = time.monotonic()
            if now < self._until:
                if self._refusal is not None:
                    raise self._refusal
                if self._value != refused:
                    return self._value
            try:
                token, life_s = self._fetch()
            except ServerUnreachable as error:
                self._refusal, self._until = error, time.monotonic() + REFUSAL_LIFE_S
                raise
            self._refusal = None
            self._value, self._until = f"Bearer {token}", time.monotonic() + life_s
            return self._value


def credentials_of(section: DicomWebServerSection, path: Callable[[str], Path], post: Post) -> Credentials:
    """The credentials of a server. Raises ConfigurationError for a file that cannot be read."""
    if section.username is not None:
        password = (
            _read(path(section.password_file)) if section.password_file is not None else _secret(section.password)
        )
        # RFC 7617: UTF-8, as browsers and servers of today have it.
        pair = f"{section.username}:{password}".encode().decode("latin-1")
        return Fixed(urllib3.make_headers(basic_auth=pair)["authorization"])
    if section.token is not None:
        return Fixed(f"Bearer {section.token.get_secret_value()}")
    if section.token_file is not None:
        file = path(section.token_file)
        _read(file)
        return Renewed(lambda: (_read_later(file), TOKEN_FILE_LIFE_S))
    if section.o_auth2 is not None:
        secret_file = section.o_auth2.client_secret_file
        secret = _read(path(secret_file)) if secret_file is not None else _secret(section.o_auth2.client_secret)
        return Renewed(_ClientCredentials(section.o_auth2, secret, post).fetch)
    return Fixed(None)


class _ClientCredentials:
    """RFC 6749 4.4."""

    def __init__(self, section: OAuth2Section, secret: str, post: Post) -> None:
        self._url = section.token_url
        self._post = post
        self._headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        form = {"grant_type": "client_credentials", **section.parameters}
        if section.scope is not None:
            form["scope"] = section.scope
        if section.authentication == "Basic":
            # RFC 6749 2.3.1: both are form-encoded before they are joined.
            pair = f"{quote_plus(section.client_id)}:{quote_plus(secret)}"
            self._headers["Authorization"] = urllib3.make_headers(basic_auth=pair)["authorization"]
        else:
            form |= {"client_id": section.client_id, "client_secret": secret}
        self._body = urlencode(form).encode("ascii")

    def fetch(self) -> tuple[str, float]:
        """A token, and for how many seconds it is good. Raises ServerUnreachable."""
        try:
            status, body = self._post(self._url, self._headers, self._body)
        except ServerUnreachable as error:
            raise ServerUnreachable(f"no token from {self._url}: {error}") from error
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status != 200:
            raise ServerUnreachable(f"no token from {self._url}: HTTP {status}{_error_of(answer)}")
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise ServerUnreachable(f"no token from {self._url}: the answer has no usable access_token")
        return token, _life(answer.get("expires_in"))


def _life(expires_in: Any) -> float:
    try:
        life_s = float(expires_in)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFE_S
    if not 0 < life_s < float("inf"):
        return DEFAULT_LIFE_S
    return max(life_s - REFRESH_BEFORE_EXPIRY_S, life_s * SHORT_LIFE_SHARE)


def _error_of(answer: Any) -> str:
    """RFC 6749 5.2: a short code, which is no secret."""
    error = answer.get("error") if isinstance(answer, dict) else None
    return f": {error[:100]}" if isinstance(error, str) and error.isprintable() else ""


def _secret(value: Any) -> str:
    return str(value.get_secret_value()) if value is not None else ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAXIMUM_TOKEN_BYTES).decode("utf-8").strip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"DicomGateway.DicomWebServers: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"DicomGateway.DicomWebServers: {path}: expected UTF-8") from error


def _read_later(path: Path) -> str:
    try:
        token = _read(path).strip()
    except ConfigurationError as error:
        raise ServerUnreachable(str(error)) from error
    if not token or not token.isascii() or not token.isprintable():
        raise ServerUnreachable(f"{path} holds no token")
    return token
