"""Calls a script's OnChange callback with what Orthanc's change log says (GET /changes), one change after the other.

The change log has no DELETED, no jobs, peers and modalities. ORTHANC_STARTED is said when Orthanc answers for the
first time, ORTHANC_STOPPED when the gateway ends. What changed while the script did not run is not said later.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any, Final

from gateway.log import get_logger
from gateway.script_host.api.enumerations import ENUMERATIONS
from gateway.script_host.api.errors import OrthancException
from gateway.script_host.api.rest import RestApi

INTERVAL_S: Final = 1.0
RETRY_S: Final = 5.0
CHANGES_AT_ONCE: Final = 200
# The gateway does not wait longer for a callback when it ends.
STOP_TIMEOUT_S: Final = 5.0

_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_CHANGES: Final = ENUMERATIONS["ChangeType"]
_RESOURCES: Final = ENUMERATIONS["ResourceType"]


class ChangeFollower:
    """The thread that asks and calls."""

    def __init__(self, rest: RestApi, callback: Callable[[int, int, str], Any]) -> None:
        self._rest = rest
        self._callback = callback
        self._stopping = threading.Event()
        self._is_started = False
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
        last: int | None = None
        while not self._stopping.is_set():
            delay_s = INTERVAL_S
            try:
                last = self._look(last)
            except (OrthancException, ValueError, KeyError, TypeError):
                delay_s = RETRY_S  # Orthanc does not answer
            self._stopping.wait(delay_s)
        if self._is_started:
            self._call(_CHANGES["ORTHANC_STOPPED"], _RESOURCES["NONE"], "")

    def _look(self, last: int | None) -> int:
        """Call for each change after `last`; return the number of the last one. Raises OrthancException."""
        if last is None:
            last = int(json.loads(self._rest.get("/changes?last"))["Last"])
            self._is_started = True
            self._call(_CHANGES["ORTHANC_STARTED"], _RESOURCES["NONE"], "")
        done = False
        while not done and not self._stopping.is_set():
            answer = json.loads(self._rest.get(f"/changes?since={last}&limit={CHANGES_AT_ONCE}"))
            for change in answer["Changes"]:
                last = int(change["Seq"])
                kind, level = _value(_CHANGES, change["ChangeType"]), _value(_RESOURCES, change["ResourceType"])
                if kind is not None and level is not None:
                    self._call(kind, level, str(change["ID"]))
            done = bool(answer["Done"])
        return last

    def _call(self, kind: int, level: int, identifier: str) -> None:
        try:
            self._callback(kind, level, identifier)
        except BaseException as error:  # noqa: BLE001 - whatever a script raises, SystemExit too, is its own fault
            self._log.error("the OnChange callback of the script failed", exc_info=error)


def _value(names: dict[str, int], name: str) -> int | None:
    return names.get(_WORDS.sub("_", name).upper())
