"""The socket between those who receive and the forwarder: what is ready, and what became of it.

A Unix socket (SOCK_SEQPACKET: one JSON object per packet) in the state directory. A worker says

    {"ready": NAME, "size": N, "sop": UID, "id": ORTHANC_ID}        an acknowledged instance in `ready`
    {"deliver": PATH, "size": N, "sop": UID, "id": ORTHANC_ID}      `Acknowledge` "Stored": wanted now
    {"withdraw": PATH}                                              the deadline of a "deliver" is over
    {"rescan": true}                                                look into `ready` (after a reconnect)
    {"receives": true}                                              this connection is that of a worker
    {"barrier": N, "wanted": {...}, "lists": BOOLEAN}               is what could match a query where it is to go?
    {"missing": N, "from": I}                                       what is not (if it "lists"), from the Ith on
    {"forget": N}                                                   the "barrier" is over
    {"flushed": N}                                                  all that is acknowledged has been told

and hears {"outcome": PATH, "result": "delivered" | "refused" | "withdrawn", "reason": TEXT} for each "deliver",
{"barrier": N} when it is, {"missing": N, "instances": [...], "is_all": BOOLEAN, "is_known": BOOLEAN}: identifiers,
some at a time ("is_known" unless a worker has not said yet what it acknowledged, or `ready` was not looked through),
and {"flush": N}: tell what is acknowledged. With "ready" and "deliver" go Patient ID, Study and Series Instance UID and
Accession Number too ("patient", "study", "series", "accession").
A message lost with the connection loses nothing: the folder is the truth, and a new connection starts with a rescan.
"""

import contextlib
import itertools
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gateway import waiting
from gateway.log import get_logger
from gateway.spool import ORTHANC, Delivery, destination_of

SOCKET_NAME: Final = "forwarder.sock"
MAXIMUM_MESSAGE_BYTES: Final = 64 * 1024
RECONNECT_DELAY_S: Final = 0.2
SEND_TIMEOUT_S: Final = 2.0
# After its deadline an instance that is on the wire right now is waited for this long.
IN_FLIGHT_GRACE_S: Final = 5.0
# The forwarder answers from memory.
LIST_TIMEOUT_S: Final = 2.0

