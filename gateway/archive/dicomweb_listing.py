"""What a retrieval means on a DICOMweb server: its instances, with classes and transfer syntaxes, before all else."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.archive.dicomweb_query import QueryPlan, is_path_segment
from gateway.archive.dicomweb_search import DicomWebSearch
from gateway.archive.interface import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    InstanceReference,
    Level,
    Query,
    Selection,
)
from gateway.archive.orthanc_tags import AVAILABLE_TRANSFER_SYNTAX_UID, SOP_CLASS_UID
from gateway.matching.attributes import Attributes, vr_of
from gateway.matching.keys import Key

# Of servers that do not say transfer syntaxes: one instance of each series and class is looked at, of so many at most.
MAXIMUM_LOOKS: Final = 100
_UIDS: Final = (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID)
_ASKED: Final = (Key(SOP_CLASS_UID, "UI"), Key(AVAILABLE_TRANSFER_SYNTAX_UID, "UI"))


@dataclass(frozen=True, slots=True)
class DicomWebInstance(InstanceReference):
    """`handle` is the path of the instance. `series_size`: how many are listed of its series; 0: only some were."""

    study_instance_uid: str = ""
    series_instance_uid: str = ""
    series_size: int = 0

    @property
    def series(self) -> str:
        """The path of its series."""
        return f"/studies/{self.study_instance_uid}/series/{self.series_instance_uid}"


Look = Callable[[DicomWebInstance], str]
"""Finds out the transfer syntax of an instance; "" if that cannot be done."""


def list_instances(search: DicomWebSearch, selection: Selection, look: Look) -> list[InstanceReference]:
    """The instances that are selected, each once. Raises DicomWebError."""
    found = list(_instances(search, selection))
    if SOP_INSTANCE_UID not in selection.identifiers:
        sizes = Counter(instance.series for instance in found)
        found = [replace(instance, series_size=sizes[instance.series]) for instance in found]
    return list(_with_transfer_syntaxes(found, look))


def unique_keys(search: DicomWebSearch, selection: Selection, level: Level) -> list[Key]:
    """Keys for what is selected, down to `level`; none if there is no such study. Raises DicomWebError."""
    identifiers = dict(selection.identifiers)
    if PATIENT_ID in identifiers or ACCESSION_NUMBER in identifiers:
        studies = [study for study in _studies(search, selection) if is_path_segment(study)]
        if not studies:
            return []
        identifiers[STUDY_INSTANCE_UID] = tuple(studies)
    return [Key(tag, "UI", "\\".join(identifiers.get(tag, ()))) for tag in _UIDS[: level.value]]


def instance_plan(search: DicomWebSearch, keys: Sequence[Key]) -> QueryPlan:
    """A search for instances with what `reference_of` needs."""
    return search.plan(Query(Level.IMAGE, (*keys, *_ASKED)))


def _instances(search: DicomWebSearch, selection: Selection) -> Iterator[DicomWebInstance]:
    keys = unique_keys(search, selection, Level.IMAGE)
    if not keys:
        return
    for attributes in search.matches(instance_plan(search, keys)):
        instance = reference_of(attributes)
        if instance is not None:
            yield instance


def _studies(search: DicomWebSearch, selection: Selection) -> Iterator[str]:
    """The studies in which all of the selection is. Its values are literal, whatever a server takes `*` for."""
    tags = (PATIENT_ID, ACCESSION_NUMBER, STUDY_INSTANCE_UID)
    wanted = {tag: selection.identifiers[tag] for tag in tags if tag in selection.identifiers}
    keys = tuple(Key(tag, vr_of(tag), "\\".join(wanted.get(tag, ()))) for tag in tags)
    for attributes in search.matches(search.plan(Query(Level.STUDY, keys))):
        if all(text_of(attributes, tag) in {value.strip(" \0") for value in values} for tag, values in wanted.items()):
            yield text_of(attributes, STUDY_INSTANCE_UID)


def reference_of(attributes: Attributes) -> DicomWebInstance | None:
    """An instance as a server tells of it; None if it does not say which one."""
    study, series, instance = (text_of(attributes, tag) for tag in _UIDS)
    if not all(map(is_path_segment, (study, series, instance))):
        return None
    available = text_of(attributes, AVAILABLE_TRANSFER_SYNTAX_UID)
    return DicomWebInstance(
        handle=f"/studies/{study}/series/{series}/instances/{instance}",
        # of a hundred thousand instances a few differ
        sop_class_uid=sys.intern(text_of(attributes, SOP_CLASS_UID)),
        sop_instance_uid=instance,
        # of several nobody knows which one is stored
        transfer_syntax_uid=sys.intern(available) if "\\" not in available else "",
        size_bytes=0,
        study_instance_uid=sys.intern(study),
        series_instance_uid=sys.intern(series),
    )


def _with_transfer_syntaxes(found: list[DicomWebInstance], look: Look) -> Iterator[DicomWebInstance]:
    looked: dict[tuple[str, str], str] = {}
    for instance in found:
        if instance.transfer_syntax_uid:
            yield instance
            continue
        kind = (instance.series, instance.sop_class_uid)
        if kind not in looked and len(looked) < MAXIMUM_LOOKS:
            looked[kind] = sys.intern(look(instance))
        yield replace(instance, transfer_syntax_uid=looked.get(kind, ""))


def text_of(attributes: Attributes, tag: int) -> str:
    """A value that is text, without padding; "" for any other, or none."""
    element = attributes.get(tag)
    return element.value.strip(" \0") if element is not None and isinstance(element.value, str) else ""
