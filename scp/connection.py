"""The way to a peer: its address, a TCP connection, TLS. Each with a deadline and an exception of its own."""

import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from scp.association_errors import AssociationTimedOut, ConnectionFailed, HostNotFound, TlsFailed
from scp.tls_connection import HandshakeFailed, HandshakeTimedOut, TlsConnection

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


def secure(connection: socket.socket, context: ssl.SSLContext, host: str, timeout_s: float) -> TlsConnection:
    """Do the TLS handshake as client, within `timeout_s`. Raises TlsFailed or AssociationTimedOut."""
    try:
        connection.setblocking(True)
        secured = TlsConnection(connection, context, host=host)
        secured.handshake(timeout_s)
    except (HandshakeFailed, OSError, ValueError) as error:
        connection.close()
        kind = AssociationTimedOut if isinstance(error, HandshakeTimedOut) else TlsFailed
        raise kind(f"TLS handshake failed: {str(error) or 'the peer left'}") from error
    return secured


def name(address: tuple[Any, ...]) -> str:
    """Return a socket address for a person."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
