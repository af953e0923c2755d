"""How the configuration names a place in an HL7 message: `OBR-4.2`, `OBX[29463-7]-5`, `PID/NTE-3`, `=text`."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

_SOURCE: Final = re.compile(
    r"(?:(?P<after>[A-Z][A-Z0-9]{2})/)?(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<code>[^\[\]]{1,64})\])?"
    r"-(?P<field>[1-9]\d{0,2})(?:\.(?P<component>[1-9]\d?)(?:\.(?P<subcomponent>[1-9]\d?)|-(?P<last>[1-9]\d?))?)?"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a message; numbers count from 1, 0 is the whole."""

    text: str
    segment: str = ""
    field: int = 0
    component: int = 0
    subcomponent: int = 0
    # Of a range of components, OBR-4.4-6: its last.
    last_component: int = 0
    # PID/NTE-3: only where NTE stands after this segment.
    after: str = ""
    # OBX[29463-7]-5: only where the segment's identifier (OBX-3) has this code or text.
    code: str = ""
    # Without a place: this text.
    constant: str | None = None

    def __str__(self) -> str:
        return self.text


@cache
def parse_source(text: str) -> Source:
    """Raises ValueError."""
    if text.startswith("="):
        return Source(text, constant=text[1:])
    match = _SOURCE.fullmatch(text)
    if match is None:
        raise ValueError(f'expected an HL7 field such as "OBR-4.2", or "=text", not "{text[:40]}"')
    numbers = {name: int(match[name] or 0) for name in ("field", "component", "subcomponent", "last")}
    if match["last"] and numbers["last"] < numbers["component"]:
        raise ValueError(f'"{text}" ends before it begins')
    return Source(
        text,
        match["segment"],
        numbers["field"],
        numbers["component"],
        numbers["subcomponent"],
        numbers["last"],
        match["after"] or "",
        (match["code"] or "").casefold(),
    )
