"""Acknowledgements of what we sent (HL7 2.5.1, 2.9.2 and 2.9.3): whose they are, and what they say."""

import re
from dataclasses import dataclass
from typing import Final

from gateway import hl7_character_sets
from worklist.hl7.decoding import codec_of, look_at_header
from worklist.hl7.header import Header

_SEGMENT_ENDS: Final = re.compile("[\r\n]+")
# Table 0008.
ACCEPTED: Final = frozenset(("AA", "CA"))
ERRORS: Final = frozenset(("AE", "CE"))
REJECTIONS: Final = frozenset(("AR", "CR"))
# Of ERR, what is said besides: ERR-8 the user message, ERR-7 the diagnosis, ERR-3.2 the meaning of the code.
_ERR_TEXTS: Final = ((8, 1), (7, 1), (3, 2), (3, 1))


@dataclass(frozen=True, slots=True)
class Answer:
    """An acknowledgement: MSA-1, MSA-2, and what it says besides in one line."""

    code: str
    control_id: str
    text: str
    body: bytes


def read_answer(body: bytes, default_character_set: str) -> Answer | None:
    """Read an acknowledgement; None for what is none."""
    header = look_at_header(body, default_character_set)
    if header is None:
        return None
    codec = codec_of(header, default_character_set) or "latin-1"
    segments = _SEGMENT_ENDS.split(body.decode(codec, "replace"))
    fields = [segment.split(header.field_separator) for segment in segments]
    msa = next((each for each in fields if each[0] == "MSA"), [])
    if len(msa) < 3 or msa[1].strip().upper() not in ACCEPTED | ERRORS | REJECTIONS:
        return None
    said = [msa[3] if len(msa) > 3 else "", *(_error(each, header) for each in fields if each[0] == "ERR")]
    text = "; ".join(dict.fromkeys(filter(None, (each.strip() for each in said))))
    return Answer(msa[1].strip().upper(), msa[2].strip(), text, body)


def _error(fields: list[str], header: Header) -> str:
    for number, component in _ERR_TEXTS:
        components = fields[number].split(header.encoding_characters[0]) if number < len(fields) else []
        if component <= len(components) and components[component - 1].strip():
            return components[component - 1]
    return fields[1] if len(fields) > 1 else ""


def readable_character_set(name: str) -> str:
    """A character set of the configuration as that of messages that declare none."""
    declared = [each for each in name.split("~") if not hl7_character_sets.is_undeclared(each)]
    return declared[0] if declared else "8859/1"
