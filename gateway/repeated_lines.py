"""Log lines that strangers can cause as often as they like: the first are written, the rest counted."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

# Of each event so many lines are written in an interval.
LINES_PER_INTERVAL: Final = 10
INTERVAL_S: Final = 10.0


@dataclass
class _Interval:
    since: float
    lines: int = 0
    suppressed: int = 0


class RepeatedLines:
    """Warnings, limited by event and `option`: both must come from the program or its configuration, not from peers."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._intervals: dict[tuple[str, str | None], _Interval] = {}

    def warning(self, event: str, *, option: str | None = None, **keys: Any) -> None:
        """Write the line, or count it if too many like it were written in this interval."""
        self.summarise()
        interval = self._intervals.setdefault((event, option), _Interval(self._clock()))
        if interval.lines < LINES_PER_INTERVAL:
            interval.lines += 1
            self._log.warning(event, **keys, **_named(option))
        else:
            interval.suppressed += 1

    def summarise(self, *, unfinished: bool = False) -> None:
        """Say how many lines were not written in the intervals that are over, or in all of them."""
        now = self._clock()
        for (event, option), interval in list(self._intervals.items()):
            if now - interval.since < INTERVAL_S and not unfinished:
                continue
            del self._intervals[event, option]
            if interval.suppressed:
                self._log.warning(
                    f"{event}: more such lines were not written",
                    lines=interval.suppressed,
                    seconds=round(now - interval.since),
                    **_named(option),
                )


def _named(option: str | None) -> dict[str, str]:
    return {} if option is None else {"option": option}
