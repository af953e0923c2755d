"""Folders of `.wl` files in the store: one item for each file, as long as the file is there.

A query reads no file. What a file looked like when it was read stands beside its item, so that only new and changed
files are read, after a restart too.
"""

import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, insert, select

from gateway.database import Database
from gateway.dicom.character_sets import CharacterSet
from gateway.log import get_logger
from gateway.matching.attributes import Attributes, Element
from gateway.options.worklist import WorklistFolder
from worklist import store
from worklist.completeness import describe, missing
from worklist.files import EXTENSION, FileError, read_file
from worklist.items import (
    WORKLIST_LABEL,
    Item,
    Status,
    keys_of,
    status_of,
)
from worklist.tables import FILES

# A file that was changed a moment ago may not be complete. One that cannot be read is given more time.
SETTLE_S: Final = 0.25
HALF_WRITTEN_S: Final = 5.0
# So many files are read, then written in one transaction.
BATCH_FILES: Final = 200

# Programs that write for DCMTK's wlmscpfs hold an exclusive lock on this file while they do.
LOCK_NAME: Final = "lockfile"

MAXIMUM_AE_TITLE_CHARACTERS: Final = 16


class _Known(NamedTuple):
    fingerprint: str
    # None: the file was refused.
    item: int | None


class _Read(NamedTuple):
    path: Path
    fingerprint: str
    attributes: Attributes


