"""Listening sockets, opened by the supervisor before anything else is started."""

import socket
from typing import Final

from gateway.checks.requirements import FatalError

LISTEN_BACKLOG: Final = 256

# All IPv4 addresses too: Linux hands their connections to the same socket.
ALL_ADDRESSES: Final = "::"


def open_listener(kind: str, host: str, port: int) -> socket.socket:
    """Listen on a TCP port, `kind` being what the port is for. Raises FatalError."""
    try:
        listener = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=LISTEN_BACKLOG,
            dualstack_ipv6=host == ALL_ADDRESSES,
        )
    except OSError as error:
        raise FatalError(f"cannot listen on {kind} port {port} ({host}): {_reason(error)}") from error
    listener.setblocking(False)
    return listener


def _reason(error: OSError) -> str:
    """What the system says, without what socket.create_server adds to it."""
    text = error.strerror or str(error)
    return text.partition(" (while attempting")[0]
