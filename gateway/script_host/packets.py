"""What workers and host say to each other: a line of JSON and bytes in one packet of a Unix socket (SOCK_SEQPACKET).

Bytes that are too many for a packet travel as a descriptor of anonymous memory, instances as that of their file.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SOCKET_NAME: Final = "script.sock"
MAXIMUM_HEADER_BYTES: Final = 16 * 1024
# The kernel's default for what one packet may have is six times this.
MAXIMUM_INLINE_BYTES: Final = 16 * 1024
MAXIMUM_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
MAXIMUM_TEXT_CHARACTERS: Final = 500

_PACKET_BYTES: Final = MAXIMUM_HEADER_BYTES + MAXIMUM_INLINE_BYTES
_MAXIMUM_FDS: Final = 2


class Broken(Exception):
    """The other side is gone, or does not keep to this."""


class NoDescriptors(Broken):
    """A packet came without its descriptors, because we can have no more."""


@dataclass
class Packet:
    """One message. `fds` belong to whoever received it."""

    header: dict[str, Any]
    payload: bytes = b""
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close the descriptors that nobody has taken."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def socket_path(state_directory: Path) -> Path:
    """Where the host listens."""
    return state_directory / SOCKET_NAME


def send(connection: socket.socket, header: dict[str, Any], payload: bytes = b"", fds: Sequence[int] = ()) -> None:
    """Send one packet. Raises Broken, TimeoutError."""
    line = json.dumps(header | ({"memory": len(payload)} if len(payload) > MAXIMUM_INLINE_BYTES else {})).encode()
    if len(line) > MAXIMUM_HEADER_BYTES or len(payload) > MAXIMUM_PAYLOAD_BYTES:
        raise Broken("a message of more bytes than are allowed")
    try:
        if len(payload) <= MAXIMUM_INLINE_BYTES:
            socket.send_fds(connection, [line + b"\n" + payload], list(fds))
            return
        memory = os.memfd_create("script")
        with os.fdopen(memory, "wb") as file:
            file.write(payload)
            file.flush()
            socket.send_fds(connection, [line + b"\n"], [memory, *fds])
    except TimeoutError:
        raise
    except OSError as error:
        raise Broken(error.strerror or str(error)) from error


def receive(connection: socket.socket) -> Packet:
    """Receive one packet. Raises Broken, TimeoutError."""
    try:
        data, fds, flags, _address = socket.recv_fds(connection, _PACKET_BYTES + 1, _MAXIMUM_FDS)
    except TimeoutError:
        raise
    except OSError as error:
        raise Broken(error.strerror or str(error)) from error
    packet = Packet({}, b"", list(fds))
    try:
        if flags & socket.MSG_CTRUNC:
            raise NoDescriptors("no descriptor is left")
        if not data or flags & socket.MSG_TRUNC:
            raise Broken("the connection is closed" if not data else "a packet was cut off")
        line, _newline, packet.payload = data.partition(b"\n")
        packet.header = json.loads(line)
        if "memory" in packet.header:
            packet.payload = _read_memory(packet.fds.pop(0), packet.header.pop("memory"))
    except (ValueError, IndexError, TypeError) as error:
        packet.close()
        raise Broken(f"no packet: {error}") from error
    except BaseException:
        packet.close()
        raise
    return packet


def _read_memory(fd: int, size: int) -> bytes:
    try:
        if size > MAXIMUM_PAYLOAD_BYTES:
            raise Broken("a message of more bytes than are allowed")
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


@contextlib.contextmanager
def mapped(fd: int) -> Any:
    """The content of an instance's file, which does not change, without copying it."""
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as memory:
        yield memory
