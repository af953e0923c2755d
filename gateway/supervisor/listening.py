"""Listening sockets, opened by the supervisor before anything else is started."""

import errno
import socket
from collections.abc import Mapping
from typing import Final

from gateway.checks.requirements import FatalError

LISTEN_BACKLOG: Final = 256

# All IPv4 addresses too: Linux hands their connections to the same socket.
ALL_ADDRESSES: Final = "::"

_WHAT_TO_DO: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: ": stop the program that has it, or choose another port",
    errno.EACCES: ": ports below 1024 are for root, or with CAP_NET_BIND_SERVICE; or choose another port",
    errno.EADDRNOTAVAIL: ": it must be an address of this computer",
}


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
    """What the system says, without what socket.create_server adds to it, and what to do."""
    text = error.strerror or str(error)
    return text.partition(" (while attempting")[0] + _WHAT_TO_DO.get(error.errno, "")
