"""Scheduled Procedure Step Start Date and Time as keys: two ranges are one interval (PS3.4 table K.6-1, remark)."""

from __future__ import annotations

from datetime import date
from typing import Final

from gateway.matching import times
from gateway.matching.attributes import Attributes
from gateway.matching.keys import InvalidQuery, Key
from gateway.matching.times import Period, Range
from worklist.items import SCHEDULED_DATE, SCHEDULED_TIME, text_of

_DAY: Final = 24 * 3600 * 1_000_000
# Each of several dates is joined with each of several times, for each item.
MAXIMUM_PAIRS: Final = 1000


class ScheduledStart:
    """The two keys made ready to be compared.

    Ranges of the same form are one interval: July 5 to 7 and 10 to 18 o'clock is from July 5, 10 o'clock, up to
    July 7, 18 o'clock. Otherwise each is compared on its own (PS3.4 C.2.2.2.5.4). A range of times that ends before
    it begins goes over midnight, which the standard leaves open (PS3.4 C.2.2.2.5.2).
    """

    def __init__(self, date_key: Key | None, time_key: Key | None) -> None:
        """None for a key that matches everything. Raises InvalidQuery for a value that is none."""
        self._days = _ranges("DA", date_key)
        self._times = _ranges("TM", time_key)
        if len(self._days) * len(self._times) > MAXIMUM_PAIRS:
            raise InvalidQuery(f"more than {MAXIMUM_PAIRS} pairs of date and time", SCHEDULED_DATE, mismatch=True)

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last day on which something can match, as YYYYMMDD; "" where there is no end."""
        lower = [one.lower.first // _DAY if one.lower is not None else None for one in self._days]
        upper = [one.upper.last // _DAY if one.upper is not None else None for one in self._days]
        return (
            _day(min((number for number in lower if number is not None), default=None)) if None not in lower else "",
            _day(max((number for number in upper if number is not None), default=None)) if None not in upper else "",
        )

    def matches(self, step: Attributes) -> bool:
        """Whether a Scheduled Procedure Step starts within. One without a time may start at any of its day."""
        clock = times.period("TM", text_of(step, SCHEDULED_TIME))
        if not self._days:
            return not self._times or (clock is not None and any(_holds_time(one, clock) for one in self._times))
        days = times.period("DA", text_of(step, SCHEDULED_DATE))
        if days is None:
            return False
        if not self._times:
            return any(one.holds(days) for one in self._days)
        return any(_holds(day, time, days, clock) for day in self._days for time in self._times)


def _ranges(vr: str, key: Key | None) -> list[Range]:
    ranges = [times.parse_range(vr, value) for value in key.values] if key is not None else []
    if key is not None and None in ranges:
        raise InvalidQuery(f"neither a value nor a range of VR {vr}", key.tag, mismatch=True)
    return [one for one in ranges if one is not None]


def _holds(day: Range, time: Range, stored_day: Period, stored_clock: Period | None) -> bool:
    """Whether a stored date and time match both keys."""
    interval = _interval(day, time)
    if interval is None:
        return day.holds(stored_day) and (stored_clock is None or _holds_time(time, stored_clock))
    clock = stored_clock or Period(0, _DAY - 1)
    return interval.holds(Period(stored_day.first + clock.first, stored_day.first + clock.last))


def _interval(day: Range, time: Range) -> Range | None:
    """The interval of a date and a time; None if each is compared on its own: 22 to 6 o'clock of one day, say."""
    has_same_form = (day.lower is None, day.upper is None) == (time.lower is None, time.upper is None)
    # the ends of a single value are one and the same
    if not has_same_form or day.lower is day.upper or time.lower is time.upper:
        return None
    lower, upper = _joined(day.lower, time.lower), _joined(day.upper, time.upper)
    return None if lower is not None and upper is not None and lower.first > upper.last else Range(lower, upper)


def _joined(day: Period | None, clock: Period | None) -> Period | None:
    return Period(day.first + clock.first, day.first + clock.last) if day is not None and clock is not None else None


def _holds_time(time: Range, stored: Period) -> bool:
    if time.lower is not None and time.upper is not None and time.lower.first > time.upper.last:
        return Range(time.lower, None).holds(stored) or Range(None, time.upper).holds(stored)
    return time.holds(stored)


def _day(number: int | None) -> str:
    return f"{date.fromordinal(number):%Y%m%d}".zfill(8) if number is not None else ""
