"""The field map put to use: one step of one order as attributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_VM

from gateway.matching.attributes import Attributes, Element, vr_of
from gateway.options.hl7_sources import Source, parse_source
from gateway.options.orders import STEP, tag_of
from worklist.items import SCHEDULED_PROCEDURE_STEP_SEQUENCE
from worklist.orders.conversions import Context, Conversion, of_vr
from worklist.orders.field_map import FIELD_MAP, Level, Row
from worklist.orders.reader import Part, at
from worklist.orders.texts import MAXIMUM_CHARACTERS

_BY_TAG: Final = {tag_of(row.attribute): row for row in FIELD_MAP}


@dataclass(frozen=True, slots=True)
class _Line:
    tag: int
    vr: str
    sources: tuple[Source, ...]
    conversion: Conversion
    level: Level


@dataclass(slots=True)
class Mapped:
    """What a message says about one step. An attribute that has no value any more is empty."""

    levels: dict[Level, Attributes] = field(default_factory=lambda: {level: {} for level in Level})

    @property
    def patient(self) -> Attributes:
        """Of the patient."""
        return self.levels[Level.PATIENT]

    @property
    def visit(self) -> Attributes:
        """Of the visit."""
        return self.levels[Level.VISIT]

    @property
    def order(self) -> Attributes:
        """Of the requested procedure and the imaging service request."""
        return self.levels[Level.ORDER]

    @property
    def step(self) -> Attributes:
        """Of the Scheduled Procedure Step."""
        return self.levels[Level.STEP]

    def attributes(self, *levels: Level) -> Attributes:
        """Those of some levels, or of all, as they stand in a worklist item."""
        attributes: Attributes = {}
        for level in levels or tuple(Level):
            if level is not Level.STEP:
                attributes.update(self.levels[level])
        if self.step and (not levels or Level.STEP in levels):
            attributes[SCHEDULED_PROCEDURE_STEP_SEQUENCE] = Element("SQ", (self.step,))
        return attributes


class FieldMap:
    """The field map of a site or of one sending application."""

    def __init__(self, changes: Mapping[str, Sequence[str] | None]) -> None:
        rows = {tag: _line(row) for tag, row in _BY_TAG.items()}
        for attribute, sources in changes.items():
            tag = tag_of(attribute)
            if sources is None:
                rows.pop(tag, None)
            else:
                rows[tag] = _changed(tag, attribute, sources)
        self._lines = tuple(rows.values())
        self._sources = {line.tag: line.sources for line in self._lines}

    def read(self, part: Part, context: Context, tags: frozenset[int] | None = None) -> Mapped:
        """What a message says, of all attributes or of some. Raises MessageError for what must be understood."""
        mapped = Mapped()
        for line in self._lines:
            if tags is None or line.tag in tags:
                element = _read(line, part, context)
                if element is not None:
                    mapped.levels[line.level][line.tag] = element
        return mapped

    def location(self, tag: int, part: Part) -> str:
        """Where the message should have what is missing: as in ERR-2. Empty if no field is mapped to the attribute."""
        sources = [source for source in self._sources.get(tag, ()) if source.segment]
        there = (source for source in sources if part.first(source.segment) is not None)
        source = next(there, next(iter(sources), None))
        return part.location(source) if source else ""

    def describe(self, tag: int) -> str:
        """The fields that are mapped to an attribute, for a person."""
        return ", ".join(str(source) for source in self._sources.get(tag, ()))


def _read(line: _Line, part: Part, context: Context) -> Element | None:
    is_said = False
    for source in line.sources:
        if source.constant is not None:
            return Element(line.vr, source.constant[: MAXIMUM_CHARACTERS.get(line.vr, 64)])
        # Most places are in segments that most messages do not have.
        repetitions = part.repetitions(source) if source.segment in part.names else ()
        if not repetitions:
            continue
        is_said = True
        values = at(source, repetitions)
        if not values:
            continue
        valued = [value for value in values if not value.is_null]
        if not valued:
            break
        element = line.conversion.apply(valued, context)
        if element is not None:
            return element
    # It says that there is nothing, or the field was sent anew and this is no longer in it: an issuer, a code.
    return Element(line.vr, () if line.vr == "SQ" else "") if is_said else None


def _line(row: Row) -> _Line:
    tag = tag_of(row.attribute)
    return _Line(tag, vr_of(tag), tuple(map(parse_source, row.sources)), row.conversion, row.level)


def _changed(tag: int, attribute: str, sources: Sequence[str]) -> _Line:
    row = _BY_TAG.get(tag)
    vr = vr_of(tag)
    conversion = row.conversion if row else of_vr(vr, several=str(dictionary_VM(tag)) != "1")
    level = row.level if row else Level.STEP if attribute.startswith(f"{STEP}.") else Level.ORDER
    return _Line(tag, vr, tuple(map(parse_source, sources)), conversion, level)
