"""Instances of Orthanc, listed and opened (C-MOVE, C-GET)."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Iterator
from http.client import HTTPException
from typing import Final
from urllib.parse import quote

from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from gateway.archive.interface import (
    ArchiveUnavailable,
    CannotTranscode,
    EncodedInstance,
    InstanceReference,
    Level,
    Query,
    Selection,
    Wanted,
)
from gateway.archive.orthanc_candidates import OrthancCandidates
from gateway.archive.orthanc_parents import Parents
from gateway.archive.orthanc_resources import OrthancResources, Resource, short
from gateway.archive.orthanc_tags import level_of
from gateway.archive.rest import OrthancRest
from gateway.dicom.part10 import (
    MAXIMUM_META_BYTES,
    MEDIA_STORAGE_SOP_INSTANCE_UID,
    TRANSFER_SYNTAX_UID,
    Part10Error,
    find_data_set,
)
from gateway.matching.attributes import vr_of
from gateway.matching.keys import Key

# An answer has some 700 bytes for each.
INSTANCES_AT_ONCE: Final = 2000
VALUES_AT_ONCE: Final = 50
PIECE_BYTES: Final = 256 * 1024
MAXIMUM_START_BYTES: Final = 2 * MAXIMUM_META_BYTES

_KEPT: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
# What Orthanc may be asked to transcode to: without loss, because a lossy image gets a new SOP Instance UID (PS3.3
# C.7.6.1.1.5), and not to JPEG-LS, because DCMTK 3.6.7 damages its memory when it encodes that: Orthanc dies of it.
TRANSCODING_TARGETS: Final = frozenset(
    (
        "1.2.840.10008.1.2",  # Implicit VR Little Endian
        "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
        "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
        "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
        "1.2.840.10008.1.2.4.57",  # JPEG Lossless (Process 14)
        "1.2.840.10008.1.2.4.70",  # JPEG Lossless (Process 14, Selection Value 1)
        "1.2.840.10008.1.2.4.90",  # JPEG 2000 (Lossless Only), with a plugin
        "1.2.840.10008.1.2.5",  # RLE Lossless, with a plugin
    )
)
# Refused, gone, or in trouble. What it cannot do Orthanc 1.10.1 answers with 500, what it does not know with 400.
_SAYS_NOTHING_OF_TRANSCODING: Final = frozenset((401, 403, 404, 502, 503, 504))


def list_instances(
    resources: OrthancResources, candidates: OrthancCandidates, selection: Selection
) -> list[InstanceReference]:
    """The instances that are selected, each once. Raises ArchiveUnavailable, TooBroad."""
    identifiers = list(dict.fromkeys(_instances(resources, candidates, selection)))
    return [
        _reference(resource)
        for start in range(0, len(identifiers), INSTANCES_AT_ONCE)
        for resource in resources.bulk(Level.IMAGE, identifiers[start : start + INSTANCES_AT_ONCE], metadata=True)
    ]


def _instances(resources: OrthancResources, candidates: OrthancCandidates, selection: Selection) -> Iterator[str]:
    """Orthanc's identifiers of what is selected."""
    for entities in _entities(resources, candidates, selection):
        if selection.level is Level.IMAGE:
            yield from (entity["ID"] for entity in entities)
            continue
        series = entities
        if selection.level is not Level.SERIES:
            series = resources.bulk(Level.SERIES, [entity["ID"] for entity in entities])
        for one in series:
            yield from one["Instances"]


def _entities(
    resources: OrthancResources, candidates: OrthancCandidates, selection: Selection
) -> Iterator[list[Resource]]:
    """The entities that are selected: candidates, compared here as literal values."""
    level = selection.level
    wanted = {tag: frozenset(map(_trimmed, values)) for tag, values in selection.identifiers.items()}
    places = {tag: level_of(tag, level) for tag in wanted}
    top = min((place.value for place in places.values() if place is not None), default=level.value)
    parents = Parents(resources)

    def is_selected(entity: Resource) -> bool:
        tags = parents.tags(level, top, entity)
        return tags is not None and all(
            place is not None and _trimmed(tags[place].get(short(tag), "")) in wanted[tag]
            for tag, place in places.items()
        )

    for keys in _parts(selection):
        for page in candidates.pages(Query(level, keys)):
            parents.fetch(level, top, page.resources)
            yield [entity for entity in page.resources if is_selected(entity)]


