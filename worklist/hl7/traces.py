"""Errors of our own in the log."""

import traceback
from pathlib import Path
from typing import Final

from gateway.database import DatabaseError

# How much of a trace stands in a line.
_FRAMES: Final = 4


def trace(error: Exception) -> dict[str, str]:
    """What it was and where, as keys of a log line; without the text, in which patient data may stand."""
    reason = str(error) if isinstance(error, DatabaseError) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {"reason": reason, "at": " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)}