Result = Literal["delivered", "refused", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an instance that was to be delivered at once."""

    result: Result
    reason: str = ""


def late_reason(path: Path) -> str:
    """What is said of an instance that is withdrawn."""
    return f"{destination_of(path.name) or 'Orthanc'} did not take it in time"


Identifiers = tuple[str, str, str, str, str]
"""SOP Instance UID, Patient ID, Study and Series Instance UID, Accession Number."""


def identifiers_of(delivery: Delivery) -> Identifiers:
    """What is known of an instance, "" for what is not; without spaces, which do not matter to a query."""
    return (
        delivery.sop_instance_uid,
        delivery.patient_id.strip(),
        delivery.study_instance_uid,
        delivery.series_instance_uid,
        delivery.accession_number.strip(),
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a query could match, by unique keys; of a key without values anything."""

    patient_ids: frozenset[str] = frozenset()
    study_instance_uids: frozenset[str] = frozenset()
    series_instance_uids: frozenset[str] = frozenset()
    sop_instance_uids: frozenset[str] = frozenset()
    accession_numbers: frozenset[str] = frozenset()
    # Of what goes to the archive that is asked.
    destination: str = ORTHANC

    def may_be(self, delivery: Delivery) -> bool:
        """Whether the query could match this instance; an identifier that is not known could be any."""
        return self.may_have(identifiers_of(delivery))

    def may_have(self, identifiers: "Identifiers") -> bool:
        """As `may_be`."""
        wanted = (
            self.sop_instance_uids,
            self.patient_ids,
            self.study_instance_uids,
            self.series_instance_uids,
            self.accession_numbers,
        )
        pairs = zip(wanted, identifiers, strict=True)
        return all(not values or not known or known in values for values, known in pairs)

    def to_json(self) -> dict[str, Any]:
        """As it travels."""
        return {name: sorted(getattr(self, name)) for name in _KEYS} | {"destination": self.destination}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Wanted":
        """As it came."""
        return cls(**{name: frozenset(values[name]) for name in _KEYS}, destination=values["destination"])


_KEYS: Final = tuple(name for name in Wanted.__slots__ if name != "destination")


class _Barrier:
    """One that is waited for. Asked for again when the connection was lost, or was not there yet."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.message = message
        self.answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def next_answer(self, timeout_s: float, kind: str = "barrier") -> dict[str, Any] | None:
        """The next answer of a kind; None when it does not come in time."""
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(queue.Empty):
            while True:
                answer = waiting.get(self.answers, max(0.0, deadline - time.monotonic()))
                if kind in answer:
                    return answer
        return None


class DeliveryClient:
    """A worker's connection to the forwarder. Thread-safe; reconnects by itself."""

    def __init__(self, state_directory: Path, *, receives: bool = False) -> None:
        """`receives`: it is a worker's, which acknowledges instances."""
        self._receives = receives
        self._address = str(state_directory / SOCKET_NAME)
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._waiting: dict[str, queue.SimpleQueue[Outcome]] = {}
        self._pending: dict[str, dict[str, Any]] = {}
        # Acknowledged, or about to be, and not told yet; and what a flush has told in the meantime.
        self._untold: dict[Path, Delivery] = {}
        self._told: set[Path] = set()
        self._numbers = itertools.count(1)
        self._barriers: dict[int, _Barrier] = {}
        self._stopped = threading.Event()
        self._log = get_logger()
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)
        self._thread.start()

    def expect(self, delivery: Delivery) -> None:
        """`delivery` is in `ready`, and `ready` will be called once the sender has its answer."""
        with self._lock:
            self._untold[delivery.path] = delivery

    def ready(self, delivery: Delivery) -> None:
        """Say that `delivery` is in `ready`. Never fails: if nobody hears it, the next rescan finds it."""
        with self._lock:
            self._untold.pop(delivery.path, None)
            if delivery.path in self._told:
                self._told.discard(delivery.path)
                return
        self._send(_describe("ready", delivery.path.name, delivery))

    def wait_for(self, wanted: Wanted, timeout_s: float) -> bool:
        """Wait until all that was acknowledged before, by any worker, and that a query could match is delivered or
        has failed; False when that takes longer than `timeout_s`."""
        with self._barrier(wanted) as (number, barrier):
            has_arrived = barrier.next_answer(timeout_s) is not None
            if not has_arrived:
                self._send({"forget": number})
        return has_arrived

    def wait_and_list(self, wanted: Wanted, timeout_s: float, *, must_know: bool = False) -> list[Identifiers] | None:
        """As `wait_for`; then what is not delivered: late, or refused just now.

        None when the forwarder does not say; with `must_know` also when it says what it knows, and cannot know all.
        """
        missing: list[Identifiers] = []
        with self._barrier(wanted, lists=True) as (number, barrier):
            barrier.next_answer(timeout_s)
            try:
                while True:
                    self._send({"missing": number, "from": len(missing)})
                    answer = barrier.next_answer(LIST_TIMEOUT_S, "missing")
                    if answer is None or (must_know and not answer["is_known"]):
                        return None
                    missing += map(tuple, answer["instances"])
                    if answer["is_all"]:
                        return missing
            finally:
                self._send({"forget": number})

    @contextlib.contextmanager
    def _barrier(self, wanted: Wanted, *, lists: bool = False) -> Iterator[tuple[int, "_Barrier"]]:
        number = next(self._numbers)
        barrier = _Barrier({"barrier": number, "wanted": wanted.to_json(), "lists": lists})
        with self._lock:
            self._barriers[number] = barrier
        try:
            self._flush()
            self._send(barrier.message)
            yield number, barrier
        finally:
            with self._lock:
                del self._barriers[number]

    def deliver(self, delivery: Delivery, deadline_s: float) -> Outcome:
        """Have `delivery` (in `incoming`) stored where it is to go now; wait at most `deadline_s`, and a grace if
        it is being sent just then. After any result but "delivered" it will not be sent any more."""
        path = str(delivery.path)
        answers: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        message = _describe("deliver", path, delivery)
        with self._lock:
            self._waiting[path] = answers
            self._pending[path] = message
        self._send(message)
        try:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=deadline_s)
            with self._lock:
                self._pending[path] = {"withdraw": path}
            self._send({"withdraw": path})
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=IN_FLIGHT_GRACE_S)
            return Outcome("withdrawn", late_reason(delivery.path))
        finally:
            with self._lock:
                del self._waiting[path]
                del self._pending[path]

    def close(self) -> None:
        """Stop."""
        self._stopped.set()
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def _flush(self) -> None:
        with self._lock:
            untold, self._untold = self._untold, {}
            self._told.update(untold)
        for delivery in untold.values():
            self._send(_describe("ready", delivery.path.name, delivery))

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        with self._lock:
            if self._connection is None:
                return
            try:
                self._connection.send(data)
            except OSError as error:
                self._log.warning("the forwarder does not listen; it will find the instance itself", reason=str(error))
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
                self._connection = None

    def _run(self) -> None:
        while not self._stopped.is_set():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                connection.connect(self._address)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SEND_TIMEOUT_S))
                self._listen(connection)
            except OSError:
                self._stopped.wait(RECONNECT_DELAY_S)  # it is being started
            finally:
                with self._lock:
                    if self._connection is connection:
                        self._connection = None
                connection.close()

    def _listen(self, connection: socket.socket) -> None:
        with self._lock:
            if self._receives:
                connection.send(json.dumps({"receives": True}).encode())
            connection.send(json.dumps({"rescan": True}).encode())
            for message in (*self._pending.values(), *(barrier.message for barrier in self._barriers.values())):
                connection.send(json.dumps(message).encode())
            self._connection = connection
        while packet := connection.recv(MAXIMUM_MESSAGE_BYTES):
            self._hear(json.loads(packet))

    def _hear(self, message: dict[str, Any]) -> None:
        if "flush" in message:
            self._flush()
            self._send({"flushed": message["flush"]})
            return
        with self._lock:
            barrier = self._barriers.get(message.get("barrier", message.get("missing", 0)))
            outcomes = self._waiting.get(message.get("outcome", ""))
        if barrier is not None:
            barrier.answers.put(message)
        if outcomes is not None:
            outcomes.put(Outcome(message["result"], message["reason"]))


def _timeval(seconds: float) -> bytes:
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def _describe(verb: str, name: str, delivery: Delivery) -> dict[str, Any]:
    return {
        verb: name,
        "size": delivery.size,
        "sop": delivery.sop_instance_uid,
        "id": delivery.orthanc_id,
        "patient": delivery.patient_id,
        "study": delivery.study_instance_uid,
        "series": delivery.series_instance_uid,
        "accession": delivery.accession_number,
    }


def request_rescan(state_directory: Path) -> bool:
    """Ask a running forwarder to look into `ready`; False when none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(SEND_TIMEOUT_S)
        try:
            connection.connect(str(state_directory / SOCKET_NAME))
            connection.send(json.dumps({"rescan": True}).encode())
        except OSError:
            return False
    return True
