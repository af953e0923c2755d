"""The way to a peer: its address, a TCP connection, TLS. Each with a deadline and an exception of its own."""

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from scp.association_errors import AssociationTimedOut, ConnectionFailed, HostNotFound, TlsFailed

# Family and socket address, as getaddrinfo() returns them.
Address = tuple[int, tuple[Any, ...]]


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of `host`, the preferred one first. Raises HostNotFound.

    How long a name may take is up to the resolver (resolv.conf(5), `timeout` and `attempts`).
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostNotFound(f"{host}: {getattr(error, 'strerror', None) or error}") from error
    return [(family, address) for family, _type, _protocol, _name, address in found]


def connect(addresses: Sequence[Address], timeout_s: float) -> socket.socket:
    """Connect to the first of `addresses` that accepts, within `timeout_s` for all.

    Raises ConnectionFailed or AssociationTimedOut, about the last address that was tried.
    """
    deadline = time.monotonic() + timeout_s
    failure: Exception = ConnectionFailed("no address")
    for family, address in addresses:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(remaining)
                connection.connect(address)
            except BaseException:
                connection.close()
                raise
            return connection
        except TimeoutError:
            failure = AssociationTimedOut(f"no connection to {name(address)} within {timeout_s:g} s")
        except OSError as error:
            failure = ConnectionFailed(f"no connection to {name(address)}: {error.strerror or error}")
    raise failure


def secure(connection: socket.socket, context: ssl.SSLContext, host: str, timeout_s: float) -> ssl.SSLSocket:
    """Do the TLS handshake as client, within `timeout_s`. Raises TlsFailed or AssociationTimedOut."""
    deadline = time.monotonic() + timeout_s
    connection.settimeout(timeout_s)
    try:
        secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
        try:
            _handshake(secured, deadline)
        except BaseException:
            secured.close()
            raise
    except TimeoutError as error:
        raise AssociationTimedOut(f"no TLS handshake within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            connection.close()
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error
        raise TlsFailed(f"TLS handshake failed: {reason}") from error
    return secured


def name(address: tuple[Any, ...]) -> str:
    """Return a socket address for a person."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def _handshake(secured: ssl.SSLSocket, deadline: float) -> None:
    """As a whole within the deadline: a timeout of the socket would be for each read."""
    secured.settimeout(max(0.001, deadline - time.monotonic()))
    secured.do_handshake()
