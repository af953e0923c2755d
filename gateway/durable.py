"""What makes a file survive a power failure: flush the file, and flush the folder that holds its name."""

import os
from pathlib import Path


def fsync_directory(path: Path) -> None:
    """Flush the entries of the folder `path` (names created, renamed or removed in it)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that after a crash it is there whole or not at all. Mode 0600."""
    temporary = path.with_name(path.name + ".part")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path)
    fsync_directory(path.parent)
