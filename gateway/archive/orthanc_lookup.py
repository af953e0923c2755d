"""The part of a query that Orthanc's index can narrow down: never fewer entities than match, often not many more."""

from __future__ import annotations

import re
from typing import Final

from gateway.archive.interface import Query
from gateway.archive.orthanc_tags import MODALITIES_IN_STUDY, Source, has_several_values, source_of
from gateway.matching import times
from gateway.matching.keys import Key

# /tools/find drops other characters than ASCII's from what it looks up first, and compares by upper case.
_UNSAFE: Final = re.compile(r"[^0-9A-Za-z ^.,:;/()+_'-]+|\?", re.ASCII)
_UID: Final = re.compile(r"[0-9A-Za-z._-]+", re.ASCII)
_TEXT_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))


def lookup(query: Query) -> dict[str, str]:
    """The `Query` of POST /tools/find. With CaseSensitive false it finds all that match, and perhaps others."""
    found = {}
    for key in query.keys:
        narrowing = key.tag == MODALITIES_IN_STUDY or source_of(key.tag, query.level) is Source.MAIN
        if key.is_universal or not narrowing or has_several_values(key.tag):
            continue
        text = _constraint(key)
        if text is not None:
            found[f"{key.tag >> 16:04x},{key.tag & 0xFFFF:04x}"] = text
    return found


def _constraint(key: Key) -> str | None:
    if any(not value.strip("*") for value in key.values):
        return None
    if key.vr == "UI":
        return "\\".join(key.values) if all(map(_UID.fullmatch, key.values)) else None
    if key.vr == "DA":
        return _dates(key)
    if key.vr not in _TEXT_VRS:
        return None  # times by their meaning, numbers by their value: Orthanc compares text
    patterns = [_pattern(key, value) for value in key.values]
    if any(not pattern.strip("*") for pattern in patterns):
        return None
    if len(patterns) == 1:
        return patterns[0]
    # in a list Orthanc knows no wildcards
    return None if any("*" in pattern for pattern in patterns) else "\\".join(patterns)


def _pattern(key: Key, value: str) -> str:
    if key.vr == "PN":
        # one of three component groups may match; components may have spaces around them, empty ones may be missing
        group = max(value.split("="), key=len)
        value = "*" + "*^*".join(component.strip() for component in group.strip("^ ").split("^")) + "*"
    return re.sub(r"\*+", "*", _UNSAFE.sub("*", value))


def _dates(key: Key) -> str | None:
    wanted = times.parse_range("DA", key.values[0]) if len(key.values) == 1 else None
    if wanted is None:
        return None
    lower, upper = times.days(wanted)
    return lower if lower == upper else f"{lower}-{upper}"
