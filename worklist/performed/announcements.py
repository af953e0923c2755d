"""Workers tell the worklist's process of studies that arrive: one packet for each, on a Unix socket.

{"study": UID, "accession": TEXT, "patient": TEXT, "calling": AE TITLE, "called": AE TITLE}, and no answer. A packet
that is lost loses little: a worker tells a study again while it still arrives, and at its end Orthanc calls it stable.
"""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SOCKET_NAME: Final = "worklist.sock"
MAXIMUM_PACKET_BYTES: Final = 16 * 1024
# A study that goes on arriving is told again after so long.
TELL_AGAIN_S: Final = 60.0
MAXIMUM_REMEMBERED: Final = 10_000
CONNECT_AGAIN_S: Final = 1.0
# What waits for the database; more studies than that do not begin at the same time.
MAXIMUM_WAITING: Final = 10_000


@dataclass(frozen=True, slots=True)
class Arrival:
    """Instances of a study arrive from a modality."""

    study: str
    accession: str
    patient: str
    calling: str
    called: str


class Announcer:
    """A worker's side. Thread-safe; costs a look into a dictionary for each instance, and waits for nobody."""

    def __init__(self, state_directory: Path) -> None:
        self._address = str(state_directory / SOCKET_NAME)
        self._lock = threading.Lock()
        self._told: dict[Arrival, float] = {}
        self._connection: socket.socket | None = None
        self._connect_at = 0.0

    def tell(self, arrival: Arrival) -> None:
        """Tell it unless it was told a moment ago. Never fails."""
        packet = json.dumps(asdict(arrival)).encode()
        if len(packet) > MAXIMUM_PACKET_BYTES:  # values that no order has
            return
        now = time.monotonic()
        if now - self._told.get(arrival, -TELL_AGAIN_S) < TELL_AGAIN_S:
            return
        with self._lock:
            if not self._send(packet, now):
                return
            if len(self._told) >= MAXIMUM_REMEMBERED:
                self._told.clear()
            self._told[arrival] = now

    def _send(self, packet: bytes, now: float) -> bool:
        if len(packet) > MAXIMUM_PACKET_BYTES:
            return True  # no identifier is so long: nothing to find by it
        try:
            if self._connection is None:
                if now < self._connect_at:
                    return False
                self._connect_at = now + CONNECT_AGAIN_S
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                connection.setblocking(False)
                self._connection = connection
                connection.connect(self._address)
            self._connection.send(packet)
        except BlockingIOError:  # it has much to read
            return False
        except OSError:  # it is being started
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return False
        return True


def listen(state_directory: Path, heard: Callable[[Arrival], None]) -> None:
    """Take what workers tell, on threads of its own; `heard` is called on one of them, one at a time."""
    path = state_directory / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen()
    waiting: queue.Queue[Arrival] = queue.Queue(MAXIMUM_WAITING)

    def accept() -> None:
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=_receive, args=(connection, waiting), daemon=True).start()

    def handle() -> None:
        while True:
            heard(waiting.get())

    for target in (accept, handle):
        threading.Thread(target=target, name=f"arrivals-{target.__name__}", daemon=True).start()


def _receive(connection: socket.socket, waiting: "queue.Queue[Arrival]") -> None:
    """What one worker tells. When too much waits the packets do, and then the worker keeps them to itself."""
    with connection, contextlib.suppress(OSError):
        while packet := connection.recv(MAXIMUM_PACKET_BYTES):
            waiting.put(Arrival(**json.loads(packet)))
