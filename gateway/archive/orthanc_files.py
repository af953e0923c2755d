"""Attributes that Orthanc's index lacks: read by Orthanc from stored instances, of a study or series from its first.

Orthanc 1.10.1 tells all attributes of all instances of one series in one request, but has no such request for
a list of instances (`/tools/create-archive` would wait behind other jobs, and read pixel data). So the samples of
studies and series are read one by one, over all connections at once. So are bytes, of which Orthanc tells only that
they are there.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple

from gateway import waiting
from gateway.archive.interface import Level, TooBroad
from gateway.archive.orthanc_related import Found
from gateway.archive.orthanc_resources import OrthancResources, short
from gateway.archive.rest import OrthancRest
from gateway.matching.attributes import Attributes, Element, vr_of
from gateway.matching.keys import Key

# From so many instances of one series on, all of it is asked for at once.
SERIES_AT_ONCE: Final = 4

# PS3.5 6.2: bytes, in whatever order the answer is encoded. Pixel data is nothing to be asked for.
_BINARY_VRS: Final = frozenset(("OB", "UN"))
_PIXEL_DATA_GROUP: Final = 0x7FE0
# What is longer is returned empty.
MAXIMUM_BINARY_BYTES: Final = 64 * 1024


class _Stored(NamedTuple):
    """Attributes of an instance, and where the bytes of others are: VR and Orthanc's name by tag."""

    attributes: Attributes
    binary: dict[int, tuple[str, str]]


class StoredFiles:
    """Adds the attributes of `keys` to pages of entities; for one query."""

    def __init__(
        self, rest: OrthancRest, resources: OrthancResources, executor: Executor, keys: tuple[Key, ...]
    ) -> None:
        self._rest = rest
        self._resources = resources
        self._executor = executor
        self._keys = keys
        # Orthanc leaves out what is longer than 256 characters, but where it is told not to.
        lengthy = ",".join(f"{key.tag >> 16:04x}-{key.tag & 0xFFFF:04x}" for key in keys)
        self._arguments = f"?short&ignore-length={lengthy}"
        self._series: dict[str, dict[str, _Stored] | None] = {}

    def add(self, level: Level, found: Found) -> None:
        """Add to the attributes of each of `found`. Raises ArchiveUnavailable, TooBroad."""
        if not self._keys or not found:
            return
        if level is Level.IMAGE:
            self._add_images(found)
            return
        samples = self._samples(level, found)
        self._add_alone([(samples.get(resource["ID"], ""), attributes) for resource, attributes in found])

    def _add_images(self, found: Found) -> None:
        by_series: dict[str, list[tuple[str, Attributes]]] = defaultdict(list)
        for resource, attributes in found:
            by_series[resource["ParentSeries"]].append((resource["ID"], attributes))
        for series, images in by_series.items():
            known = self._whole_series(series) if len(images) >= SERIES_AT_ONCE or series in self._series else None
            if known is None:
                self._add_alone(images)
                continue
            self._add_stored(images, [known.get(identifier, _Stored({}, {})) for identifier, _attributes in images])

    def _whole_series(self, identifier: str) -> dict[str, _Stored] | None:
        """What is wanted of each instance of a series; None when that is too much for one answer."""
        if identifier not in self._series:
            try:
                answer = self._rest.get(f"/series/{identifier}/instances-tags{self._arguments}")
            except TooBroad:
                self._series[identifier] = None
            else:
                self._series[identifier] = {one: self._wanted(tags) for one, tags in (answer or {}).items()}
        return self._series[identifier]

    def _add_alone(self, images: list[tuple[str, Attributes]]) -> None:
        def read(identifier: str) -> _Stored:
            answer = self._rest.get(f"/instances/{identifier}/tags{self._arguments}") if identifier else None
            return self._wanted(answer or {})

        identifiers = [identifier for identifier, _attributes in images]
        self._add_stored(images, waiting.results(self._executor, read, identifiers))

    def _add_stored(self, images: list[tuple[str, Attributes]], stored: list[_Stored]) -> None:
        def read(place: tuple[Attributes, int, str, str]) -> None:
            attributes, tag, vr, uri = place
            attributes[tag] = Element(vr, self._read_binary(uri))

        places = []
        for (identifier, attributes), one in zip(images, stored, strict=True):
            attributes.update(one.attributes)
            for tag, (vr, name) in one.binary.items():
                places.append((attributes, tag, vr, f"/instances/{identifier}/content/{name.replace(',', '-')}"))
        waiting.results(self._executor, read, places)

    def _read_binary(self, uri: str) -> str:
        """Bytes, as Latin-1."""
        with self._rest.open(uri) as response:
            data = response.read(MAXIMUM_BINARY_BYTES + 1) if response.status == 200 else b""
        return data.decode("latin-1") if len(data) <= MAXIMUM_BINARY_BYTES else ""

    def _samples(self, level: Level, found: Found) -> dict[str, str]:
        """One instance of each entity, by the entity's identifier."""
        if level is Level.SERIES:
            return {resource["ID"]: min(resource["Instances"], default="") for resource, _attributes in found}
        if level is Level.STUDY:
            first_series = {resource["ID"]: min(resource["Series"], default="") for resource, _attributes in found}
        else:
            first_studies = {resource["ID"]: min(resource["Studies"], default="") for resource, _attributes in found}
            studies = self._first_children(Level.STUDY, first_studies, "Series")
            first_series = {patient: studies.get(study, "") for patient, study in first_studies.items()}
        instances = self._first_children(Level.SERIES, first_series, "Instances")
        return {entity: instances.get(series, "") for entity, series in first_series.items()}

    def _first_children(self, level: Level, of: dict[str, str], children: str) -> dict[str, str]:
        resources = self._resources.bulk(level, [identifier for identifier in of.values() if identifier])
        return {resource["ID"]: min(resource[children], default="") for resource in resources}

    def _wanted(self, tags: dict[str, Any]) -> _Stored:
        found = _Stored({}, {})
        for key in self._keys:
            name = short(key.tag) if not key.creator else _in_block(key, tags)
            if name not in tags:
                continue
            if tags[name] is None and key.vr in _BINARY_VRS and key.tag >> 16 != _PIXEL_DATA_GROUP:
                found.binary[key.tag] = (key.vr, name)
            else:
                found.attributes[key.tag] = _element(key.vr, tags[name])
        return found


def _in_block(key: Key, tags: dict[str, Any]) -> str:
    """Where the instance has the private attribute: its creator may have another block there (PS3.5 7.8.1)."""
    group = f"{key.tag >> 16:04x},"
    for block in range(0x10, 0x100):
        creator = tags.get(f"{group}{block:04x}")
        if isinstance(creator, str) and creator.strip() == key.creator:
            return f"{group}{block:02x}{key.tag & 0xFF:02x}"
    return ""


def _element(vr: str, value: Any) -> Element:
    if isinstance(value, list):
        return Element("SQ", tuple(_item(item) for item in value))
    return Element(vr, value if isinstance(value, str) else "")


def _item(item: dict[str, Any]) -> Attributes:
    tags = ((int(name[:4], 16) << 16 | int(name[5:], 16), value) for name, value in item.items())
    return {tag: _element(vr_of(tag), value) for tag, value in tags}
