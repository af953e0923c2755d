"""The DICOM port: who may connect, how many at the same time, and which worker gets the connection."""

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.access.peers import AddressFilter, plain_address
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.repeated_lines import RepeatedLines
from gateway.supervisor.connection_limits import OpenConnections
from gateway.supervisor.listening import open_listener

# A peer may open an association when it has just ended one, and be faster than the news of that end.
GRACE_S: Final = 0.2
# Connections over a limit that may be open to be told so: what comes on top of them is closed unheard, so that a
# flood takes no threads. A peer that behaves is told, and gone, within moments.
REJECTION_RESERVE: Final = 32


class Worker(Protocol):
    """What the port needs to know of a process that serves connections."""

    @property
    def name(self) -> str:
        """Which it is."""

    @property
    def ready(self) -> bool:
        """Whether it takes connections."""

    @property
    def control(self) -> socket.socket | None:
        """Where it takes them."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A connection over a limit that is served if another ends soon."""

    connection: socket.socket
    address: tuple[Any, ...]
    deadline: float


class DicomPort:
    """The listening socket, from its first connection to its last."""

    def __init__(self, configuration: Configuration) -> None:
        section = configuration.gateway
        self._host, self._port = section.bind_address, configuration.orthanc.dicom_port
        self._filter = AddressFilter(section.allowed_hosts)
        self._open = OpenConnections(section.maximum_associations, section.maximum_associations_per_peer)
        self._waiting: list[_Waiting] = []
        self._lines = RepeatedLines(get_logger())
        self.listener: socket.socket | None = None

    def listen(self) -> None:
        """Open the port. Raises FatalError."""
        self.listener = open_listener("DICOM", self._host, self._port)

    def close(self) -> None:
        """Take no more connections."""
        if self.listener is not None:
            self.listener.close()
        for waiting in self._waiting:
            waiting.connection.close()
        self._lines.summarise(unfinished=True)

    def accept(self, workers: Sequence[Worker]) -> None:
        """Take one connection and pass it to a worker, or close it."""
        if self.listener is None:
            return
        try:
            connection, address = self.listener.accept()
        except OSError as error:
            self._lines.warning("cannot accept a connection", reason=str(error))
            return
        address = plain_address(address)
        if not self._filter.allows(address[0]):
            self._refuse(connection, address, "its address is not allowed", "AllowedHosts")
            return
        excess = self._open.excess(address[0])
        if excess is None:
            self._pass_on(connection, address, workers)
        elif len(self._waiting) + self._open.rejected < REJECTION_RESERVE:
            self._waiting.append(_Waiting(connection, address, time.monotonic() + GRACE_S))
        else:
            self._refuse(connection, address, f"{excess.reason}, and many more are being rejected", excess.option)

    def settle(self, workers: Sequence[Worker]) -> None:
        """Pass on the connections over a limit that need not, or must not, wait longer."""
        now = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            excess = self._open.excess(each.address[0])
            if excess is None:
                self._pass_on(each.connection, each.address, workers)
            elif each.deadline <= now:
                option = f"DicomGateway.{excess.option}"
                self._lines.warning("association rejected", peer=each.address[0], reason=excess.reason, option=option)
                self._pass_on(each.connection, each.address, workers, over_limit=True)
            else:
                self._waiting.append(each)

    @property
    def due(self) -> float | None:
        """When (time.monotonic) `settle` must be called at the latest, or None."""
        return self._waiting[0].deadline if self._waiting else None

    def ended(self, number: int) -> None:
        """A worker says that this connection has ended."""
        self._open.ended(number)

    def lost(self, worker: Worker) -> None:
        """A worker has ended, and with it all its connections."""
        self._open.lost(worker.name)

    def summarise(self) -> None:
        """Log how many refusals were not logged; call it every few seconds."""
        self._lines.summarise()

    def _refuse(self, connection: socket.socket, address: tuple[Any, ...], reason: str, option: str) -> None:
        connection.close()
        option = f"DicomGateway.{option}"
        self._lines.warning("connection refused", peer=address[0], reason=reason, option=option)

    def _pass_on(
        self,
        connection: socket.socket,
        address: tuple[Any, ...],
        workers: Sequence[Worker],
        *,
        over_limit: bool = False,
    ) -> None:
        number = self._open.number()
        message = json.dumps({"connection": address, "number": number, "over_limit": over_limit}).encode()
        with connection:
            for worker in sorted((w for w in workers if w.ready), key=lambda w: self._open.load(w.name)):
                if worker.control is None:
                    continue
                # An error: it just died, or is stuck. Its exit or its silence is noticed elsewhere.
                with contextlib.suppress(OSError):
                    socket.send_fds(worker.control, [message], [connection.fileno()], socket.MSG_DONTWAIT)
                    self._open.opened(number, worker.name, address[0], over_limit=over_limit)
                    return
        self._lines.warning("no worker took a connection", peer=address[0])
