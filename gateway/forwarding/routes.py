"""Which destination an instance goes to: by its name in the spool."""

import time
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

from gateway.deliveries import late_reason
from gateway.forwarding.destination import Destination, OnOutcome
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.queue import DeliveryQueue
from gateway.log import get_logger
from gateway.spool import ORTHANC, Delivery, Spool, destination_of


class Routes:
    """All destinations of one spool. Thread-safe."""

    def __init__(
        self,
        spool: Spool,
        destinations: Mapping[str, Destination],
        title_of: Callable[[str], str | None],
        on_outcome: OnOutcome,
    ) -> None:
        """`destinations` by AE title, Orthanc under ORTHANC. `title_of` a DICOMweb server, as the configuration
        writes it now; None: there is none."""
        self._spool = spool
        self._destinations = destinations
        self._title_of = title_of
        self._on_outcome = on_outcome
        self._log = get_logger()

    def add(self, delivery: Delivery, *, urgent: bool = False) -> None:
        """Queue a delivery where it is to go."""
        destination = self._of(delivery.path)
        if destination is None:
            self._strand(delivery.path)
        else:
            destination.queue.add(delivery, urgent=urgent)

    def rescan(self) -> None:
        """Queue what is in `ready` and not known."""
        for name in self._spool.names(self._spool.ready):
            path = self._spool.ready / name
            destination = self._of(path)
            if destination is None:
                self._strand(path)
            else:
                destination.notice(path)

    def withdraw(self, path: Path) -> None:
        """Nobody waits for `path` any more."""
        destination = self._of(path)
        if destination is None or destination.queue.withdraw(path) or path not in destination.queue:
            self._on_outcome(path, "withdrawn", late_reason(path))
        else:
            destination.do_not_retry(path)

    def queue_of(self, title: str) -> DeliveryQueue | None:
        """The queue of a destination; None: there is none of this AE title."""
        destination = self._destinations.get(title)
        return destination.queue if destination is not None else None

    def delivered(self) -> dict[str, list[str]]:
        """Names in `delivered`, by the AE titles of destinations."""
        names: dict[str, list[str]] = {}
        for name in self._spool.names(self._spool.delivered):
            names.setdefault(self._title(name), []).append(name)
        return names

    def keep(self, kept: KeptDeliveries, delivered: Mapping[str, list[str]]) -> None:
        """At start: what was delivered to servers that are not configured any more goes when its time is over."""
        for name in chain.from_iterable(delivered.values()):
            path = self._spool.delivered / name
            kept.add(path, path.stat().st_size)

    def _of(self, path: Path) -> Destination | None:
        return self._destinations.get(self._title(path.name))

    def _title(self, name: str) -> str:
        title = destination_of(name)
        return title if title == ORTHANC else self._title_of(title) or title

    def _strand(self, path: Path) -> None:
        """It was accepted for an archive that the configuration has no more: it must not get into another one."""
        reason = f"the configuration has no {_what(destination_of(path.name))} any more"
        try:
            if path.parent == self._spool.ready:
                note = {"reason": reason, "attempts": 0, "failed_at": time.strftime("%FT%T%z")}
                self._spool.fail(path, note)
                self._log.error("an instance cannot be delivered; it is kept in failed", name=path.name, reason=reason)
        except OSError as error:
            self._log.error("the spool cannot be read or written", name=path.name, reason=str(error))
        self._on_outcome(path, "refused", reason)


def _what(destination: str) -> str:
    return "Orthanc" if destination == ORTHANC else f"DICOMweb server {destination}"
