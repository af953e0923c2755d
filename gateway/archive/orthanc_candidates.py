"""Candidates of a query, by pages: from the query index, or from Orthanc's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.archive.index.query_index import QueryIndex
from gateway.archive.interface import Query
from gateway.archive.orthanc_lookup import lookup
from gateway.archive.orthanc_resources import PAGE, OrthancResources, Resource

# Small, so that the first answers come soon.
FIRST_PAGE: Final = 50


class Page(NamedTuple):
    """Some candidates as Orthanc describes them, and whether it is known that no others follow."""

    resources: list[Resource]
    is_last: bool


class OrthancCandidates:
    """All entities that may match a query."""

    def __init__(self, resources: OrthancResources, index: QueryIndex | None = None) -> None:
        self._resources = resources
        self._index = index

    def pages(self, query: Query) -> Iterator[Page]:
        """Yield them. Raises ArchiveUnavailable, TooBroad."""
        candidates = self._index.candidates(query) if self._index is not None else None
        if candidates is None:
            for resources in self._resources.pages(query.level, lookup(query)):
                yield Page(resources, is_last=False)
            return
        identifiers = candidates.identifiers
        if candidates.level is not query.level:  # series, of which the instances are wanted
            series = self._resources.bulk(candidates.level, identifiers)
            identifiers = [identifier for one in series for identifier in one["Instances"]]
        start, size = 0, FIRST_PAGE
        while start < len(identifiers):
            part = identifiers[start : start + size]
            start, size = start + size, min(PAGE, 2 * size)
            yield Page(self._resources.bulk(query.level, part), is_last=start >= len(identifiers))
