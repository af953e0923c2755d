"""Instances that were acknowledged and refused for good: the spool keeps them in `failed`."""

import contextlib
import os
import threading
from collections.abc import Iterable

from gateway.dicom.part10 import Part10Error, read_meta
from gateway.spool import ORTHANC, Spool, destination_of


class UndeliveredInstances:
    """The SOP Instance UIDs in `failed`. Each file is read once. Thread-safe."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def among(self, sop_instance_uids: Iterable[str], destination: str = ORTHANC) -> set[str]:
        """Those of `sop_instance_uids` of which an instance for `destination` is kept in `failed`."""
        with self._lock:
            names = self._spool.names(self._spool.failed)
            self._known = {name: self._known.get(name) or self._read(name) for name in names}
            refused = {uid for name, uid in self._known.items() if destination_of(name) == destination}
            return refused & set(sop_instance_uids)

    def _read(self, name: str) -> str:
        with contextlib.suppress(OSError, Part10Error):  # sent again, or discarded, just now
            fd = os.open(self._spool.failed / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return read_meta(fd)[0].sop_instance_uid
            finally:
                os.close(fd)
        return ""
