"""Attributes of a query that are computed from what stands under an entity (PS3.4 C.3.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.archive.interface import Level
from gateway.archive.orthanc_resources import OrthancResources, Resource, short
from gateway.archive.orthanc_tags import (
    AVAILABLE_TRANSFER_SYNTAX_UID,
    MODALITIES_IN_STUDY,
    MODALITY,
    NUMBER_OF_PATIENT_RELATED_INSTANCES,
    NUMBER_OF_PATIENT_RELATED_SERIES,
    NUMBER_OF_PATIENT_RELATED_STUDIES,
    NUMBER_OF_SERIES_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_INSTANCES,
    NUMBER_OF_STUDY_RELATED_SERIES,
    SOP_CLASS_UID,
    SOP_CLASSES_IN_STUDY,
)
from gateway.matching.attributes import Attributes, Element

# The answer of Orthanc has some 600 bytes for each.
INSTANCES_AT_ONCE: Final = 20_000

Found = list[tuple[Resource, Attributes]]


class Related:
    """Adds the computed attributes among `tags` to a page of entities, a few requests for all of them."""

    def __init__(self, resources: OrthancResources, tags: frozenset[int]) -> None:
        self._resources = resources
        self._tags = tags

    def add(self, level: Level, found: Found) -> None:
        """Add to the attributes of each of `found`. Raises ArchiveUnavailable, TooBroad."""
        if self._tags and found:
            (self._patients, self._studies, self._series, self._images)[level.value](found)

    def _patients(self, found: Found) -> None:
        for resource, attributes in found:
            attributes[NUMBER_OF_PATIENT_RELATED_STUDIES] = _count(len(resource["Studies"]))
        if self._tags == {NUMBER_OF_PATIENT_RELATED_STUDIES}:
            return
        patients = {study: resource["ID"] for resource, _attributes in found for study in resource["Studies"]}
        instances: dict[str, list[int]] = defaultdict(list)
        for series in self._under(Level.SERIES, found):
            instances[patients.get(series["ParentStudy"], "")].append(len(series["Instances"]))
        for resource, attributes in found:
            counts = instances[resource["ID"]]
            attributes[NUMBER_OF_PATIENT_RELATED_SERIES] = _count(len(counts))
            attributes[NUMBER_OF_PATIENT_RELATED_INSTANCES] = _count(sum(counts))

    def _studies(self, found: Found) -> None:
        for resource, attributes in found:
            attributes[NUMBER_OF_STUDY_RELATED_SERIES] = _count(len(resource["Series"]))
        if self._tags == {NUMBER_OF_STUDY_RELATED_SERIES}:
            return
        series_of: dict[str, list[Resource]] = defaultdict(list)
        for series in self._under(Level.SERIES, found):
            series_of[series["ParentStudy"]].append(series)
        for resource, attributes in found:
            all_series = series_of[resource["ID"]]
            instances = sum(len(series["Instances"]) for series in all_series)
            modalities = (series["MainDicomTags"].get(short(MODALITY), "").strip() for series in all_series)
            attributes[NUMBER_OF_STUDY_RELATED_INSTANCES] = _count(instances)
            attributes[MODALITIES_IN_STUDY] = Element("CS", _distinct(modalities))
        if SOP_CLASSES_IN_STUDY in self._tags:
            classes = self._sop_classes([series for all_series in series_of.values() for series in all_series])
            for resource, attributes in found:
                attributes[SOP_CLASSES_IN_STUDY] = Element("UI", _distinct(classes[resource["ID"]]))

    def _series(self, found: Found) -> None:
        for resource, attributes in found:
            attributes[NUMBER_OF_SERIES_RELATED_INSTANCES] = _count(len(resource["Instances"]))

    def _images(self, found: Found) -> None:
        identifiers = [resource["ID"] for resource, _attributes in found]
        instances = self._resources.bulk(Level.IMAGE, identifiers, metadata=True)
        metadata = {instance["ID"]: instance["Metadata"] for instance in instances}
        for resource, attributes in found:
            values = metadata.get(resource["ID"], {})
            attributes[SOP_CLASS_UID] = Element("UI", values.get("SopClassUid", ""))
            attributes[AVAILABLE_TRANSFER_SYNTAX_UID] = Element("UI", values.get("TransferSyntax", ""))

    def _sop_classes(self, all_series: list[Resource]) -> dict[str, set[str]]:
        """The SOP classes by study; instances are asked for all together, or in parts where they are many."""
        found: dict[str, set[str]] = defaultdict(set)
        study_of = {series["ID"]: series["ParentStudy"] for series in all_series}
        for part in _parts(all_series):
            for instance in self._resources.bulk(Level.IMAGE, part, metadata=True):
                found[study_of.get(instance["ParentSeries"], "")].add(instance["Metadata"].get("SopClassUid", ""))
        return found

    def _under(self, level: Level, found: Found) -> list[Resource]:
        return self._resources.bulk(level, [resource["ID"] for resource, _attributes in found])


def _parts(all_series: list[Resource]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for series in all_series:
        if part and size + len(series["Instances"]) > INSTANCES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(series["ID"])
        size += len(series["Instances"])
    if part:
        yield part


def _count(number: int) -> Element:
    return Element("IS", str(number))


def _distinct(values: Iterable[str]) -> str:
    return "\\".join(sorted({value for value in values if value}))
