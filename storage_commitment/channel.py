"""The socket between workers and the reporter: what was asked for, and what a worker may report itself.

A Unix socket (SOCK_SEQPACKET: one JSON object per packet) in the state directory. A worker says

    {"received": NUMBER, "association": ID}    the request of this transaction is kept and answered
    {"ended": ID}                              the association is over
    {"begun": NUMBER}                          the report is being made on its association
    {"outcome": NUMBER, "text": TEXT}          the requester has taken it
    {"outcome": NUMBER, "refusal": TEXT}       it has not

and hears {"report": NUMBER, "association": ID, "until": T, "timeout": S}: report on the association of the request,
unless that cannot begin before T (time.monotonic); S is for the response. ID is "" if the report must not come there.
Orthanc's plugin says {"report_of": UID} and hears {"size": N}, with a file in memory that holds the JSON which
storage_commitment.orthanc_json makes of it; N is 0 if there is no report. It hears {"error": TEXT} if that cannot be
known.

A message lost with the connection loses nothing: the store is the truth, and each new connection makes the reporter
look into it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SOCKET_NAME: Final = "commitment.sock"
MAXIMUM_MESSAGE_BYTES: Final = 4096
RECONNECT_DELAY_S: Final = 0.2
SEND_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """A report that is wanted on an association. `until`: as time.monotonic counts, when it must have begun."""

    number: int
    association: str
    until: float
    timeout_s: float


class ReporterClient:
    """A worker's connection to the reporter. Thread-safe; reconnects by itself."""

    def __init__(self, state_directory: Path, on_order: Callable[[Order], None]) -> None:
        """`on_order` is called on the client's own thread."""
        self._address = str(state_directory / SOCKET_NAME)
        self._on_order = on_order
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        # Transactions of associations that may still take their reports; told again to a new reporter.
        self._open: dict[str, set[int]] = {}
        threading.Thread(target=self._run, name="commitment", daemon=True).start()

    def received(self, number: int, association: str) -> None:
        """The request of this transaction is answered."""
        if association:
            with self._lock:
                self._open.setdefault(association, set()).add(number)
        self._say({"received": number, "association": association})

    def ended(self, association: str) -> None:
        """The association is over."""
        with self._lock:
            self._open.pop(association, None)
        self._say({"ended": association})

    def begun(self, number: int) -> None:
        """A report is being made."""
        self._say({"begun": number})

    def reported(self, number: int, text: str) -> None:
        """The requester has taken it."""
        self._say({"outcome": number, "text": text})

    def not_reported(self, number: int, reason: str) -> None:
        """It has not, or could not be asked."""
        self._say({"outcome": number, "refusal": reason})

    def _say(self, message: dict[str, Any]) -> None:
        with self._lock:
            if self._connection is None:
                return
            try:
                self._connection.send(json.dumps(message).encode())
            except OSError:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
                self._connection = None

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                try:
                    connection.connect(self._address)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_TIMEOUT_S))
                    self._listen(connection)
                except OSError:
                    pause.wait(RECONNECT_DELAY_S)  # it is being started
                finally:
                    with self._lock:
                        if self._connection is connection:
                            self._connection = None

    def _listen(self, connection: socket.socket) -> None:
        with self._lock:
            for association, numbers in self._open.items():
                for number in numbers:
                    connection.send(json.dumps({"received": number, "association": association}).encode())
            self._connection = connection
        while packet := connection.recv(MAXIMUM_MESSAGE_BYTES):
            message = json.loads(packet)
            self._on_order(Order(message["report"], message["association"], message["until"], message["timeout"]))


def poke(state_directory: Path) -> bool:
    """Make a running reporter look into the store; False when none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(state_directory / SOCKET_NAME))
        except OSError:
            return False
    return True


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
