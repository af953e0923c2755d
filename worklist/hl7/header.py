"""The header of a message, MSH, read from its text. It never fails: what is missing is empty."""

import re
from dataclasses import dataclass
from typing import Final

DEFAULT_FIELD_SEPARATOR: Final = "|"
DEFAULT_ENCODING_CHARACTERS: Final = "^~\\&"

# MSH ends with field 21 (HL7 2.5.1); later versions have 25. What follows is nobody's business here.
_LAST_FIELD: Final = 25
_SEGMENT_END: Final = re.compile("[\r\n]")
_LETTERS: Final = re.compile("[0-9A-Za-z]")
# For a position whose usual delimiter has another meaning in this message.
_SPARE_DELIMITERS: Final = "!#$%*"


@dataclass(frozen=True, slots=True)
class Header:
    """MSH. Texts stand as they came, with their escape sequences."""

    # MSH-1, and the first four characters of MSH-2 (component, repetition, escape, subcomponent).
    field_separator: str = DEFAULT_FIELD_SEPARATOR
    encoding_characters: str = DEFAULT_ENCODING_CHARACTERS
    # MSH-3 first.
    fields: tuple[str, ...] = ()

    def field(self, number: int) -> str:
        """MSH-`number`, from 3 on, with all its repetitions and components; empty if it is missing or null."""
        index = number - 3
        text = self.fields[index] if 0 <= index < len(self.fields) else ""
        return "" if text == '""' else text

    def component(self, number: int, component: int) -> str:
        """MSH-`number`.`component` of the first repetition; components count from 1."""
        first = self.field(number).split(self.encoding_characters[1])[0]
        components = first.split(self.encoding_characters[0])
        return components[component - 1].strip() if component <= len(components) else ""

    @property
    def sending_application(self) -> str:
        """MSH-3, all components."""
        return self.field(3)

    @property
    def sending_facility(self) -> str:
        """MSH-4, all components."""
        return self.field(4)

    @property
    def message_type(self) -> str:
        """MSH-9.1: ORM, ADT, ..."""
        return self.component(9, 1)

    @property
    def trigger_event(self) -> str:
        """MSH-9.2: O01, A08, ..."""
        return self.component(9, 2)

    @property
    def type_and_event(self) -> str:
        """ORM^O01, with `^` whatever the sender uses."""
        return "^".join(part for part in (self.message_type, self.trigger_event) if part)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.field(10)

    @property
    def version(self) -> str:
        """MSH-12.1."""
        return self.component(12, 1)


def read_header(text: str) -> Header | None:
    """The header of a message; None if the text does not begin with MSH and a field separator."""
    segment = _SEGMENT_END.split(text, maxsplit=1)[0]
    if len(segment) < 4 or not segment.startswith("MSH") or not _is_delimiter(segment[3]):
        return None
    separator = segment[3]
    characters, *fields = segment[4:].split(separator, _LAST_FIELD - 1)
    # Senders may leave out delimiters from the end on when they do not use them (HL7 2.5.1, 2.5.4).
    usable = characters[: len(DEFAULT_ENCODING_CHARACTERS)]
    if not all(map(_is_delimiter, usable)) or len(set(usable + separator)) <= len(usable):
        usable = ""
    for default in DEFAULT_ENCODING_CHARACTERS[len(usable) :]:
        usable += next(c for c in default + _SPARE_DELIMITERS if c not in usable + separator)
    return Header(separator, usable, tuple(fields[: _LAST_FIELD - 2]))


def _is_delimiter(character: str) -> bool:
    return "!" <= character <= "~" and not _LETTERS.match(character)
