"""From keys to searches of QIDO-RS, and from what they answer to what was asked for (PS3.18 10.6, PS3.4 C.4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from pydicom.datadict import keyword_for_tag

from gateway.archive.interface import (
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Level,
    Query,
    TooBroad,
)
from gateway.archive.orthanc_tags import (
    MODALITIES_IN_STUDY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    TIMEZONE_OFFSET_FROM_UTC,
    Source,
    source_of,
)
from gateway.dicomweb.client import UNQUOTED
from gateway.dicomweb.qido import Parameters
from gateway.matching.answers import private_creators
from gateway.matching.attributes import Attributes, Element, is_private, is_private_creator
from gateway.matching.keys import Key
from gateway.matching.matcher import Matcher
from gateway.options.dicomweb import DicomWebServerSection

# Of longer lists a search for each costs more than to look at all that the level above has.
MAXIMUM_SEARCHES: Final = 200
MAXIMUM_SEARCHES_WITHIN: Final = 8
# Lists of studies and of series: each pair is a search, and one identifier has room for millions of pairs.
MAXIMUM_PLACES: Final = 20_000
# PS3.18 tables 10.6.3-3 to -5: what each answer has, asked for or not; here: what is empty there if it is left out.
TOLD: Final[dict[Level, frozenset[int]]] = {
    Level.PATIENT: frozenset((0x00100010, 0x00100020)),
    Level.STUDY: frozenset(
        (0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00100010, 0x00100020, 0x0020000D, 0x00200010)
    ),
    Level.SERIES: frozenset((0x00080060, 0x0020000E, 0x00200011, 0x00400244, 0x00400245, 0x00400275)),
    Level.IMAGE: frozenset((0x00080016, 0x00080018, 0x00200013)),
}
# What else an answer has anyway, if it has a value.
_RETURNED: Final[dict[Level, frozenset[int]]] = {
    Level.PATIENT: frozenset((0x00100030, 0x00100040)),
    Level.STUDY: frozenset(
        (0x00080056, 0x00080061, 0x00080201, 0x00100030, 0x00100040, 0x00081190, 0x00201206, 0x00201208)
    ),
    Level.SERIES: frozenset((0x00080201, 0x0008103E, 0x00081190, 0x00201209)),
    Level.IMAGE: frozenset((0x00080056, 0x00080201, 0x00081190, 0x00280008, 0x00280010, 0x00280011, 0x00280100)),
}
# What the path says is not said again, and of a list of UIDs a server takes what it takes.
_UIDS: Final = frozenset((STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID))
_PATIENT_NAME: Final = 0x0010_0010
# Matched by us only: PS3.18 8.3.4.1 has them, but servers rarely do.
_NOT_SENT_VRS: Final = frozenset(("SQ", "OB", "OW", "UN"))

# So that not everything is found.
MINIMUM_LITERAL_CHARACTERS: Final = 2
_LOOSE: Final = re.compile(f"(?:[^0-9A-Za-z._~{re.escape(UNQUOTED)}-]|[?])+")
INCLUDE_FIELD: Final = "includefield"
# PS3.5 9.1, with some tolerance.
_SEGMENT: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Search:
    """One search: below `resource`. `known`: what its place says of all that it finds."""

    resource: str
    parameters: Parameters
    known: Attributes


class QueryPlan:
    """A query, made ready. Raises InvalidQuery."""

    def __init__(
        self, query: Query, title: str, section: DicomWebServerSection, *, case_sensitive_pn: bool = False
    ) -> None:
        self.level = query.level
        self._section = section
        self.keys = [_unmatched(key) if key.tag == TIMEZONE_OFFSET_FROM_UTC else key for key in query.keys]
        self.keys = [key for key in self.keys if _is_asked(key, query.level)]
        self._matchers = [
            (key.tag, Matcher([key], case_sensitive_pn=case_sensitive_pn)) for key in self.keys if not key.is_universal
        ]
        self._private = [key for key in self.keys if key.creator]
        self._constants: Attributes = {
            QUERY_RETRIEVE_LEVEL: Element("CS", query.level.name),
            RETRIEVE_AE_TITLE: Element("AE", title),
            **private_creators(query.keys),
        }
        constants = Matcher(key for key in query.keys if key.tag in (QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE))
        self.is_empty = not constants.matches(self._constants)
        self.studies, self.series = (
            [uid for uid in sorted(query.identifiers(tag)) if is_path_segment(uid)]
            for tag in (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID)
        )
        for tag, usable in ((STUDY_INSTANCE_UID, self.studies), (SERIES_INSTANCE_UID, self.series)):
            self.is_empty |= bool(query.identifiers(tag)) and not usable

    @property
    def identity(self) -> tuple[int, ...]:
        """What tells one match from another."""
        if self.level is Level.PATIENT:
            return (STUDY_INSTANCE_UID,)
        return tuple(level.unique_key for level in Level if Level.PATIENT.value < level.value <= self.level.value)

    @property
    def kind(self) -> str:
        """The last part of the resource. Patients are found by their studies: hardly any server has /patients."""
        return {Level.SERIES: "series", Level.IMAGE: "instances"}.get(self.level, "studies")

    def searches(self) -> Iterator[Search]:
        """What to ask. Places that are known are searched one by one; lists of values, too. Raises TooBroad."""
        for resource, known in self._places():
            in_path = frozenset(known)
            for parameters in self._parameters(in_path):
                yield Search(f"{resource}/{self.kind}", parameters, known)

    def study_searches(self) -> Iterator[Search]:
        """The studies in which all could be, for servers that search series and instances only within a study."""
        keys = [key for key in self.keys if key.tag in TOLD[Level.STUDY] | {MODALITIES_IN_STUDY, 0x00100030}]
        for parameters in self._combinations([key for key in keys if not key.is_universal]):
            yield Search("/studies", parameters, {})

    def within(self, study: str, series: str, known: Attributes) -> Iterator[Search]:
        """The same query within one study, of which `known` was found, or within one series of it."""
        known = {**known, STUDY_INSTANCE_UID: Element("UI", study)}
        resource = f"/studies/{study}"
        if series:
            known[SERIES_INSTANCE_UID] = Element("UI", series)
            resource += f"/series/{series}"
        above = frozenset(known) | TOLD[Level.STUDY]
        for parameters in self._parameters(above):
            yield Search(f"{resource}/{self.kind}", parameters, known)

    def complete(self, found: Attributes, known: Attributes) -> Attributes:
        """What was found, with what is known anyway."""
        attributes = {**known, **found, **self._constants}
        for key in self._private:
            source = _in_block(key, found)
            attributes.pop(key.tag, None)
            if source is not None:
                attributes[key.tag] = source
        return attributes

    def matches(self, attributes: Attributes) -> bool:
        """Compare again: servers compare loosely, or not at all. What a server does not tell it must have compared."""
        return all(
            matcher.matches(attributes)
            for tag, matcher in self._matchers
            if tag in attributes or tag in TOLD[self.level]
        )

    def _places(self) -> Iterator[tuple[str, Attributes]]:
        is_below = self.level in (Level.SERIES, Level.IMAGE)
        if not is_below or not self.studies:
            yield "", {}
            return
        if self.level is Level.IMAGE and len(self.studies) * len(self.series) > MAXIMUM_PLACES:
            raise TooBroad(f"more than {MAXIMUM_PLACES} pairs of study and series")
        for study in self.studies:
            known: Attributes = {STUDY_INSTANCE_UID: Element("UI", study)}
            if self.level is Level.IMAGE and self.series:
                for series in self.series:
                    in_series = {**known, SERIES_INSTANCE_UID: Element("UI", series)}
                    yield f"/studies/{study}/series/{series}", in_series
            else:
                yield f"/studies/{study}", known

    def _parameters(self, in_path: frozenset[int]) -> Iterator[Parameters]:
        keys = [key for key in self.keys if not key.is_universal and key.tag not in in_path]
        fields = [(INCLUDE_FIELD, field) for field in self._include_fields()]
        for parameters in self._combinations(keys, is_scoped=bool(in_path)):
            yield [*parameters, *fields]

    def _combinations(self, keys: list[Key], *, is_scoped: bool = False) -> Iterator[Parameters]:
        """One search for each combination of values: a QIDO-RS parameter has one value, but for lists of UIDs."""
        choices: list[list[tuple[str, str]]] = []
        searches = 1
        for key in sorted(keys, key=lambda key: key.tag not in _UIDS):
            name = keyword_for_tag(key.tag) or f"{key.tag:08X}"
            if key.vr in _NOT_SENT_VRS or key.creator:
                continue
            values = list(dict.fromkeys(key.values)) if "\\" in key.value else [key.value.strip(" \0")]
            if any(not value.strip("*") for value in values):
                continue
            if len(values) > 1 and key.tag in _UIDS and self._section.qido_uid_lists:
                values = [",".join(values)]
            maximum = MAXIMUM_SEARCHES_WITHIN if is_scoped else MAXIMUM_SEARCHES
            if searches * len(values) > maximum and (is_scoped or searches > 1):
                continue  # what is found is compared here
            searches *= len(values)
            choices.append([(name, value) for value in values])
        yield from (list(one) for one in product(*choices))

    def _include_fields(self) -> Iterator[str]:
        choice = self._section.qido_include_fields
        if choice == "None":
            return
        if choice == "All" or any(key.creator for key in self.keys):
            yield "all"
            return
        anyway = TOLD[self.level] | _RETURNED[self.level]
        for key in self.keys:
            if key.tag not in anyway:
                yield f"{key.tag:08X}"


def loosened(parameters: Parameters) -> Parameters | None:
    """The same search for servers that take quoted characters literally, and for which `?` is a byte of UTF-8
    (Orthanc 1.10.1): with the wildcard `*` for both.

    None if it would be the same, or nothing were left that keeps it from finding everything.
    """
    loose = [(name, _LOOSE.sub("*", value)) for name, value in parameters]
    if loose == list(parameters):
        return None
    literal = (value.replace("*", "") for name, value in loose if name != INCLUDE_FIELD)
    return loose if any(len(value) >= MINIMUM_LITERAL_CHARACTERS for value in literal) else None


def is_path_segment(uid: str) -> bool:
    """Whether a UID, as somebody else wrote it, may stand in a URL: nothing that leads to another place."""
    return bool(_SEGMENT.fullmatch(uid)) and not uid.startswith(".")


def patient_of(attributes: Attributes) -> tuple[str, ...]:
    """What tells one patient from another: the ID, and for those without one the name."""
    identifier, name = (_text(attributes, tag) for tag in (PATIENT_ID, _PATIENT_NAME))
    return (identifier,) if identifier else ("", name)


def _text(attributes: Attributes, tag: int) -> str:
    element = attributes.get(tag)
    return element.value.strip() if element is not None and isinstance(element.value, str) else ""


def _unmatched(key: Key) -> Key:
    """PS3.4 C.2.2.2: never matched."""
    return Key(key.tag, key.vr)


def _is_asked(key: Key, level: Level) -> bool:
    """Whether the key is one for the server."""
    if key.tag in (QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE) or is_private_creator(key.tag):
        return False
    return is_private(key.tag) or source_of(key.tag, level) is not Source.NONE


def _in_block(key: Key, found: Attributes) -> Element | None:
    """The private element, in whatever block its creator has there (PS3.5 7.8.1)."""
    group = key.tag & 0xFFFF_0000
    for block in range(0x10, 0x100):
        creator = found.get(group | block)
        if creator is not None and isinstance(creator.value, str) and creator.value.strip() == key.creator:
            return found.get(group | block << 8 | key.tag & 0xFF)
    return None
