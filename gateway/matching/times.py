"""Dates, times and datetimes compared as such (PS3.4 C.2.2.2.1, C.2.2.2.5), not as text.

A value of less than full precision stands for the whole period that it names: 1011 is from 10:11:00 up to
10:11:59.999999. Two values match where their periods meet.
"""

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

_MICROSECONDS: Final = 1_000_000
_DAY: Final = 24 * 3600 * _MICROSECONDS

# PS3.5 6.2; the separators are of ACR-NEMA and still found in files.
_DATE = re.compile(r"(\d{4})(?:[.]?(\d{2})(?:[.]?(\d{2}))?)?", re.ASCII)
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATETIME = re.compile(r"(\d{4})(\d{2})?(\d{2})?(?:(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?)?([+-]\d{4})?", re.ASCII)
_ANY_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})", re.ASCII)
_MIDNIGHT = re.compile(r"24(:?00(:?00(\.0{1,6})?)?)?", re.ASCII)
# PS3.5 6.2, VR DT: the range of &ZZXX. What is beyond it is the second half of a range.
_OFFSETS: Final = range(-12 * 60, 14 * 60 + 1)


@dataclass(frozen=True, slots=True)
class Period:
    """From `first` to `last`, both within, in microseconds; `offset` from UTC if the value names one."""

    first: int
    last: int
    offset: int | None = None


def period(vr: str, text: str) -> Period | None:
    """The period that a value of VR DA, TM or DT names; None when it names none."""
    return _PARSERS[vr](text.strip(" \0"))


def _parse_date(text: str) -> Period | None:
    match = _DATE.fullmatch(text)
    return _days(*match.groups()) if match else None


def _parse_time(text: str) -> Period | None:
    match = _TIME.fullmatch(text)
    return _clock(*match.groups()) if match else None


def _parse_datetime(text: str) -> Period | None:
    match = _DATETIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    days = _days(year, month, day)
    if days is None:
        return None
    offset = None
    if zone is not None:
        minutes = int(zone[1:3]) * 60 + int(zone[3:])
        minutes = -minutes if zone[0] == "-" else minutes
        if minutes not in _OFFSETS:
            return None
        offset = minutes * 60 * _MICROSECONDS
    if hour is None:
        return Period(days.first, days.last, offset)
    clock = _clock(hour, minute, second, fraction)
    if clock is None or day is None:
        return None
    return Period(days.first + clock.first, days.first + clock.last, offset)


_PARSERS: Final[dict[str, Callable[[str], Period | None]]] = {
    "DA": _parse_date,
    "TM": _parse_time,
    "DT": _parse_datetime,
}


def _days(year: str, month: str | None, day: str | None) -> Period | None:
    try:
        first = date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
    if day is not None:
        last = first
    elif month is not None:
        last = first.replace(day=calendar.monthrange(first.year, first.month)[1])
    else:
        last = first.replace(month=12, day=31)
    return Period(first.toordinal() * _DAY, (last.toordinal() + 1) * _DAY - 1)


def _clock(hour: str, minute: str | None, second: str | None, fraction: str | None) -> Period | None:
    # a leap second is 60 (PS3.5 6.2, VR TM)
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 60:
        return None
    first = ((int(hour) * 60 + int(minute or 0)) * 60 + int(second or 0)) * _MICROSECONDS
    if minute is None:
        length = 3600 * _MICROSECONDS
    elif second is None:
        length = 60 * _MICROSECONDS
    elif fraction is None:
        length = _MICROSECONDS
    else:
        length = 10 ** (6 - len(fraction))
        first += int(fraction) * length
    return Period(first, first + length - 1)


@dataclass(frozen=True, slots=True)
class Range:
    """A key of VR DA, TM or DT: one value, or two ends of which one may be missing."""

    lower: Period | None
    upper: Period | None

    def holds(self, stored: Period) -> bool:
        """Whether the stored value lies, at least partly, within."""
        if self.lower is not None and _aligned(stored, self.lower).last < self.lower.first:
            return False
        return self.upper is None or _aligned(stored, self.upper).first <= self.upper.last


def _aligned(stored: Period, bound: Period) -> Period:
    """`stored` on the clock of `bound`, if both say which clock is theirs."""
    if stored.offset is None or bound.offset is None:
        return stored
    shift = bound.offset - stored.offset
    return Period(stored.first + shift, stored.last + shift)


def parse_range(vr: str, text: str) -> Range | None:
    """A key's value; None when it is neither a value nor a range."""
    text = text.strip(" \0")
    single = period(vr, text)
    if single is not None:
        return Range(single, single)
    for hyphen in (index for index, character in enumerate(text) if character == "-"):
        ends = text[:hyphen].strip(), text[hyphen + 1 :].strip()
        lower, upper = (_end(vr, end) if end else None for end in ends)
        if any(ends) and bool(ends[0]) == (lower is not None) and bool(ends[1]) == (upper is not None):
            return Range(lower, upper)
    return None


def _end(vr: str, text: str) -> Period | None:
    """One end of a range: a value, or what peers write that do not know how long a month or a day is.

    20240231 is the end of February, 00000000 and 99999999 are the first and the last day, 2400 is the end of the day.
    """
    if vr == "DA" and (digits := _ANY_DATE.fullmatch(text)):
        year, month, day = (int(number) for number in digits.groups())
        year, month = min(max(year, 1), 9999), min(max(month, 1), 12)
        text = f"{year:04}{month:02}{min(max(day, 1), calendar.monthrange(year, month)[1]):02}"
    elif vr == "TM" and _MIDNIGHT.fullmatch(text):
        return Period(_DAY - 1, _DAY - 1)
    return period(vr, text)


def days(wanted: Range) -> tuple[str, str]:
    """First and last day of a range of VR DA as YYYYMMDD; "" where it has no end."""
    lower = _day(wanted.lower.first) if wanted.lower is not None else ""
    upper = _day(wanted.upper.last) if wanted.upper is not None else ""
    return lower, upper


def _day(instant: int) -> str:
    return date.fromordinal(instant // _DAY).strftime("%Y%m%d").zfill(8)
