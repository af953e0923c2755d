"""The query index of one process: candidates of queries, while it is certain that none is missing.

Before each query Orthanc is asked for the last entry of its log of changes. What is new is read from there on and
written down; then the index has all that Orthanc has, and what Orthanc has deleted. The latter does no harm: what is
answered is what Orthanc says of the candidates. In doubt the query goes to Orthanc, and the index is filled anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.archive.index.changes import NEW_SERIES, NEW_STUDY, Change, Changes
from gateway.archive.index.file import BUSY_TIMEOUT_S, FILE_NAME, SEEN_CHANGES, Filled, IndexFile
from gateway.archive.index.narrowing import Narrowing, narrow
from gateway.archive.interface import ArchiveUnavailable, Level, Query, TooBroad
from gateway.archive.orthanc_resources import OrthancResources
from gateway.archive.rest import OrthancRest
from gateway.archive.unchanged import LOG_SUFFIX
from gateway.dicom.part10 import orthanc_id
from gateway.log import get_logger

LOCK_NAME: Final = "query-index.lock"
# Studies with their series in two requests: 4 ms for Orthanc, in which it does little else.
STUDIES_AT_ONCE: Final = 50
# Between two requests Orthanc is left alone for as long as one took.
FILL_PAUSE: Final = 1.0
CHANGES_AT_ONCE: Final = 1000
# So much of the time goes into filling the index anew at most, however often it is in doubt.
DOUBT_SHARE: Final = 0.05
LEAST_REFILL_INTERVAL_S: Final = 1.0
# It is also filled anew now and then: what Orthanc deleted is forgotten, and what it has read anew from its files
# (`/studies/{id}/reconstruct`), of which it tells nobody, is seen.
AGE_SHARE: Final = 0.005
LEAST_AGE_S: Final = 3600.0
# Of more candidates Orthanc itself is asked, if a part of the query is left that it can narrow down further.
MAXIMUM_FURTHER: Final = 500


class _Doubt(Exception):
    """The index may lack something. The text is for the log."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Orthanc's identifiers of resources of `level`. For a query of level IMAGE they may be series: all of theirs."""

    level: Level
    identifiers: list[str]


