"""The part of a query that the query index can narrow down: never fewer entities than match."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from gateway.archive.interface import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Level,
    Query,
)
from gateway.archive.orthanc_lookup import lookup
from gateway.archive.orthanc_resources import short
from gateway.archive.orthanc_tags import MODALITIES_IN_STUDY, MODALITY
from gateway.matching.attributes import vr_of
from gateway.matching.keys import Key
from gateway.matching.text import normal_name

ACCESSION_NUMBER: Final = 0x0008_0050
STUDY_DATE: Final = 0x0008_0020
PATIENT_NAME: Final = 0x0010_0010

# Where an attribute stands: the level that has it, and the column (gateway.archive.index.file).
_COLUMNS: Final = {
    PATIENT_ID: (Level.PATIENT, "p.patient_id"),
    STUDY_INSTANCE_UID: (Level.STUDY, "s.uid"),
    ACCESSION_NUMBER: (Level.STUDY, "s.accession"),
    SERIES_INSTANCE_UID: (Level.SERIES, "x.uid"),
    MODALITY: (Level.SERIES, "x.modality"),
}
_WILDCARD: Final = re.compile("[*?]")
# Sorts after every character that is in use.
_LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What is to be looked up: entities of `level` for which all `conditions` hold, SQL and its parameters.

    At level IMAGE series are looked up, and `sop_instance_uids` are those asked for, empty for all. `is_complete`:
    Orthanc's own index could not narrow it down further.
    """

    level: Level
    conditions: tuple[tuple[str, tuple[str, ...]], ...]
    sop_instance_uids: tuple[str, ...]
    is_complete: bool


def narrow(query: Query) -> Narrowing | None:
    """What of `query` the index can look up; None when that is nothing, and Orthanc's own index can do better."""
    conditions = {key.tag: condition for key in query.keys if (condition := _condition(key, query)) is not None}
    uids = tuple(query.identifiers(SOP_INSTANCE_UID)) if query.level is Level.IMAGE else ()
    applied = {short(tag) for tag in conditions} | ({short(SOP_INSTANCE_UID)} if uids else set())
    is_complete = lookup(query).keys() <= applied
    if not conditions and (query.level.value > Level.STUDY.value or not is_complete):
        return None
    return Narrowing(query.level, tuple(conditions.values()), uids, is_complete)


def _condition(key: Key, query: Query) -> tuple[str, tuple[str, ...]] | None:
    # A peer may send a key with a VR that is not the attribute's: it is then compared by other rules.
    if key.is_universal or key.vr != vr_of(key.tag):
        return None
    if key.tag == STUDY_DATE and query.level is not Level.PATIENT:
        return _dates(query)
    if key.tag == PATIENT_NAME:
        return _names(key)
    if key.tag == MODALITIES_IN_STUDY and query.level is Level.STUDY:
        among = _among("y.modality", key.values)
        return among and (f"EXISTS (SELECT 1 FROM series y WHERE y.study = s.number AND {among[0]})", among[1])
    level, column = _COLUMNS.get(key.tag, (None, ""))
    if level is None or level.value > query.level.value:
        return None
    return _among(column, key.values)


def _among(column: str, patterns: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """One of `patterns`, in which * and ? are wildcards; None when one of them is empty or begins with such."""
    exact = [pattern for pattern in patterns if not _WILDCARD.search(pattern)]
    prefixes = [_WILDCARD.split(pattern, maxsplit=1)[0] for pattern in patterns if _WILDCARD.search(pattern)]
    if not all(patterns) or not all(prefixes) or not all(map(is_unicode, patterns)):
        return None
    either, parameters = [], []
    if exact:
        either.append(f"{column} IN (SELECT value FROM json_each(?))")
        parameters.append(json.dumps(exact))
    for prefix in prefixes:
        either.append(f"({column} >= ? AND {column} < ?)")
        parameters += [prefix, prefix + _LAST]
    return f"({' OR '.join(either)})", tuple(parameters)


def _names(key: Key) -> tuple[str, tuple[str, ...]] | None:
    """One component group that the key gives must be among those of the name (gateway.matching.text)."""
    groups = [
        max((normal_name(group, case_sensitive=False) for group in value.split("=")), key=len) for value in key.values
    ]
    among = _among("value", tuple(groups))
    return among and (f"p.number IN (SELECT patient FROM name WHERE {among[0]})", among[1])


def _dates(query: Query) -> tuple[str, tuple[str, ...]] | None:
    """As Orthanc is asked for them: a day, or a range of which one end may be missing."""
    days = lookup(query).get("0008,0020")
    if days is None:
        return None
    first, _, last = days.partition("-")
    return "s.date BETWEEN ? AND ?", (first, last or _LAST) if "-" in days else (days, days)


def is_unicode(text: str) -> bool:
    """Whether SQLite can hold `text`: JSON may bring half a surrogate pair."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
