"""Timeouts of the kernel's: they hold for each call of a blocking socket, whoever calls it."""

import socket
import struct
from typing import Protocol

SHORTEST_TIMEOUT_S = 0.001


class HasOptions(Protocol):
    """A socket, or what stands for one."""

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """As socket.setsockopt()."""


def set_receive_timeout(connection: HasOptions, seconds: float | None) -> None:
    """Bound each read (SO_RCVTIMEO); None or 0 waits for ever."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))


def set_send_timeout(connection: HasOptions, seconds: float | None) -> None:
    """Bound each write (SO_SNDTIMEO); None or 0 waits for ever."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))


def _timeval(seconds: float | None) -> bytes:
    whole, fraction = divmod(seconds or 0.0, 1)
    return struct.pack("@ll", int(whole), int(fraction * 1e6))
