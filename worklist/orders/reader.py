"""A parsed message as segments, repetitions, components and sub-components, each knowing where it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import hl7

from gateway.options.hl7_sources import Source
from worklist.orders.escapes import Escapes

# HL7 2.5.1, 2.5.3: a value that is to be deleted; an empty one is to be left alone.
NULL: Final = '""'


class Value:
    """One repetition of a field, or one component of it; its parts are components or sub-components."""

    __slots__ = ("location", "parts", "repetition", "segment")

    def __init__(
        self, segment: Segment, parts: Sequence[tuple[str, ...]], location: str, repetition: int | None = None
    ) -> None:
        self.segment = segment
        # As they came: escape sequences are undone by `text`.
        self.parts = parts
        # As in ERR-2: PID^1^5.
        self.location = location
        # Of a field, from 1; a component has none.
        self.repetition = repetition

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not any(map(any, self.parts))

    @property
    def is_null(self) -> bool:
        """Whether it says that there is nothing."""
        return list(filter(any, self.parts)) == [(NULL,)]

    def part(self, number: int) -> Value:
        """A component of a field, or a sub-component of a component; empty if there is none."""
        parts = self.parts[number - 1] if number <= len(self.parts) else ()
        above = self.location if self.repetition is None else f"{self.location}^{self.repetition}"
        return Value(self.segment, [(part,) for part in parts], f"{above}^{number}")

    def range(self, first: int, last: int) -> Value:
        """Some of the components, as if they were all."""
        return Value(self.segment, self.parts[first - 1 : last], self.location, self.repetition)

    def text(self, number: int = 1) -> str:
        """The text of a part. A sub-component separator in a text is one that was not escaped."""
        parts = self.parts[number - 1] if number <= len(self.parts) else ()
        text = self.segment.subcomponent_separator.join(parts).strip()
        return "" if text == NULL else self.segment.escapes.undo(text)

    def plain(self) -> str:
        """The text of the first component; of a component the whole text."""
        if self.repetition is not None:
            return self.text()
        text = self.segment.subcomponent_separator.join(part for parts in self.parts for part in parts).strip()
        return "" if text == NULL else self.segment.escapes.undo(text)

    def code(self, number: int = 1) -> str:
        """The text of the first sub-component of a part."""
        return self.part(number).text()


class Segment:
    """One segment of a message."""

    __slots__ = ("_fields", "_values", "after", "escapes", "name", "number", "subcomponent_separator")

    def __init__(self, fields: Sequence[Any], number: int, after: str, escapes: Escapes, separator: str) -> None:
        self._fields = fields
        # By field: most are mapped to several attributes.
        self._values: dict[int, list[Value]] = {}
        self.name = segment_name(fields)
        # Which of its name in the message, from 1.
        self.number = number
        # The name of the last segment before it that was no NTE.
        self.after = after
        self.escapes = escapes
        self.subcomponent_separator = separator

    def repetitions(self, field: int) -> list[Value]:
        """The repetitions of a field that say something, also that there is nothing."""
        values = self._values.get(field)
        if values is None:
            values = self._values[field] = self._read(field)
        return values

    def _read(self, field: int) -> list[Value]:
        if isinstance(self._fields, str) or field >= len(self._fields):
            return []
        content = self._fields[field]
        repetitions = [content] if isinstance(content, str) else list(content)
        if all(repetition == "" for repetition in repetitions):
            return []
        location = f"{self.name}^{self.number}^{field}"
        values = (
            Value(self, _components(repetition), location, number) for number, repetition in enumerate(repetitions, 1)
        )
        return [value for value in values if not value.is_empty]

    def value(self, field: int) -> Value:
        """The first repetition of a field that says something; empty if there is none."""
        values = self.repetitions(field)
        return values[0] if values else Value(self, (), f"{self.name}^{self.number}^{field}", 1)

    def text(self, field: int, component: int = 1) -> str:
        """The text of a component of the first repetition."""
        return self.value(field).text(component)

    def has_code(self, code: str) -> bool:
        """Whether an identifier (OBX-3, CE) has this code or this text, given in lower case."""
        identifier = self.value(3)
        return any(identifier.text(number).casefold() == code for number in (1, 2, 4, 5))


class Part:
    """Segments that belong together, and those that are looked at when these have none of a name."""

    def __init__(self, segments: Sequence[Segment], *behind: Sequence[Segment]) -> None:
        self._layers = [_by_name(layer) for layer in (segments, *behind)]
        self._nearest = {name: found for layer in reversed(self._layers) for name, found in layer.items()}
        # Of the segments that there are.
        self.names = self._nearest.keys()

    def segments(self, name: str) -> Sequence[Segment]:
        """All of this name, in the first layer that has one."""
        return self._nearest.get(name, ())

    def first(self, name: str) -> Segment | None:
        """The first of this name."""
        return next(iter(self.segments(name)), None)

    def text(self, name: str, field: int, component: int = 1) -> str:
        """The text of a component in the first segment of this name."""
        segment = self.first(name)
        return segment.text(field, component) if segment else ""

    def values(self, source: Source) -> list[Value]:
        """What stands at a place that the configuration names: all repetitions, in all segments."""
        return at(source, self.repetitions(source))

    def repetitions(self, source: Source) -> list[Value]:
        """The same of the whole field, whatever component is meant."""
        return [value for segment in self._segments_of(source) for value in segment.repetitions(source.field)]

    def _segments_of(self, source: Source) -> Sequence[Segment]:
        nearest = self.segments(source.segment)
        if not nearest or (not source.after and not source.code):
            return nearest
        for layer in self._layers:
            found = [
                segment
                for segment in layer.get(source.segment, ())
                if (not source.after or segment.after == source.after)
                and (not source.code or segment.has_code(source.code))
            ]
            if found:
                return found
        return ()

    def location(self, source: Source) -> str:
        """Where a value should stand that is missing."""
        segment = self.first(source.segment)
        location = f"{source.segment}^{segment.number if segment else 1}^{source.field}"
        if source.component:
            location += f"^1^{source.component}"
        return f"{location}^{source.subcomponent}" if source.subcomponent else location


def at(source: Source, repetitions: Sequence[Value]) -> list[Value]:
    """What of the repetitions of its field a place means, where it says something."""
    return [found for value in repetitions if not (found := _at(source, value)).is_empty]


def _at(source: Source, value: Value) -> Value:
    """One that says that there is nothing says it of all its parts."""
    if not source.component or value.is_null:
        return value
    if source.last_component:
        return value.range(source.component, source.last_component)
    component = value.part(source.component)
    return component.part(source.subcomponent) if source.subcomponent else component


def _by_name(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    names: dict[str, list[Segment]] = {}
    for segment in segments:
        names.setdefault(segment.name, []).append(segment)
    return names


def _components(repetition: Any) -> list[tuple[str, ...]]:
    if isinstance(repetition, str):
        return [(repetition,)]
    return [(component,) if isinstance(component, str) else tuple(map(str, component)) for component in repetition]


def segment_name(fields: Sequence[Any]) -> str:
    """The three letters that a segment begins with. A segment without fields is a text for the parser."""
    return str(fields if isinstance(fields, str) else fields[0])[:3]


def read_segments(message: hl7.Message, field_separator: str, encoding_characters: str, codec: str) -> list[Segment]:
    """The segments of a message, in its order."""
    escapes = Escapes(field_separator, encoding_characters, codec)
    numbers: Counter[str] = Counter()
    segments: list[Segment] = []
    after = ""
    for fields in message:
        name = segment_name(fields)
        numbers[name] += 1
        segments.append(Segment(fields, numbers[name], after, escapes, encoding_characters[3]))
        if name != "NTE":
            after = name
    return segments
