"""What an order's control code makes of its items: ORC-1, with ORC-5 where the pair has a line of its own.

Forgiving: an order is not refused because ORC-5 is empty. docs/hl7.md shows these tables.
"""

from collections.abc import Mapping
from typing import Final

from gateway.options.orders import Effect
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.orders.reader import Part

ORDER_CONTROL: Final[dict[str, Effect]] = {
    # Table 0119. What creates or changes.
    "NW": "CREATE",
    "SN": "CREATE",
    "RO": "CREATE",
    "CH": "CREATE",
    "XO": "UPDATE",
    "XX": "UPDATE",
    "RL": "UPDATE",
    "SC": "IGNORE",
    # What ends.
    "CA": "CANCELED",
    "OC": "CANCELED",
    "RP": "CANCELED",
    "RU": "CANCELED",
    "DC": "DISCONTINUED",
    "OD": "DISCONTINUED",
    # With ORC-5, table 0038; where it is empty with OBR-25, table 0123.
    "NW_CA": "CANCELED",
    "XO_CA": "CANCELED",
    "XO_DC": "DISCONTINUED",
    "XO_CM": "COMPLETED",
    "SC_SC": "SCHEDULED",
    "SC_IP": "STARTED",
    "SC_A": "COMPLETED",
    "SC_CM": "COMPLETED",
    "SC_F": "COMPLETED",
    "SC_CA": "CANCELED",
    "SC_X": "CANCELED",
    "SC_DC": "DISCONTINUED",
    # Answers to us or to others, what is prescribed and paid, and notes about what is no order. PR are former results
    # that go with an order (OMG, OMI). HD and OH have no line: whether an order on hold is hidden the site decides.
    **dict.fromkeys(
        (
            *("OK", "UA", "UC", "UD", "UF", "UH", "UM", "UN", "UR", "UX", "CR", "DR", "HR", "XR"),
            *("AF", "CN", "DE", "DF", "FU", "LI", "MC", "NA", "OF", "PA", "PR", "PY", "RE", "RF", "RR", "SR", "SS"),
        ),
        "IGNORE",
    ),
}

# HL7 2.5.1 chapter 10. Each event is the order control code that means the same.
APPOINTMENT_EVENTS: Final[dict[str, str]] = {
    "S12": "NW",
    "S13": "XO",
    "S14": "XO",
    "S15": "CA",
    "S16": "DC",
    "S17": "CA",
    "S26": "CA",
}


def order_effect(part: Part, overrides: Mapping[str, Effect]) -> Effect:
    """What is to be done for an order with ORC. Raises MessageError for a code that has no line."""
    segment = part.first("ORC")
    code = segment.text(1).strip().upper() if segment else ""
    if not code:
        raise MessageError(ErrorCode.REQUIRED_FIELD_MISSING, "ORC^1^1", "an order needs an order control code, ORC-1")
    status = (part.text("ORC", 5) or part.text("OBR", 25)).strip().upper()
    effect = effect_of(code, status, overrides)
    if effect is None:
        number = segment.number if segment else 1
        raise MessageError(
            ErrorCode.TABLE_VALUE_NOT_FOUND,
            f"ORC^{number}^1",
            f"order control {code[:8]} is not known: see OrderControl",
        )
    return effect


def effect_of(code: str, status: str, overrides: Mapping[str, Effect]) -> Effect | None:
    """The line of the pair before that of the code, what is configured before what is built in."""
    for key in (f"{code}_{status}", code):
        if key in overrides:
            return overrides[key]
        if key in ORDER_CONTROL and key != code:
            return ORDER_CONTROL[key]
    return ORDER_CONTROL.get(code)
