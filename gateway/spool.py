"""The spool: a directory of DICOM Part 10 files, in the maildir manner. State is the folder a file is in.

    spool/incoming/<writer>/   being received; one folder and one lock per writer; never acknowledged
    spool/ready/               acknowledged, on its way to Orthanc or a DICOMweb server
    spool/delivered/           is there; kept for a minute (Orthanc's index may lose its last commits); NAME.json says
                               under which identifier, if that is not its own
    spool/failed/              was refused for good; NAME.json says why
    spool/changed/             what a script made of an instance in one of the others; an empty file: nothing

File names are ours (arrival time, process, counter, DICOMweb server if it goes to one), so that `ls` shows the queue in
its order.
"""

import contextlib
import fcntl
import itertools
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from gateway.dicom.part10 import FileMeta
from gateway.durable import fsync_directory, write_file

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
SUFFIX: Final = ".dcm"
NOTE_SUFFIX: Final = ".json"
UNFINISHED_SUFFIX: Final = ".part"
_LOCK_NAME: Final = "lock"

ORTHANC: Final = ""
"""The destination that is no DICOMweb server."""


class SpoolError(Exception):
    """The state directory cannot be used. The text is one line for a person."""


class Spool:
    """The folders under a state directory."""

    def __init__(self, state_directory: Path) -> None:
        self.root = state_directory / "spool"
        self.incoming = self.root / "incoming"
        self.ready = self.root / "ready"
        self.delivered = self.root / "delivered"
        self.failed = self.root / "failed"
        self.changed = self.root / "changed"

    def prepare(self) -> None:
        """Create what is missing; refuse a spool that others can read (it holds patient data)."""
        make_private_directory(self.root.parent)
        for folder in (self.root, self.incoming, self.ready, self.delivered, self.failed, self.changed):
            make_private_directory(folder)
        fsync_directory(self.root)
        fsync_directory(self.root.parent)

    def recover(self, pid: int | None = None) -> int:
        """Remove what dead writers left half received; return the number of files removed.

        A writer that still lives holds its lock, and its folder is left alone. `pid`: only the folders of this
        process, which has ended; others may just be making theirs, and have no lock yet.
        """
        removed = 0
        pattern = "*" if pid is None else f"{pid}-*"
        for folder in [path for path in self.incoming.glob(pattern) if path.is_dir()]:
            lock = _try_lock(folder / _LOCK_NAME)
            if lock is None:
                continue
            try:
                for file in folder.iterdir():
                    removed += file.name != _LOCK_NAME
                    file.unlink()
                folder.rmdir()
            finally:
                os.close(lock)
        return removed

    def live_writers(self) -> list[str]:
        """Names of the writer folders whose lock is held."""
        alive = []
        for folder in self.incoming.iterdir():
            lock = _try_lock(folder / _LOCK_NAME) if folder.is_dir() else None
            if lock is not None:
                os.close(lock)
            elif folder.is_dir():
                alive.append(folder.name)
        return alive

    def is_alive(self, writer: str) -> bool:
        """Whether the process lives whose folder in `incoming` is `writer`."""
        try:
            fd = os.open(self.incoming / writer / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def names(self, folder: Path) -> list[str]:
        """Names of the instances in one of the folders, oldest first."""
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))

    def leave(self, path: Path) -> None:
        """Delete what is delivered, what it was changed into, and the note beside it."""
        path.unlink(missing_ok=True)
        (self.changed / path.name).unlink(missing_ok=True)
        (self.delivered / (path.name + NOTE_SUFFIX)).unlink(missing_ok=True)

    def changed_bytes(self, name: str) -> int:
        """What a script made of an instance takes up; 0 if there is nothing."""
        try:
            return (self.changed / name).stat().st_size
        except FileNotFoundError:
            return 0

    def note_stored_as(self, name: str, orthanc_id: str) -> None:
        """Note, before a file is moved to `delivered`, what Orthanc calls the instance; "": Orthanc did not keep it.

        Not flushed: if it is lost the instance is looked for under its own identifier, and perhaps delivered twice.
        """
        path = self.delivered / (name + NOTE_SUFFIX)
        unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
        with open(unfinished, "wb", opener=private_opener) as file:
            file.write(json.dumps({"orthanc_id": orthanc_id}).encode())
        unfinished.rename(path)

    def stored_as(self, name: str) -> str | None:
        """What is noted of a file in `delivered`; None: Orthanc calls it by its own identifier."""
        try:
            content = json.loads((self.delivered / (name + NOTE_SUFFIX)).read_bytes())
        except (OSError, ValueError):
            return None
        found = content.get("orthanc_id") if isinstance(content, dict) else None
        return found if isinstance(found, str) else None

    def clean_notes(self) -> None:
        """Delete notes in `delivered` whose file never came there. Only while nothing is delivered."""
        with os.scandir(self.delivered) as entries:
            names = {entry.name for entry in entries}
        for name in names:
            if not name.endswith(SUFFIX) and name.partition(NOTE_SUFFIX)[0] not in names:
                (self.delivered / name).unlink(missing_ok=True)

    def fail(self, source: Path, note: dict[str, Any]) -> None:
        """Move `source` to `failed`, with `note` (why, when, how often tried) beside it."""
        write_file(self.failed / (source.name + NOTE_SUFFIX), json.dumps(note, indent=1, ensure_ascii=False).encode())
        move(source, self.failed)

    def retry(self, name: str) -> None:
        """Move a failed instance back to `ready`. Raises FileNotFoundError when it is not in `failed`."""
        move(self.failed / name, self.ready)
        (self.failed / (name + NOTE_SUFFIX)).unlink(missing_ok=True)

    def discard(self, name: str) -> None:
        """Delete a failed instance and its note. Raises FileNotFoundError when it is not in `failed`."""
        (self.failed / name).unlink()
        (self.failed / (name + NOTE_SUFFIX)).unlink(missing_ok=True)
        fsync_directory(self.failed)

    def note(self, name: str) -> dict[str, Any]:
        """The note beside a failed instance; empty when there is none."""
        try:
            content = json.loads((self.failed / (name + NOTE_SUFFIX)).read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def move(source: Path, folder: Path) -> Path:
    """Rename `source` into `folder`, durably; return its new path."""
    target = folder / source.name
    source.rename(target)
    fsync_directory(folder)
    fsync_directory(source.parent)
    return target


def private_opener(path: str, flags: int) -> int:
    """For `open`: a file that only we can read."""
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


def make_private_directory(path: Path) -> None:
    """Create `path` with mode 0700, or check that an existing one is closed to others."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise SpoolError(
            f"{path}: {error.strerror}: make it for the gateway's user, or name another DicomGateway.StateDirectory"
        ) from error
    check_private(path, status, os.geteuid())


def check_private(path: Path, status: os.stat_result, user: int) -> None:
    """Check that a directory is closed to others, and that of the `user` who runs the gateway. Raises SpoolError."""
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SpoolError(
            f"{path}: holds patient data but others can access it (mode {status.st_mode & 0o777:o}): chmod 700 it"
        )
    if status.st_uid != user:
        raise SpoolError(
            f"{path}: belongs to user {status.st_uid}, the gateway runs as {user}: run it as the former, or chown -R it"
        )


def _try_lock(path: Path) -> int | None:
    """Take the lock file `path`; None when a living process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


@contextlib.contextmanager
def state_directory_lock(state_directory: Path) -> Iterator[None]:
    """Hold the state directory: one serves one gateway. Raises SpoolError when another one has it."""
    make_private_directory(state_directory)
    fd = _try_lock(state_directory / _LOCK_NAME)
    if fd is None:
        raise SpoolError(
            f"{state_directory}: another gateway runs on this state directory: stop that, or "
            "name another DicomGateway.StateDirectory here"
        )
    try:
        yield
    finally:
        os.close(fd)


class SpoolWriter:
    """One process that receives: a folder of its own in `incoming`, and the lock that says it lives."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._pid = os.getpid()
        self._folder = spool.incoming / f"{self._pid}-{secrets.token_hex(4)}"
        self._folder.mkdir(mode=DIRECTORY_MODE)
        lock = _try_lock(self._folder / _LOCK_NAME)
        if lock is None:
            raise SpoolError(f"{self._folder}: locked by another process")
        self._lock = lock
        self._ready_fd = os.open(spool.ready, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._numbers = itertools.count()

    @property
    def name(self) -> str:
        """The name of the folder in `incoming`."""
        return self._folder.name

    def create(self, meta: FileMeta, destination: str = ORTHANC) -> "IncomingFile":
        """Start an instance: a new file in `incoming` that holds its file meta information. Raises OSError.

        `destination`: the AE title of the DICOMweb server that it is for.
        """
        name = f"{time.time_ns():020d}-{self._pid}-{next(self._numbers):06d}{_mark(destination)}{SUFFIX}"
        return IncomingFile(self._folder / name, self._spool.ready / name, self._ready_fd, meta)

    def close(self) -> None:
        """Give the folder up; what is still in it was not acknowledged."""
        for file in self._folder.iterdir():
            file.unlink()
        self._folder.rmdir()
        os.close(self._lock)
        os.close(self._ready_fd)


class IncomingFile:
    """An instance on its way from the socket into `ready`.

    `write` as often as needed, then exactly one of `commit`, `hand_over` and `discard`.
    """

    __slots__ = ("_ready_fd", "data_set_offset", "fd", "meta", "path", "ready_path", "size")

    def __init__(self, path: Path, ready_path: Path, ready_fd: int, meta: FileMeta) -> None:
        self.path = path
        self.ready_path = ready_path
        self.meta = meta
        self._ready_fd = ready_fd
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        self.size = 0
        head = meta.encode()
        self.data_set_offset = len(head)
        try:
            self.write((head,))
        except OSError:
            self.discard()
            raise

    @property
    def data_set_length(self) -> int:
        """Bytes of the data set written so far."""
        return self.size - self.data_set_offset

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Append `pieces`. Raises OSError (disk full, I/O error): then discard."""
        wanted = sum(map(len, pieces))
        written = os.writev(self.fd, pieces)
        self.size += written
        if written < wanted:
            rest = b"".join(pieces)[written:]  # seldom: a signal, or the last free blocks
            while rest:
                count = os.write(self.fd, rest)
                self.size += count
                rest = rest[count:]

    def commit(self) -> None:
        """Make the instance durable: flush the file, give it its name in `ready`, flush the folder.

        When this returns the instance may be acknowledged. Raises OSError: then it may not, and is gone.
        """
        try:
            os.fsync(self.fd)
            self.path.rename(self.ready_path)
        except OSError:
            self.discard()
            raise
        try:
            os.fsync(self._ready_fd)
        except OSError:
            self.path = self.ready_path
            self.discard()
            raise
        os.close(self.fd)

    def hand_over(self) -> Path:
        """Flush and close the file, leave it in `incoming` (`Acknowledge` "Stored"); return its path."""
        try:
            os.fsync(self.fd)
        except OSError:
            self.discard()
            raise
        os.close(self.fd)
        return self.path

    def discard(self) -> None:
        """Close and remove the file; one that a broken disk does not let go is left to the recovery. Raises nothing."""
        os.close(self.fd)
        with contextlib.suppress(OSError):
            self.path.unlink()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One instance to be delivered: where its file is and what Orthanc will call it."""

    path: Path
    size: int
    sop_instance_uid: str
    orthanc_id: str
    # For queries that must see it; "" where it is not known.
    patient_id: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    accession_number: str = ""

    @property
    def destination(self) -> str:
        """The AE title of the DICOMweb server that it is for; ORTHANC."""
        return destination_of(self.path.name)


def destination_of(name: str) -> str:
    """Where the instance in the file `name` was to go when it was received: a DICOMweb server's AE title, or ORTHANC.

    It stands in the name because a configuration may change, and what was accepted for one archive must not get into
    another.
    """
    return unquote("".join(name.removesuffix(SUFFIX).split("-", 3)[3:]))


def _mark(destination: str) -> str:
    # An AE title may have characters that a file name cannot have, and the hyphen that parts the name.
    return "-" + quote(destination, safe="").replace("-", "%2D") if destination else ""
