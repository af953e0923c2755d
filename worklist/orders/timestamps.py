"""Points in time: TS and DTM (HL7 2.5.1, 2.A.77) to dates and times of DICOM, and to instants that can be compared."""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

_TS: Final = re.compile(
    r"(\d{4})(?:(\d{2})(?:(\d{2})(?:(\d{2})(\d{2})?(?:(\d{2})(?:\.(\d{1,9}))?)?)?)?)?\s*([+-]\d{4})?", re.ASCII
)
# As in VR DT (PS3.5 6.2).
_MAXIMUM_OFFSET: Final = timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class Timestamp:
    """What was written: `begin` is the first moment of the period that it names, `end` the first one behind it."""

    begin: datetime
    end: datetime
    has_day: bool
    has_time: bool
    # The time zone that it names, if it does; otherwise `begin` and `end` have none.
    offset: timedelta | None

    @property
    def date(self) -> str:
        """VR DA; empty without a day."""
        return f"{self.begin.year:04}{self.begin:%m%d}" if self.has_day else ""

    @property
    def time(self) -> str:
        """VR TM; empty without an hour."""
        if not self.has_time:
            return ""
        fraction = f".{self.begin.microsecond:06}".rstrip("0").rstrip(".")
        return f"{self.begin:%H%M%S}{fraction}"

    @property
    def offset_text(self) -> str:
        """Timezone Offset From UTC (0008,0201)."""
        return offset_text(self.offset) if self.offset is not None else ""

    def in_zone(self, zone: tzinfo) -> "Timestamp":
        """The same moment by the clock of another time zone, if it names one itself and has a time of day."""
        if self.offset is None or not self.has_time:
            return self
        try:
            begin = self.begin.replace(tzinfo=timezone(self.offset)).astimezone(zone)
            offset = begin.utcoffset() or timedelta()
            clock = begin.replace(tzinfo=None)
            return Timestamp(clock, clock + (self.end - self.begin), True, True, offset)
        except (OverflowError, ValueError):
            return self

    def with_offset(self, offset: timedelta | None) -> "Timestamp":
        """The same in this time zone, if it names none."""
        if self.offset is not None or offset is None or not self.has_time:
            return self
        return Timestamp(self.begin, self.end, self.has_day, self.has_time, offset)

    def instants(self, zone: tzinfo | None) -> tuple[int, int]:
        """First and last moment in microseconds since 1970; `zone`, or this machine's, is meant where none is named."""
        return _instant(self.begin, self.offset, zone), _instant(self.end, self.offset, zone) - 1


def parse(text: str) -> Timestamp | None:
    """A timestamp; None if the text is none."""
    match = _TS.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    offset = _parse_offset(zone) if zone else None
    if zone and offset is None:
        return None
    # A leap second is the last of its minute.
    seconds = min(int(second or 0), 59) if int(second or 0) <= 60 else 60
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        begin = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), seconds, microseconds
        )
        end = begin + _precision(begin, match)
    except (ValueError, OverflowError):
        return None
    return Timestamp(begin, end, day is not None, hour is not None, offset)


def _precision(begin: datetime, match: re.Match[str]) -> timedelta:
    _, month, day, hour, minute, second, fraction, _ = match.groups()
    if fraction:
        return timedelta(microseconds=10 ** max(0, 6 - len(fraction)))
    if hour:
        return timedelta(seconds=1) if second else timedelta(minutes=1) if minute else timedelta(hours=1)
    if day:
        return timedelta(days=1)
    if month:
        return timedelta(days=calendar.monthrange(begin.year, begin.month)[1])
    return timedelta(days=366 if calendar.isleap(begin.year) else 365)


def _parse_offset(zone: str) -> timedelta | None:
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    if int(zone[3:]) > 59 or offset > _MAXIMUM_OFFSET:
        return None
    return -offset if zone[0] == "-" else offset


def offset_text(offset: timedelta) -> str:
    """&ZZXX."""
    minutes = int(offset.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"


def _instant(clock: datetime, offset: timedelta | None, zone: tzinfo | None) -> int:
    try:
        aware = clock.replace(tzinfo=timezone(offset) if offset is not None else zone)
        return _microseconds(aware if aware.tzinfo else aware.astimezone())
    except (OverflowError, ValueError, OSError):
        return _microseconds(clock.replace(tzinfo=UTC))


def _microseconds(aware: datetime) -> int:
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
