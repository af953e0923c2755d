"""Errors of our own in the log."""

import traceback
from pathlib import Path
from typing import Final

from gateway.database import DatabaseError

# How much of a trace stands in a line.
_FRAMES: Final = 4
_LIBRARIES: Final = ("site-packages", "dist-packages")


def trace(error: Exception) -> dict[str, str]:
    """What it was and where, as keys of a log line; without the text, in which patient data may stand."""
    of_database = isinstance(error, DatabaseError)
    origin = error.__cause__ if of_database and error.__cause__ is not None else error
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(origin.__traceback__)
        if not any(library in frame.filename for library in _LIBRARIES)
    ]
    return {"reason": str(error) if of_database else type(error).__name__, "at": " > ".join(frames[-_FRAMES:])}
