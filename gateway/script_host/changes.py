"""Calls a script's OnChange callback with what changes in Orthanc, one change after the other.

Inside Orthanc the glue relays all of Orthanc's events. A gateway on its own reads the change log (GET /changes), which
has no DELETED, no jobs, peers and modalities. ORTHANC_STARTED is said when the script begins to hear, ORTHANC_STOPPED
when the gateway ends. What changes while the script does not run is said later inside Orthanc only, up to a limit.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway.log import get_logger
from gateway.script_host.api.enumerations import ENUMERATIONS
from gateway.script_host.api.errors import OrthancException
from gateway.script_host.api.rest import RestApi
from gateway.script_host.process import in_this_process

INTERVAL_S: Final = 1.0
RETRY_S: Final = 5.0
CHANGES_AT_ONCE: Final = 200
MAXIMUM_PACKET_BYTES: Final = 4096
# The gateway does not wait longer for a callback when it ends.
STOP_TIMEOUT_S: Final = 5.0

_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_CHANGES: Final = ENUMERATIONS["ChangeType"]
_RESOURCES: Final = ENUMERATIONS["ResourceType"]

Change = tuple[int, int, str]
"""ChangeType, ResourceType, and Orthanc's identifier of the resource."""

STARTED: Final[Change] = (_CHANGES["ORTHANC_STARTED"], _RESOURCES["NONE"], "")
STOPPED: Final[Change] = (_CHANGES["ORTHANC_STOPPED"], _RESOURCES["NONE"], "")


class ChangeFollower:
    """The thread that listens and calls."""

    def __init__(
        self, source: Callable[[threading.Event], Iterator[Change]], callback: Callable[[int, int, str], Any]
    ) -> None:
        """`source`: `relayed` or `logged`, which end when the event is set."""
        self._source = source
        self._callback = callback
        self._stopping = threading.Event()
        self._log = get_logger()
        self._thread = threading.Thread(target=self._run, name="script-changes", daemon=True)

    def start(self) -> None:
        """Begin with what changes from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Say ORTHANC_STOPPED, and wait for the end of the callback, not for long."""
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        has_begun = False
        for change in self._source(self._stopping):
            has_begun = True
            self._call(*change)
        if has_begun:
            self._call(*STOPPED)

    def _call(self, kind: int, level: int, identifier: str) -> None:
        try:
            in_this_process(lambda: self._callback(kind, level, identifier))
        except BaseException as error:  # noqa: BLE001 - whatever a script raises, SystemExit too, is its own fault
            self._log.error("the OnChange callback of the script failed", exc_info=error)


def relayed(connection: socket.socket, stopping: threading.Event) -> Iterator[Change]:
    """What the glue hears: a packet for each change."""
    yield STARTED
    connection.settimeout(INTERVAL_S)
    while not stopping.is_set():
        try:
            packet = connection.recv(MAXIMUM_PACKET_BYTES)
        except TimeoutError:
            continue
        if not packet:
            return
        kind, level, identifier = json.loads(packet)
        yield int(kind), int(level), str(identifier)


def logged(rest: RestApi, stopping: threading.Event) -> Iterator[Change]:
    """What Orthanc's change log says from when it answers for the first time."""
    last: int | None = None
    while not stopping.is_set():
        delay_s = INTERVAL_S
        try:
            if last is None:
                last = int(json.loads(rest.get("/changes?last"))["Last"])
                yield STARTED
            answer = json.loads(rest.get(f"/changes?since={last}&limit={CHANGES_AT_ONCE}"))
            delay_s = INTERVAL_S if answer["Done"] else 0.0
            for change in answer["Changes"]:
                last = int(change["Seq"])
                kind, level = _value(_CHANGES, change["ChangeType"]), _value(_RESOURCES, change["ResourceType"])
                if kind is not None and level is not None:
                    yield kind, level, str(change["ID"])
        except (OrthancException, ValueError, KeyError, TypeError):
            delay_s = RETRY_S  # Orthanc does not answer
        stopping.wait(delay_s)


def _value(names: dict[str, int], name: str) -> int | None:
    return names.get(_WORDS.sub("_", name).upper())
