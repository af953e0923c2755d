"""TCP ports for servers that must be told their port before they start."""

import random
import socket
from typing import Final

# Below Linux's range for outgoing connections (net.ipv4.ip_local_port_range begins at 32768): such a
# connection cannot take the port between this look and the server's bind.
FIRST_PORT: Final = 15000
LAST_PORT: Final = 32000

_random = random.SystemRandom()


def free_port() -> int:
    """A port that no socket of this machine is bound to now."""
    while True:
        port = _random.randint(FIRST_PORT, LAST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port


def accepts(port: int) -> bool:
    """Whether a TCP connection to the port of this machine is accepted."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