def _parts(selection: Selection) -> Iterator[tuple[Key, ...]]:
    """The selection in parts: Orthanc compares all that it finds with each value of a list, one after the other."""
    own = selection.level.unique_key
    values = selection.identifiers.get(own, ())
    for start in range(0, len(values) or 1, VALUES_AT_ONCE):
        part = {**selection.identifiers, own: values[start : start + VALUES_AT_ONCE]}
        yield tuple(Key(tag, vr_of(tag), "\\".join(some)) for tag, some in part.items() if some)


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


def order_of(instance: InstanceReference, transfer_syntax_uid: str | None) -> tuple[str, bytes | None]:
    """The request for an instance: URI and, for POST, the body. Raises CannotTranscode.

    Orthanc's "modify" is its only way to transcode one instance that neither stores anything nor waits behind jobs.
    """
    uri = f"/instances/{quote(instance.handle, safe='')}"
    if transfer_syntax_uid in (None, instance.transfer_syntax_uid):
        return f"{uri}/file", None
    if transfer_syntax_uid not in TRANSCODING_TARGETS:
        raise CannotTranscode(f"instance {instance.handle}: nothing is transcoded to {transfer_syntax_uid}")
    order = {"Transcode": transfer_syntax_uid, "Keep": _KEPT, "Force": True}
    return f"{uri}/modify", json.dumps(order).encode()


def refusal(
    instance: InstanceReference, transfer_syntax_uid: str | None, status: int
) -> ArchiveUnavailable | CannotTranscode:
    """What an answer means that is not 200."""
    reason = f"instance {instance.handle}: Orthanc answers HTTP {status}"
    if transfer_syntax_uid in (None, instance.transfer_syntax_uid) or status in _SAYS_NOTHING_OF_TRANSCODING:
        return ArchiveUnavailable(reason)
    return CannotTranscode(f"{reason} to the order to transcode it to {transfer_syntax_uid}")


def encoded(
    wanted: Wanted, start: memoryview, missing_bytes: int | None, rest: Iterator[bytes | memoryview]
) -> EncodedInstance:
    """The data set of a file that begins with `start`. Raises ArchiveUnavailable, CannotTranscode."""
    instance, transfer_syntax_uid = wanted
    try:
        meta, begin = find_data_set(start)
    except Part10Error as error:
        raise ArchiveUnavailable(f"instance {instance.handle} of Orthanc: {error}") from error
    # without file meta information Orthanc says what it took it for
    found = meta.get(TRANSFER_SYNTAX_UID, "") or instance.transfer_syntax_uid
    if transfer_syntax_uid not in (None, instance.transfer_syntax_uid):
        _check_transcoded(instance, transfer_syntax_uid, found, meta.get(MEDIA_STORAGE_SOP_INSTANCE_UID, ""))
    size_bytes = None if missing_bytes is None else len(start) - begin + missing_bytes
    return EncodedInstance(found, size_bytes, itertools.chain((start[begin:],), rest))


def _check_transcoded(instance: InstanceReference, wanted: str | None, found: str, sop_instance_uid: str) -> None:
    if found != wanted:
        raise CannotTranscode(f"instance {instance.handle} comes in transfer syntax {found} instead of {wanted}")
    if sop_instance_uid != instance.sop_instance_uid:
        raise CannotTranscode(f"instance {instance.handle} gets another SOP Instance UID in transfer syntax {wanted}")


@contextlib.contextmanager
def open_streamed(rest: OrthancRest, wanted: Wanted) -> Iterator[EncodedInstance]:
    """Open an instance through urllib3, which reads any answer. Raises ArchiveUnavailable, CannotTranscode."""
    uri, order = order_of(*wanted)
    with rest.open(uri, order) as response:
        if response.status != 200:
            raise refusal(*wanted, response.status)
        start = memoryview(response.read(MAXIMUM_START_BYTES))
        yield encoded(wanted, start, response.length_remaining, _pieces(response))


def _pieces(response: BaseHTTPResponse) -> Iterator[bytes]:
    try:
        while piece := response.read(PIECE_BYTES):
            yield piece
    except (HTTPError, HTTPException, OSError) as error:
        raise ArchiveUnavailable(f"the instance breaks off: {error}") from error
