"""What was acknowledged and refused for good: the files in `failed`, found by what queries ask for."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from gateway.deliveries import Wanted
from gateway.dicom.part10 import Part10Error
from gateway.dicom.structure import StructureError
from gateway.forwarding.identify import read_delivery
from gateway.forwarding.pending import Pending
from gateway.spool import Delivery, Spool


class RefusedInstances:
    """Thread-safe. What is sent again or discarded is no longer among them."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._known = Pending()

    def load(self) -> None:
        """Read all that is in `failed`."""
        for name in self._spool.names(self._spool.failed):
            self.add(name)

    def add(self, name: str) -> None:
        """One more was refused; nothing if it is not kept, because nobody was told that it is safe."""
        with contextlib.suppress(OSError, Part10Error, StructureError):
            delivery = read_delivery(self._spool.failed / name)
            with self._lock:
                if delivery.path not in self._known:
                    self._known.add(delivery)

    def matching(self, wanted: Wanted) -> list[Delivery]:
        """All that a query could match."""
        with self._lock:
            known = [one for one in self._known.matching(wanted) if one.destination == wanted.destination]
            return [delivery for delivery in known if self._is_there(delivery.path)]

    def _is_there(self, path: Path) -> bool:
        if path.exists():
            return True
        self._known.remove(path)
        return False
