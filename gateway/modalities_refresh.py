"""Asks Orthanc for its modalities, over and over: Orthanc 1.10.1 has no event for a change of them.

GET /modalities?expand takes Orthanc less than a millisecond. One thread of one process asks for the whole gateway.
"""

import time
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.forwarding.transports import Endpoint, HttpTransport, Unreachable
from gateway.log import get_logger
from gateway.modalities import KnownModalities, Modalities, ModalitiesError, configured_modalities, read_answer
from gateway.options.config import Configuration

URI: Final = "/modalities?expand"
TIMEOUT_S: Final = 10.0
LOGGED_NAMES: Final = 10


class ModalitiesRefresh:
    """The life of the thread that asks."""

    def __init__(self, configuration: Configuration, endpoint: Endpoint, *, in_orthanc: bool) -> None:
        self._interval_s = configuration.gateway.modalities_refresh
        self._configured = configured_modalities(configuration)
        self._known = KnownModalities(configuration)
        self._transport = HttpTransport(replace(endpoint, timeout_s=min(endpoint.timeout_s, TIMEOUT_S)))
        self._log = get_logger()
        self._last_answer: bytes | None = None
        self._in_trouble = False
        # Inside Orthanc both have the same file; on its own the gateway's file is a person's word of its own.
        self._own: Modalities = MappingProxyType({}) if in_orthanc else self._configured

    def run(self) -> None:
        """Ask for ever."""
        while True:
            self.ask()
            time.sleep(self._interval_s)

    def ask(self) -> None:
        """Ask once. While Orthanc does not answer, the list that is known remains."""
        try:
            answer = self._fetch()
            if answer != self._last_answer or not self._known.is_saved:
                self._take(answer)
                self._last_answer = answer
        except (Unreachable, ModalitiesError, OSError) as error:
            if not self._in_trouble:
                self._log.warning("no list of modalities from Orthanc; the last known one counts", reason=str(error))
            self._in_trouble = True
            return
        if self._in_trouble:
            self._in_trouble = False
            self._log.info("Orthanc answers with its modalities again")

    def _fetch(self) -> bytes:
        try:
            reply = self._transport.get(URI)
        except Unreachable:
            # Orthanc closes a connection after a second without request: it may just have done so.
            reply = self._transport.get(URI)
        if reply.http_status != 200:
            raise ModalitiesError(f"HTTP {reply.http_status}")
        return reply.body

    def _take(self, answer: bytes) -> None:
        theirs, useless = read_answer(answer, self._configured)
        modalities = MappingProxyType({**self._own, **theirs})
        if useless:
            self._log.warning("modalities of Orthanc that are not valid do not count", names=_names(set(useless)))
        before = self._known.current()
        if modalities != before or not self._known.is_saved:
            self._known.save(modalities)
            self._log_changes(before, modalities)

    def _log_changes(self, before: Modalities, after: Modalities) -> None:
        changes = {
            "added": after.keys() - before.keys(),
            "removed": before.keys() - after.keys(),
            "changed": {name for name in before.keys() & after.keys() if before[name] != after[name]},
        }
        if any(changes.values()):
            named = {kind: _names(names) for kind, names in changes.items() if names}
            self._log.info("modalities changed in Orthanc", **named)


def _names(names: set[str]) -> str:
    more = f" and {len(names) - LOGGED_NAMES} more" if len(names) > LOGGED_NAMES else ""
    return ", ".join(sorted(names)[:LOGGED_NAMES]) + more