class QueryIndex:
    """Used by several threads. All processes of a gateway share the file."""

    def __init__(self, rest: OrthancRest, state_directory: Path, *, ends_with_orthanc: bool) -> None:
        """`ends_with_orthanc`: Orthanc cannot be restarted without this gateway being restarted too."""
        self._rest = rest
        self._changes = Changes(rest)
        self._resources = OrthancResources(rest)
        self._ends_with_orthanc = ends_with_orthanc
        self._path = state_directory / FILE_NAME
        self._lock_path = state_directory / LOCK_NAME
        self._lock = threading.Lock()
        self._file: IndexFile | None = None
        self._wanted = threading.Event()
        self._usable = True
        self._log = get_logger()

    @property
    def paths(self) -> tuple[Path, Path]:
        """The files that are written when the index changes."""
        return self._path, self._path.with_name(FILE_NAME + LOG_SUFFIX)

    def start(self) -> None:
        """Fill it in the background, now and whenever it is in doubt. Until then no query is answered from it."""
        self._wanted.set()
        threading.Thread(target=self._run, name="query-index", daemon=True).start()

    def candidates(self, query: Query) -> Candidates | None:
        """What of Orthanc may match; None when Orthanc's own index is to be asked. Raises ArchiveUnavailable."""
        narrowing = narrow(query) if self._usable else None
        if narrowing is None:
            return None
        last = self._changes.last()
        # another query of this process may be waiting for Orthanc, or for another process that writes
        if last is None or not self._lock.acquire(timeout=BUSY_TIMEOUT_S):
            return None
        try:
            found = self._find(narrowing, last)
        except _Doubt as doubt:
            self._give_up(str(doubt))
            return None
        except (sqlite3.Error, OSError) as error:
            self._log.warning("the query index cannot be used; Orthanc is asked", reason=str(error))
            return None
        finally:
            self._lock.release()
        return None if found is None else _located(narrowing, found)

    def _find(self, narrowing: Narrowing, last: Change) -> list[Any] | None:
        if self._file is None:
            self._file = IndexFile(self._path)
        file = self._file
        with file.transaction(writes=False):
            filled = file.filled()
            if _is_due(filled):
                self._wanted.set()
            if filled is None or not filled.is_certain:
                return None
            if self._is_current(file, last):
                return file.find(narrowing)
        with file.transaction(writes=True):
            filled = file.filled()
            is_current = filled is not None and filled.is_certain and self._follow(file)
            found = file.find(narrowing) if is_current else None
        if not is_current:
            self._wanted.set()  # too much at once for one query
        return found

    def _is_current(self, file: IndexFile, last: Change) -> bool:
        """Whether the index has all that Orthanc had when `last` was the end of its log."""
        newest = file.newest_seen()
        if newest is None or last.number > newest.number:
            return False
        if last == newest:
            return True
        # Perhaps another process has written down more since `last` was asked for.
        later = self._changes.last()
        if later is None:
            raise _Doubt("Orthanc's log of changes was emptied")
        if later == newest or later.number > newest.number:
            return later == newest
        # The log became shorter. What came last was deleted; or it is an older state of the database, in which other
        # things may be there again, but then Orthanc was started anew.
        if self._ends_with_orthanc:
            return True
        raise _Doubt("the end of Orthanc's log of changes is another one")

    def _follow(self, file: IndexFile) -> bool:
        """Write down a part of what is new; return whether that was all of it."""
        newest = file.newest_seen()
        if newest is None:
            raise _Doubt("nothing is known of Orthanc's log of changes")
        changes, is_all = self._changes.since(newest.number - 1, CHANGES_AT_ONCE)
        if not changes or changes[0] != newest:
            self._check_log(file, newest)
        new = [change for change in changes if change.number > newest.number]
        studies = [change.resource for change in new if change.kind == NEW_STUDY]
        series = [change.resource for change in new if change.kind == NEW_SERIES]
        file.put(self._resources.bulk(Level.STUDY, studies), self._resources.bulk(Level.SERIES, series))
        file.see(new)
        return is_all

    def _check_log(self, file: IndexFile, newest: Change) -> None:
        """The newest known entry is gone: with what it was about, or with all others. Raises _Doubt."""
        oldest = None if self._ends_with_orthanc else file.oldest_seen()
        after, limit = (0, 1) if oldest is None else (oldest.number - 1, SEEN_CHANGES)
        known = [change for change in self._changes.since(after, limit)[0] if change.number <= newest.number]
        if not known:  # what is logged after `DELETE /changes` has higher numbers
            raise _Doubt("Orthanc's log of changes was emptied")
        if oldest is not None and not all(map(file.has_seen, known)):
            raise _Doubt("Orthanc's log of changes is another one")

    def _give_up(self, reason: str) -> None:
        self._log.info("the query index is given up until it is filled anew; Orthanc is asked", reason=reason)
        try:
            if self._file is not None:
                with self._file.transaction(writes=True):
                    self._file.doubt()
        except sqlite3.Error as error:
            self._log.warning("the query index cannot be used; Orthanc is asked", reason=str(error))
        self._wanted.set()

    def _run(self) -> None:
        while self._usable:
            self._wanted.wait()
            self._wanted.clear()
            try:
                with self._only_one() as is_ours:
                    if is_ours:
                        self._complete()
            except (ArchiveUnavailable, TooBroad, sqlite3.Error, OSError) as error:
                self._log.info("the query index cannot be filled; Orthanc is asked", reason=str(error))
                time.sleep(LEAST_REFILL_INTERVAL_S)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[bool]:
        """Whether it is this process that fills the index. The lock of a process that dies is free."""
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(fd)

    def _complete(self) -> None:
        """Fill the index if that is due, or catch up with Orthanc."""
        file = IndexFile(self._path)
        try:
            filled = file.filled()
            if filled is not None and not _is_due(filled):
                self._catch_up(file)
                return
            if filled is not None:
                interval = max(LEAST_REFILL_INTERVAL_S, filled.seconds / DOUBT_SHARE)
                time.sleep(min(interval, max(0.0, filled.at + interval - time.time())))
            last = self._changes.last()
            if last is not None and self._can_be_followed():
                self._fill(file, last)
        finally:
            file.close()

    def _catch_up(self, file: IndexFile) -> None:
        is_current = False
        while not is_current:
            with file.transaction(writes=True):
                try:
                    is_current = self._follow(file)
                except _Doubt:
                    return  # the next query finds the same, and says so

    def _can_be_followed(self) -> bool:
        """Only Orthanc's own database numbers changes in the order in which they can be seen."""
        backend = (self._rest.get("/system") or {}).get("DatabaseBackendPlugin")
        if backend is None:
            return True
        self._log.info("no query index: Orthanc's database is a plugin", plugin=backend)
        self._usable = False
        return False

    def _fill(self, file: IndexFile, last: Change) -> None:
        started = time.monotonic()
        # Not only the last: what it is about may be deleted soon.
        before, _is_all = self._changes.since(max(0, last.number - SEEN_CHANGES), SEEN_CHANGES)
        before = [change for change in before if change.number <= last.number]
        identifiers = self._rest.get("/studies")
        if not isinstance(identifiers, list):
            raise ArchiveUnavailable("Orthanc's answer is no list")
        with file.transaction(writes=True):
            file.clear()
        for start in range(0, len(identifiers), STUDIES_AT_ONCE):
            asked = time.monotonic()
            part = identifiers[start : start + STUDIES_AT_ONCE]
            studies, series = (self._resources.bulk(level, part) for level in (Level.STUDY, Level.SERIES))
            with file.transaction(writes=True):
                file.put(studies, series)
            time.sleep((time.monotonic() - asked) * FILL_PAUSE)
        seconds = time.monotonic() - started
        with file.transaction(writes=True):
            file.see(before)
            file.complete(time.time(), seconds)
        self._log.info("the query index is filled", seconds=round(seconds, 3), **file.counts())


def _is_due(filled: Filled | None) -> bool:
    if filled is None or not filled.is_certain:
        return True
    # less than nothing: the clock was set back
    return not 0 <= time.time() - filled.at <= max(LEAST_AGE_S, filled.seconds / AGE_SHARE)


def _located(narrowing: Narrowing, found: list[Any]) -> Candidates | None:
    """What was found, as Orthanc knows it; None if Orthanc finds less."""
    if not narrowing.is_complete and len(found) > MAXIMUM_FURTHER:
        return None
    if narrowing.level is not Level.IMAGE:
        return Candidates(narrowing.level, found)
    if not narrowing.sop_instance_uids:
        return Candidates(Level.SERIES, [row[0] for row in found])
    if len(found) * len(narrowing.sop_instance_uids) > MAXIMUM_FURTHER:
        return None
    identifiers = []
    for identifier, series_uid, study_uid, patient_id in found:
        if orthanc_id(patient_id, study_uid, series_uid) != identifier:
            return None  # Orthanc made it from other text than what is in its index
        identifiers += [
            orthanc_id(patient_id, study_uid, series_uid, sop_instance_uid)
            for sop_instance_uid in narrowing.sop_instance_uids
        ]
    return Candidates(Level.IMAGE, identifiers)
