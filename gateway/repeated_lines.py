"""Log lines that strangers can cause as often as they like: the first are written, the rest counted."""

import threading
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
    """Lines, limited by event and `option`: both must come from the program or its configuration, not from peers.

    Thread-safe.
    """

    def __init__(
        self, log: Any, clock: Callable[[], float] = time.monotonic, *, lines_per_interval: int = LINES_PER_INTERVAL
    ) -> None:
        self._log = log
        self._lines_per_interval = lines_per_interval
        self._clock = clock
        self._intervals: dict[tuple[str, str | None], _Interval] = {}
        self._lock = threading.Lock()

    def warning(self, event: str, *, option: str | None = None, log: Any = None, **keys: Any) -> None:
        """Write the line, or count it if too many like it were written in this interval. `log`: instead of ours."""
        if self._may_write(event, option):
            (log or self._log).warning(event, **keys, **_named(option))

    def info(self, event: str, *, log: Any = None, **keys: Any) -> None:
        """As `warning`."""
        if self._may_write(event, None):
            (log or self._log).info(event, **keys)

    def summarise(self, *, unfinished: bool = False) -> None:
        """Say how many lines were not written in the intervals that are over, or in all of them."""
        now = self._clock()
        with self._lock:
            over = {
                key: interval
                for key, interval in self._intervals.items()
                if now - interval.since >= INTERVAL_S or unfinished
            }
            for key in over:
                del self._intervals[key]
        for (event, option), interval in over.items():
            if interval.suppressed:
                self._log.warning(
                    f"{event}: more such lines were not written",
                    lines=interval.suppressed,
                    seconds=round(now - interval.since),
                    **_named(option),
                )

    def _may_write(self, event: str, option: str | None) -> bool:
        self.summarise()
        with self._lock:
            interval = self._intervals.setdefault((event, option), _Interval(self._clock()))
            if interval.lines < self._lines_per_interval:
                interval.lines += 1
                return True
            interval.suppressed += 1
            return False


def _named(option: str | None) -> dict[str, str]:
    return {} if option is None else {"option": option}
