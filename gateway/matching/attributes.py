"""Attributes as queries see them: value representation and Unicode text, whatever they were encoded in."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary

# PS3.5 6.2: values of these VRs are one text, in which a backslash is a character like others.
SINGLE_VALUED_VRS: Final = frozenset(("ST", "LT", "UT", "UR"))
TIME_VRS: Final = frozenset(("DA", "TM", "DT"))
# PS3.5 6.1.2.3: whose text depends on Specific Character Set (0008,0005).
TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))


class Element(NamedTuple):
    """One attribute: text as in PS3.5 6.2 (several values with backslashes between, numbers in decimal), or items."""

    vr: str
    value: str | tuple[Attributes, ...]


Attributes = dict[int, Element]
"""Attributes by tag (group << 16 | element)."""


@cache
def vr_of(tag: int) -> str:
    """The VR of a tag of PS3.6, the first where there is a choice; UN for what it does not know."""
    entry = DicomDictionary.get(tag)
    if entry is None and 0x5000 <= tag >> 16 <= 0x60FF:  # repeating groups: curves and overlays
        pattern = f"{tag >> 24:02X}xx{tag & 0xFFFF:04X}"
        entry = RepeatersDictionary.get(pattern)
    return str(entry[0])[:2] if entry else "UN"


def name_of(tag: int) -> str:
    """A tag for a person: (gggg,eeee)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def is_private(tag: int) -> bool:
    """Whether the tag is of an odd group (PS3.5 7.8)."""
    return bool(tag >> 16 & 1)


def is_private_creator(tag: int) -> bool:
    """Whether the tag reserves a block of private elements (PS3.5 7.8.1)."""
    return is_private(tag) and 0x10 <= tag & 0xFFFF <= 0xFF


def creator_tag(tag: int) -> int:
    """The tag of the private creator that a private element belongs to."""
    return tag & 0xFFFF_0000 | (tag & 0xFF00) >> 8
