"""DICOM tags by the names that Orthanc has for them."""

from __future__ import annotations

import re
from typing import Final

from pydicom.datadict import (
    dictionary_has_tag,
    dictionary_VM,
    dictionary_VR,
    get_entry,
    keyword_for_tag,
    tag_for_keyword,
)

from gateway.matching.attributes import is_private, is_private_creator
from gateway.script_host.api.enumerations import ENUMERATIONS

UNKNOWN_NAME: Final = "Unknown Tag & Data"
_NUMERIC: Final = re.compile(r"([0-9A-Fa-f]{4})[,-]?([0-9A-Fa-f]{4})")
# PS3.6 has retired them later than the dictionary of Orthanc 1.10.1.
_RETIRED_LATER: Final = frozenset((0x0010_1000,))


def tag_name(tag: int) -> str:
    """What Orthanc calls a public tag."""
    if not tag & 0xFFFF:
        return "GenericGroupLength"
    if is_private_creator(tag):
        return "PrivateCreator"
    name = "" if is_private(tag) else keyword_for_tag(tag)
    if not name:
        return UNKNOWN_NAME
    return f"RETIRED_{name}" if _is_retired(tag) else name


def tag_of(name: str) -> int | None:
    """The tag that a name or `gggg,eeee` means."""
    numeric = _NUMERIC.fullmatch(name)
    if numeric is not None:
        return int(numeric[1] + numeric[2], 16)
    return tag_for_keyword(name.removeprefix("RETIRED_"))


def look_up(name: str) -> dict[str, int]:
    """LookupDictionary. Raises TypeError for a name that is none, as the plugin does."""
    tag = tag_of(name)
    if tag is None or not dictionary_has_tag(tag):
        raise TypeError(f"Unknown DICOM tag: {name}")
    vr, multiplicity = dictionary_VR(tag)[:2], dictionary_VM(tag)
    least, _, most = multiplicity.partition("-")
    representations = ENUMERATIONS["ValueRepresentation"]
    return {
        "Group": tag >> 16,
        "Element": tag & 0xFFFF,
        "ValueRepresentation": representations.get(vr, representations["UN"]),
        "MinMultiplicity": int(least),
        # 0 is any number.
        "MaxMultiplicity": int(most or least) if (most or least).isdigit() else 0,
    }


def _is_retired(tag: int) -> bool:
    try:
        return get_entry(tag)[3] == "Retired" and tag not in _RETIRED_LATER
    except KeyError:
        return False
