"""Durations as they stand in the configuration: "30m", "1h", "7d"."""

import re
from typing import Any, Final

_DURATION: Final = re.compile(r"(\d{1,9}) ?([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}


def read_duration(value: Any) -> int:
    """The seconds of a duration. Raises ValueError."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected a duration such as "30m", "1h", "1d"')
    return int(match[1]) * _SECONDS[match[2]]
