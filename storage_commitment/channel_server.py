"""The reporter's end of the socket (storage_commitment.channel)."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.database import DatabaseError
from gateway.log import get_logger
from storage_commitment.channel import MAXIMUM_MESSAGE_BYTES

# An association that is busy so long gets no report: it comes on a new one.
BEGIN_TIMEOUT_S: Final = 5.0
# A worker needs a moment more than its peer.
MARGIN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a report may be made."""

    connection: socket.socket
    association: str


class Channel:
    """Accepts workers. `report` may be called by several threads."""

    def __init__(
        self,
        address: Path,
        on_connection: Callable[[], None],
        on_received: Callable[[int], None],
        report_of: Callable[[str], bytes],
    ) -> None:
        """`on_connection`: somebody came or went; `on_received`: a request is answered; `report_of`: for Orthanc."""
        self._on_connection = on_connection
        self._on_received = on_received
        self._report_of = report_of
        self._lock = threading.Lock()
        self._places: dict[int, _Place] = {}
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._log = get_logger()
        address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(address))
        address.chmod(0o600)
        self._socket.listen(128)

    def run(self) -> None:
        """Accept for ever."""
        while True:
            connection, _address = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def report(self, number: int, timeout_s: float) -> str | None:
        """Have the report made on the association of its request; None if it was not, and a new one is needed.

        `timeout_s` is for the requester's response.
        """
        answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            place = self._places.get(number)
            if place is None:
                return None
            self._waiting[number] = answers
        order = {
            "report": number,
            "association": place.association,
            "until": time.monotonic() + BEGIN_TIMEOUT_S,
            "timeout": timeout_s,
        }
        try:
            place.connection.send(json.dumps(order).encode())
            answer = answers.get(timeout=BEGIN_TIMEOUT_S + MARGIN_S)
            if "begun" in answer:
                answer = answers.get(timeout=timeout_s + MARGIN_S)
        except (OSError, queue.Empty):
            answer = {"refusal": "its thread is busy"}
        finally:
            with self._lock:
                del self._waiting[number]
        if "text" not in answer:
            self._log.info(
                "not reported on the association of the request", number=number, reason=answer.get("refusal")
            )
            return None
        return str(answer["text"])

    def _serve(self, connection: socket.socket) -> None:
        self._on_connection()
        try:
            while packet := connection.recv(MAXIMUM_MESSAGE_BYTES):
                self._hear(json.loads(packet), connection)
        except (OSError, ValueError) as error:  # ValueError: a message that was cut off
            self._log.warning("lost a worker", reason=str(error))
        finally:
            self._forget(lambda place: place.connection is connection)
            # What it kept and could not tell any more is in the store.
            self._on_connection()
            connection.close()

    def _hear(self, message: dict[str, Any], connection: socket.socket) -> None:
        if "received" in message:
            number = int(message["received"])
            with self._lock:
                self._places.pop(number, None)
                if message["association"]:
                    self._places[number] = _Place(connection, message["association"])
            self._on_received(number)
        elif "ended" in message:
            self._forget(lambda place: place == _Place(connection, message["ended"]))
        elif "begun" in message or "outcome" in message:
            with self._lock:
                answers = self._waiting.get(int(message["begun"] if "begun" in message else message["outcome"]))
            if answers is not None:
                answers.put(message)
        elif "report_of" in message:
            self._answer(connection, message["report_of"])

    def _forget(self, is_over: Callable[[_Place], bool]) -> None:
        with self._lock:
            for number in [number for number, place in self._places.items() if is_over(place)]:
                del self._places[number]
                if number in self._waiting:
                    self._waiting[number].put({"outcome": number, "refusal": "the association has ended"})

    def _answer(self, connection: socket.socket, transaction_uid: str) -> None:
        try:
            content = self._report_of(transaction_uid)
        except DatabaseError as error:
            self._log.error("the database fails; Orthanc is not told of a report", reason=str(error))
            with contextlib.suppress(OSError):
                connection.send(json.dumps({"error": str(error)}).encode())
            return
        fd = os.memfd_create("report")
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(content)
            with contextlib.suppress(OSError):
                socket.send_fds(connection, [json.dumps({"size": len(content)}).encode()], [fd])
        finally:
            os.close(fd)
