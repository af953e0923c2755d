"""Instances of Orthanc, listed and opened (C-MOVE, C-GET)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

from gateway.archive.interface import (
    ArchiveUnavailable,
    CannotTranscode,
    EncodedInstance,
    InstanceReference,
    Level,
    Query,
    Selection,
)
from gateway.archive.orthanc_lookup import lookup
from gateway.archive.orthanc_parents import Parents
from gateway.archive.orthanc_resources import OrthancResources, Resource, short
from gateway.archive.orthanc_tags import level_of
from gateway.archive.rest import OrthancRest
from gateway.matching.attributes import vr_of
from gateway.matching.keys import Key
from gateway.part10 import Part10Error, read_transfer_syntax

# An answer has some 700 bytes for each.
INSTANCES_AT_ONCE: Final = 2000
CHUNK_BYTES: Final = 256 * 1024


def list_instances(resources: OrthancResources, selection: Selection) -> list[InstanceReference]:
    """The instances that are selected, each once. Raises ArchiveUnavailable, TooBroad."""
    identifiers = list(dict.fromkeys(_instances(resources, selection)))
    return [
        _reference(resource)
        for start in range(0, len(identifiers), INSTANCES_AT_ONCE)
        for resource in resources.bulk(Level.IMAGE, identifiers[start : start + INSTANCES_AT_ONCE], metadata=True)
    ]


def _instances(resources: OrthancResources, selection: Selection) -> Iterator[str]:
    """Orthanc's identifiers of what is selected."""
    for entities in _entities(resources, selection):
        if selection.level is Level.IMAGE:
            yield from (entity["ID"] for entity in entities)
            continue
        series = entities
        if selection.level is not Level.SERIES:
            series = resources.bulk(Level.SERIES, [entity["ID"] for entity in entities])
        for one in series:
            yield from one["Instances"]


def _entities(resources: OrthancResources, selection: Selection) -> Iterator[list[Resource]]:
    """The entities that are selected: candidates from Orthanc's index, compared here as literal values."""
    level = selection.level
    wanted = {tag: frozenset(map(_trimmed, values)) for tag, values in selection.identifiers.items()}
    keys = tuple(Key(tag, vr_of(tag), "\\".join(values)) for tag, values in selection.identifiers.items())
    places = {tag: level_of(tag, level) for tag in wanted}
    top = min((place.value for place in places.values() if place is not None), default=level.value)
    parents = Parents(resources)

    def is_selected(entity: Resource) -> bool:
        tags = parents.tags(level, top, entity)
        return tags is not None and all(
            place is not None and _trimmed(tags[place].get(short(tag), "")) in wanted[tag]
            for tag, place in places.items()
        )

    for page in resources.pages(level, lookup(Query(level, keys))):
        parents.fetch(level, top, page)
        yield [entity for entity in page if is_selected(entity)]


def _trimmed(value: str) -> str:
    return value.strip(" \0")


def _reference(resource: Resource) -> InstanceReference:
    return InstanceReference(
        handle=resource["ID"],
        # of a hundred thousand instances a few differ
        sop_class_uid=sys.intern(resource["Metadata"].get("SopClassUid", "")),
        sop_instance_uid=resource["MainDicomTags"].get(short(Level.IMAGE.unique_key), ""),
        transfer_syntax_uid=sys.intern(resource["Metadata"].get("TransferSyntax", "")),
        size_bytes=int(resource["FileSize"]),
    )


@contextlib.contextmanager
def open_instance(
    rest: OrthancRest, instance: InstanceReference, transfer_syntax_uid: str | None
) -> Iterator[EncodedInstance]:
    """See Archive.open."""
    if transfer_syntax_uid is None:
        request = rest.open(f"/instances/{instance.handle}/file")
    else:
        kept = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
        order = {"Transcode": transfer_syntax_uid, "Keep": kept, "Force": True}
        request = rest.open(f"/instances/{instance.handle}/modify", order)
    with request as response:
        if response.status != 200:
            reason = f"instance {instance.handle}: Orthanc answers HTTP {response.status}"
            raise ArchiveUnavailable(reason) if transfer_syntax_uid is None else CannotTranscode(reason)
        try:
            found = read_transfer_syntax(response)
        except Part10Error as error:
            raise ArchiveUnavailable(f"instance {instance.handle} of Orthanc: {error}") from error
        if transfer_syntax_uid not in (None, found):
            raise CannotTranscode(f"instance {instance.handle} comes in transfer syntax {found}")
        yield EncodedInstance(found, response.length_remaining, iter(lambda: response.read(CHUNK_BYTES), b""))
