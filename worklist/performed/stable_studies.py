"""Studies that Orthanc calls stable: `CompleteOnStableStudy`, and what `StartOnFirstInstance` may have missed.

Orthanc writes down each change with a number (GET /changes). How far they were read is kept in the database, in the
same transaction as what came of them. So it does not matter who dies when.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, delete, insert, select

from gateway.archive.index.changes import Changes
from gateway.archive.interface import ArchiveUnavailable, TooBroad
from gateway.archive.rest import OrthancRest
from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from worklist import store
from worklist.items import Status
from worklist.performed.images import Study, set_all, to_complete, to_start_late
from worklist.performed.tables import CHANGES_READ

STABLE_STUDY: Final = "StableStudy"
PAGE_CHANGES: Final = 1000
# Where Orthanc does not tell of stable studies. It calls them so after StableAge, a minute by default.
POLL_S: Final = 10.0
RETRY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class StableStudy:
    """A study, and the modalities of its series."""

    study: Study
    modalities: frozenset[str]


class StableStudies:
    """Reads Orthanc's changes; used by one thread."""

    def __init__(self, database: Database, rest: OrthancRest, gateway: str, *, starts: bool, completes: bool) -> None:
        """`gateway`: whose place in Orthanc's changes it is."""
        self._database = database
        self._rest = rest
        self._changes = Changes(rest)
        self._gateway = gateway
        self._starts = starts
        self._completes = completes
        self._log = get_logger()

    def run(self, wait: Callable[[], None]) -> None:
        """For ever. `wait` returns when there may be something new."""
        complained = False
        while True:
            try:
                self.look()
                complained = False
                wait()
            except (ArchiveUnavailable, TooBroad, DatabaseError) as error:
                if not complained:
                    self._log.error("stable studies cannot be read; it is tried again", reason=str(error))
                complained = True
                time.sleep(RETRY_S)

    def look(self) -> None:
        """Read all changes that there are. Raises ArchiveUnavailable, TooBroad, DatabaseError."""
        since = self._position()
        while True:
            changes, is_last = self._changes.since(since, PAGE_CHANGES)
            if not changes:
                return
            since = changes[-1].number
            stable = [change.resource for change in changes if change.kind == STABLE_STUDY]
            self._act(list(self._studies(stable)), since)
            if is_last:
                return

    def _position(self) -> int:
        """Where to go on; at the very first look, and in another database of Orthanc's, at the end."""
        newest = self._changes.last()
        last = newest.number if newest is not None else 0
        with self._database.read() as connection:
            read = connection.scalar(select(CHANGES_READ.c.sequence).where(CHANGES_READ.c.gateway == self._gateway))
        if read is None or read > last:
            with self._database.write(lock=store.LOCK) as connection:
                self._remember(connection, last)
            return last
        return int(read)

    def _studies(self, identifiers: list[str]) -> Iterator[StableStudy]:
        for identifier in dict.fromkeys(identifiers):
            uri = f"/studies/{quote(identifier, safe='')}"
            study, series = self._rest.get(uri), self._rest.get(f"{uri}/series")
            if study is None or series is None:
                continue  # deleted meanwhile
            try:
                tags, patient = study["MainDicomTags"], study["PatientMainDicomTags"]
                modalities = frozenset(str(one["MainDicomTags"].get("Modality", "")).strip() for one in series)
                yield StableStudy(
                    Study(
                        str(tags.get("StudyInstanceUID", "")).strip(),
                        str(tags.get("AccessionNumber", "")).strip(),
                        str(patient.get("PatientID", "")).strip(),
                    ),
                    modalities,
                )
            except (TypeError, KeyError, AttributeError) as error:
                raise ArchiveUnavailable(f"Orthanc's study {identifier} cannot be read") from error

    def _act(self, studies: list[StableStudy], last: int) -> None:
        change = store.Change.now("images")
        started: list[int] = []
        completed: list[int] = []
        with self._database.write(lock=store.LOCK) as connection:
            for one in studies:
                if self._starts:
                    late = to_start_late(connection, one.study, one.modalities)
                    started += set_all(connection, late, Status.STARTED, change, "images are in Orthanc")
                if self._completes:
                    done = to_complete(connection, one.study, one.modalities)
                    completed += set_all(connection, done, Status.COMPLETED, change, "stable study")
            self._remember(connection, last)
        if started or completed:
            self._log.info("stable studies", started=_listed(started), completed=_listed(completed))

    def _remember(self, connection: Connection, sequence: int) -> None:
        connection.execute(delete(CHANGES_READ).where(CHANGES_READ.c.gateway == self._gateway))
        connection.execute(insert(CHANGES_READ).values(gateway=self._gateway, sequence=sequence))


def _listed(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))
