"""One message on its way into the worklist: what all that act on it share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from gateway.options.orders import Effect, OrderOptions, PatientEffect
from worklist.hl7.decoding import codec_of
from worklist.hl7.handling import Received, Result
from worklist.items import MAXIMUM_KEY_CHARACTERS
from worklist.orders import timestamps
from worklist.orders.conversions import Context
from worklist.orders.mapping import FieldMap
from worklist.orders.memory import Moment
from worklist.orders.reader import Part, Segment, read_segments
from worklist.orders.station_rules import StationRules
from worklist.orders.timestamps import Timestamp
from worklist.store import Change

MAXIMUM_NOTES_SHOWN: Final = 3


class Rules:
    """The options for a sending application, ready for use."""

    def __init__(self, options: OrderOptions) -> None:
        self.field_map = FieldMap(options.field_map)
        self.station_rules = StationRules(options.station_rules)
        self.order_control: Mapping[str, Effect] = options.order_control
        self.patient_events: Mapping[str, PatientEffect] = options.patient_events
        self.assigning_authority = options.assigning_authority or ""
        self.zone: tzinfo | None = ZoneInfo(options.time_zone) if options.time_zone else None
        self.updates_change_patient = options.updates_change_patient
        self.cancels_absent_steps = options.absent_steps == "Cancel"
        self.reports_complete = options.reports_complete
        self.rejects_other_messages = options.other_messages == "Reject"


@dataclass(slots=True)
class Notes:
    """What came of the message. Nothing of a patient's stands in it."""

    changes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def changed(self, number: int, what: str) -> None:
        """An item was changed."""
        self.changes.append(f"item {number} {what}")

    def remark(self, text: str) -> None:
        """Something that was sent has no effect."""
        if text not in self.remarks:
            self.remarks.append(text)

    def result(self) -> Result:
        """For the acknowledgement and the log."""
        shown = [*self.remarks, *self.changes] or ["nothing to change"]
        text = "; ".join(shown[:MAXIMUM_NOTES_SHOWN])
        if len(shown) > MAXIMUM_NOTES_SHOWN:
            text += f"; and {len(shown) - MAXIMUM_NOTES_SHOWN} more"
        return Result(text, tuple(self.changes))


class Task:
    """A message, the transaction that it is acted on in, and the rules of who sent it."""

    def __init__(self, received: Received, connection: Connection, rules: Rules, default_character_set: str) -> None:
        header = received.header
        codec = codec_of(header, default_character_set) or "ascii"
        self.received = received
        self.connection = connection
        self.rules = rules
        self.notes = Notes()
        self.segments: Sequence[Segment] = read_segments(
            received.message, header.field_separator, header.encoding_characters, codec
        )
        self.application = f"{header.component(3, 1)}|{header.component(4, 1)}"
        # Who brought an item, as the store keeps it.
        self.origin = f"hl7 {self.application}"[:MAXIMUM_KEY_CHARACTERS]
        self.now_ns = int(received.received_at.timestamp() * 1e9)
        self.change = Change(f"{self.origin} {header.control_id}"[:MAXIMUM_KEY_CHARACTERS], self.now_ns)
        self._written = timestamps.parse(header.component(7, 1))

    @cached_property
    def offset(self) -> timedelta | None:
        """The time zone of MSH-7."""
        return self._written.offset if self._written else None

    @cached_property
    def context(self) -> Context:
        """For the conversions."""
        return Context(self.rules.assigning_authority, self.rules.zone, self.offset)

    @cached_property
    def sent(self) -> Timestamp:
        """When the message was sent, else when it came."""
        if self._written is not None and self._written.has_day:
            return self._written.in_zone(self.rules.zone) if self.rules.zone else self._written
        arrived = self.received.received_at.astimezone(self.rules.zone).replace(tzinfo=None, microsecond=0)
        return Timestamp(arrived, arrived + timedelta(seconds=1), True, True, None)

    def moment(self, part: Part) -> Moment:
        """When it was said: ORC-9 and MSH-7."""
        written = timestamps.parse(part.text("ORC", 9))
        ordered = written.with_offset(self.offset).instants(self.rules.zone) if written else (None, None)
        sent = self._written.instants(self.rules.zone) if self._written else (None, None)
        return Moment(self.application, ordered[0], sent[0], ordered[1], sent[1])
