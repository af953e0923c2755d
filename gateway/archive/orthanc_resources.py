"""Orthanc's resources over REST: found, listed and fetched in bulk. The routes are those of Orthanc 1.10.1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.archive.interface import ArchiveUnavailable, Level
from gateway.archive.rest import OrthancRest

# Small, so that the first answers come soon.
FIRST_PAGE: Final = 100
PAGE: Final = 500
ORTHANC_LEVELS: Final = {
    Level.PATIENT: "Patient",
    Level.STUDY: "Study",
    Level.SERIES: "Series",
    Level.IMAGE: "Instance",
}

Resource = dict[str, Any]
"""What Orthanc says of a patient, study, series or instance: ID, MainDicomTags, parent, children."""


class OrthancResources:
    """Patients, studies, series and instances as JSON objects with tags written `gggg,eeee`."""

    def __init__(self, rest: OrthancRest) -> None:
        self._rest = rest

    def pages(self, level: Level, lookup: dict[str, str]) -> Iterator[list[Resource]]:
        """What /tools/find finds. After the first page by a list of identifiers, so that what comes or goes in the
        meantime makes nothing appear twice or not at all. Raises ArchiveUnavailable, TooBroad."""
        order = {"Expand": True, "Short": True, "Limit": FIRST_PAGE}
        first = _list(self._rest.post("/tools/find", {"Level": ORTHANC_LEVELS[level], "Query": lookup, **order}))
        yield first
        if len(first) < FIRST_PAGE:
            return
        seen = {resource["ID"] for resource in first}
        rest = [identifier for identifier in self.identifiers(level, lookup) if identifier not in seen]
        for start in range(0, len(rest), PAGE):
            yield self.bulk(level, rest[start : start + PAGE])

    def identifiers(self, level: Level, lookup: dict[str, str]) -> list[str]:
        """Orthanc's identifiers of what /tools/find finds."""
        order = {"Level": ORTHANC_LEVELS[level], "Query": lookup, "Expand": False}
        return list(map(str, _list(self._rest.post("/tools/find", order))))

    def bulk(self, level: Level, identifiers: Sequence[str], *, metadata: bool = False) -> list[Resource]:
        """The resources of `level` that are, or are over or under, those with these identifiers of Orthanc.

        What is gone is missing.
        """
        if not identifiers:
            return []
        order = {"Resources": list(identifiers), "Level": ORTHANC_LEVELS[level], "Short": True, "Metadata": metadata}
        return _list(self._rest.post("/tools/bulk-content", order))


def _list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise ArchiveUnavailable("Orthanc's answer is no list")
    return answer


def short(tag: int) -> str:
    """A tag as Orthanc writes it."""
    return f"{tag >> 16:04x},{tag & 0xFFFF:04x}"
