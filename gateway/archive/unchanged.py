"""Whether Orthanc's database is as it was, told by its files: a stat, where asking Orthanc means describing everything.

Orthanc's own database is SQLite with a write-ahead log, and what is committed stands in that file before anybody can
see it. So its time of modification tells of every change, of those too that Orthanc's log of changes lacks: deletions,
`/studies/{id}/reconstruct`. The files are only looked at: Orthanc has its database locked, and another process that
opens it can keep Orthanc from doing so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

DATABASE_NAME: Final = "index"
LOG_SUFFIX: Final = "-wal"
# Within the unit of a file system's clock a second change leaves no trace. That is a tick of the kernel, 10 ms at most;
# but file systems that have no fractions count whole seconds, or every other one.
SETTLING_NS: Final = 100_000_000
SETTLING_OF_SECONDS_NS: Final = 2_500_000_000
_SECOND_NS: Final = 1_000_000_000


class FileState(NamedTuple):
    """What of a file is another one when it was written, or replaced."""

    inode: int
    size_bytes: int
    modified_ns: int


State = tuple[FileState, ...]


class Files:
    """Files of which each change is told."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def state(self) -> State | None:
        """Between two that are equal nothing was written. None while that cannot be told."""
        try:
            state = tuple(FileState(s.st_ino, s.st_size, s.st_mtime_ns) for s in map(os.stat, self._paths))
        except OSError:
            return None
        now_ns = time.time_ns()
        return state if all(_has_settled(one.modified_ns, now_ns) for one in state) else None


def _has_settled(modified_ns: int, now_ns: int) -> bool:
    settling_ns = SETTLING_NS if modified_ns % _SECOND_NS else SETTLING_OF_SECONDS_NS
    return now_ns - modified_ns > settling_ns


def database_files(orthanc_pid: int) -> tuple[Path, ...]:
    """The files of the database that this Orthanc has open; nothing if it has none of its own, or does not tell.

    Not taken from its configuration: beside a database of a plugin there may be an old one that nobody writes to.
    """
    descriptors = Path(f"/proc/{orthanc_pid}/fd")
    try:
        links = {path for descriptor in descriptors.iterdir() if (path := _target(descriptor)) is not None}
    except OSError:
        return ()
    logs = [path for path in links if path.name == DATABASE_NAME + LOG_SUFFIX]
    if len(logs) != 1:
        return ()
    database = logs[0].with_name(DATABASE_NAME)
    return (database, logs[0]) if database in links else ()


def _target(descriptor: Path) -> Path | None:
    try:
        return descriptor.readlink()
    except OSError:
        return None  # closed just now