class FolderImport:
    """What is in the folders, and what of it is in the store."""

    def __init__(
        self, database: Database, gateway: str, folders: Sequence[WorklistFolder], default: CharacterSet
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._folders = folders
        self._default = default
        self._known: dict[Path, _Known] = {}
        # Since when files look as they do that are not read yet.
        self._fresh: dict[Path, tuple[str, float]] = {}
        # Directories with their partitions.
        self._directories: dict[Path, str] = {}
        self._unreadable: set[Path] = set()
        self._log = get_logger()

    def open(self) -> None:
        """Read what is in the store. Raises DatabaseError, as all that follows."""
        query = select(FILES.c.path, FILES.c.fingerprint, FILES.c.item).where(FILES.c.gateway == self._gateway)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        self._known = {Path(os.fsdecode(bytes(path))): _Known(text, item) for path, text, item in rows}

    def look(self) -> bool:
        """Look at everything; return False if a folder has to be looked into again, because it is being written to."""
        self._directories, unsure = self._find_directories()
        expected: dict[Path, set[Path]] = {directory: set() for directory in self._directories}
        gone = set()
        for path in {*self._known, *self._fresh}:
            if path.parent in expected:
                expected[path.parent].add(path)
            elif path.parent not in unsure:
                gone.add(path)
        self._forget(gone)
        done = [self._look_into(directory, paths) for directory, paths in expected.items()]
        return all(done)

    def look_at(self, paths: Collection[Path]) -> bool:
        """The same for these files; if there are subfolders among them, for everything."""
        roots = {folder.path for folder in self._folders if folder.partitions}
        if any(path in self._directories or (path.parent in roots and path.is_dir()) for path in paths):
            return self.look()
        by_directory: dict[Path, set[Path]] = {}
        for path in paths:
            if path.parent in self._directories:
                by_directory.setdefault(path.parent, set()).add(path)
        done = [
            self._look_into(directory, only, {path.name for path in only}) for directory, only in by_directory.items()
        ]
        return all(done)

    def fresh(self) -> set[Path]:
        """The files that have to be looked at again soon, because they may not be complete yet."""
        return set(self._fresh)

    def _find_directories(self) -> tuple[dict[Path, str], set[Path]]:
        """Directories with the partition of each, and those of which nothing is known at the moment."""
        found: dict[Path, str] = {}
        unsure: set[Path] = set()
        for folder in self._folders:
            found[folder.path] = ""
            if not folder.partitions:
                continue
            try:
                with os.scandir(folder.path) as entries:
                    names = [entry.name for entry in entries if _names_ae_title(entry.name) and entry.is_dir()]
            except FileNotFoundError:
                continue
            except OSError:
                unsure |= {path.parent for path in self._known if path.parent.parent == folder.path}
            else:
                found |= {folder.path / name: name for name in names}
        return found, unsure

    def _look_into(self, directory: Path, expected: set[Path], names: Collection[str] | None = None) -> bool:
        """Read what is new or changed in a directory (of `names` only), forget what of `expected` is gone."""
        with _reading(directory) as allowed:
            if not allowed:
                return False
            try:
                found = self._fingerprints(directory, _names_in(directory) if names is None else names)
            except OSError as error:
                if directory not in self._unreadable:
                    reason = error.strerror or str(error)
                    self._log.error("cannot read a folder of worklist files", folder=str(directory), reason=reason)
                self._unreadable.add(directory)
                # What cannot be read at the moment may be there still.
                if not isinstance(error, FileNotFoundError):
                    return True
                found = {}
            else:
                self._unreadable.discard(directory)
            self._forget(expected - found.keys())
            self._read_all(found, self._directories[directory])
        return True

    def _fingerprints(self, directory: Path, names: Collection[str]) -> dict[Path, tuple[str, float]]:
        """How the files look, and when they were last written."""
        found: dict[Path, tuple[str, float]] = {}
        for name in names:
            if name.startswith(".") or not name.lower().endswith(EXTENSION):
                continue
            try:
                status = (directory / name).stat()
            except FileNotFoundError:
                continue  # deleted meanwhile
            if not stat.S_ISREG(status.st_mode):
                continue
            parts = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            how = (self._directories[directory], *self._default.terms)
            found[directory / name] = " ".join(map(str, (*parts, *how))), status.st_mtime
        return found

    def _read_all(self, found: dict[Path, tuple[str, float]], partition: str) -> None:
        changed = (
            (path, fingerprint, written)
            for path, (fingerprint, written) in found.items()
            if path not in self._known or self._known[path].fingerprint != fingerprint
        )
        while batch := list(islice(changed, BATCH_FILES)):
            read = [self._read(path, fingerprint, written, partition) for path, fingerprint, written in batch]
            self._store([one for one in read if one is not None])

    def _read(self, path: Path, fingerprint: str, written: float, partition: str) -> _Read | None:
        """The item in a file; None if it is not complete yet, or refused."""
        now = time.monotonic()
        seen, since = self._fresh.get(path, ("", now))
        if seen != fingerprint:
            since = now
        # Clocks of file servers go wrong: what looks the same for long enough is complete.
        age = max(time.time() - written, now - since)
        self._fresh[path] = fingerprint, since
        if age < SETTLE_S:
            return None
        try:
            attributes = read_file(path, self._default)
        except FileError as error:
            if age >= HALF_WRITTEN_S:
                self._refuse(path, fingerprint, str(error))
            return None
        del self._fresh[path]
        if lacking := missing(attributes):
            self._log.warning("worklist file lacks what it should have", file=str(path), missing=describe(lacking))
        if partition:
            attributes[WORKLIST_LABEL] = Element("LO", partition)
        return _Read(path, fingerprint, attributes)

    def _refuse(self, path: Path, fingerprint: str, reason: str) -> None:
        self._forget({path})
        self._known[path] = _Known(fingerprint, None)
        self._log.warning("worklist file refused", file=str(path), reason=reason)

    def _store(self, files: Sequence[_Read]) -> None:
        if not files:
            return
        with self._database.write(lock=store.LOCK) as connection:
            numbers = [self._store_one(connection, file) for file in files]
        self._known |= {
            file.path: _Known(file.fingerprint, number) for file, number in zip(files, numbers, strict=True)
        }
        self._log.info("worklist files read", files=len(files))

    def _store_one(self, connection: Connection, file: _Read) -> int:
        name = f"file {_printable(file.path)}"
        change, status = store.Change.now(name), status_of(file.attributes) or Status.SCHEDULED
        known = self._known.get(file.path)
        item = store.get(connection, known.item) if known is not None and known.item is not None else None
        if item is not None and not _is_same(item, file.attributes):
            store.remove(connection, [item.id])
            item = None
        if item is None:
            item = store.add(connection, file.attributes, change, origin=name, status=status)
        else:
            item = store.replace(connection, item, file.attributes, change)
            # A file goes on saying SCHEDULED, or nothing, while the examination is performed.
            if status is not Status.SCHEDULED:
                item = store.set_status(connection, item, status, change)
        connection.execute(delete(FILES).where(FILES.c.item == item.id))
        values = {"gateway": self._gateway, "path": os.fsencode(file.path), "fingerprint": file.fingerprint}
        connection.execute(insert(FILES).values(item=item.id, **values))
        return item.id

    def _forget(self, paths: Collection[Path]) -> None:
        """Remove the items of files that are gone or refused."""
        numbers = [number for path in paths if (number := self._known[path].item if path in self._known else None)]
        for start in range(0, len(numbers), BATCH_FILES):
            with self._database.write(lock=store.LOCK) as connection:
                store.remove(connection, numbers[start : start + BATCH_FILES])
        for path in paths:
            self._known.pop(path, None)
            self._fresh.pop(path, None)
        if numbers:
            self._log.info("items of worklist files removed", files=len(numbers))


def _names_in(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _names_ae_title(name: str) -> bool:
    """PS3.5 6.2, VR AE; a folder that begins with a dot is hidden."""
    printable = all(" " <= character <= "~" and character != "\\" for character in name)
    return printable and not name.startswith(".") and len(name) <= MAXIMUM_AE_TITLE_CHARACTERS


@contextmanager
def _reading(directory: Path) -> Iterator[bool]:
    """Share the directory's lock file, if it has one; False while somebody writes."""
    try:
        fd = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield True
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(fd)


def _is_same(item: Item, attributes: Attributes) -> bool:
    """Whether the attributes are of the step that the item is about, not of another one under the same file name."""
    ours, theirs = item.keys, keys_of(attributes)
    return (ours.study_instance_uid, ours.scheduled_procedure_step_id) == (
        theirs.study_instance_uid,
        theirs.scheduled_procedure_step_id,
    )


def _printable(path: Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")
