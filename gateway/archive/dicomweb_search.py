"""Searches on a server whose abilities are found out on the way: not every server has every resource of QIDO-RS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from gateway import waiting
from gateway.archive.dicomweb_query import QueryPlan, Search, is_path_segment, loosened, patient_of
from gateway.archive.interface import SERIES_INSTANCE_UID, STUDY_INSTANCE_UID, Level, Query
from gateway.dicomweb.errors import HttpStatusError
from gateway.dicomweb.qido import Qido
from gateway.matching.attributes import Attributes
from gateway.matching.keys import Key
from gateway.options.dicomweb import DicomWebServerSection

# "All series", "all instances of a study": what a server answers that does not have it.
_NO_SUCH_RESOURCE: Final = frozenset((400, 404, 405, 501))


class DicomWebSearch:
    """What matches a query, each once, compared again. Raises DicomWebError."""

    def __init__(self, qido: Qido, title: str, section: DicomWebServerSection, *, case_sensitive_pn: bool) -> None:
        self._qido = qido
        self._title = title
        self._section = section
        self._case_sensitive_pn = case_sensitive_pn

    def plan(self, query: Query) -> QueryPlan:
        """Raises InvalidQuery."""
        return QueryPlan(query, self._title, self._section, case_sensitive_pn=self._case_sensitive_pn)

    def matches(self, plan: QueryPlan) -> Iterator[Attributes]:
        """Yield each match as it comes."""
        if plan.is_empty:
            return
        seen: set[tuple[str, ...]] = set()
        for attributes in self._found(plan):
            waiting.listen()
            if not plan.matches(attributes):
                continue
            identity = patient_of(attributes) if plan.level is Level.PATIENT else _identity(plan, attributes)
            if identity not in seen:
                seen.add(identity)
                yield attributes

    def first(self, plan: QueryPlan) -> Attributes | None:
        """The first match alone, as far as one search tells it."""
        for search in plan.searches():
            for found in self._qido.search(search.resource, search.parameters, plan.identity, page_size=1):
                attributes = plan.complete(found, search.known)
                return attributes if plan.matches(attributes) else None
        return None

    def _found(self, plan: QueryPlan) -> Iterator[Attributes]:
        for search in plan.searches():
            begun = False
            try:
                for attributes in self._search(plan, search):
                    begun = True
                    yield attributes
            except HttpStatusError as error:
                if error.status == 404 and search.known and not _spans_series(plan, search):
                    continue  # there is no such study or series
                if begun or error.status not in _NO_SUCH_RESOURCE or not _spans_series(plan, search):
                    raise
                yield from self._step_by_step(plan, search)

    def _step_by_step(self, plan: QueryPlan, search: Search) -> Iterator[Attributes]:
        """Series study by study, instances series by series."""
        for known in self._studies(plan, search):
            study = _uid(known, STUDY_INSTANCE_UID)
            for series in [""] if plan.level is Level.SERIES else self._series(study):
                for each in plan.within(study, series, known):
                    yield from self._search(plan, each)

    def _studies(self, plan: QueryPlan, search: Search) -> Iterator[Attributes]:
        if search.known:
            yield search.known
            return
        for each in plan.study_searches():
            for study in self._qido.search(each.resource, each.parameters, (STUDY_INSTANCE_UID,)):
                if _uid(study, STUDY_INSTANCE_UID):
                    yield study

    def _series(self, study: str) -> list[str]:
        keys = (Key(STUDY_INSTANCE_UID, "UI", study), Key(SERIES_INSTANCE_UID, "UI"))
        plan = self.plan(Query(Level.SERIES, keys))
        return [uid for series in self.matches(plan) if (uid := _uid(series, SERIES_INSTANCE_UID))]

    def _search(self, plan: QueryPlan, search: Search) -> Iterator[Attributes]:
        is_empty = True
        for found in self._qido.search(search.resource, search.parameters, plan.identity):
            is_empty = False
            yield plan.complete(found, search.known)
        loose = loosened(search.parameters) if is_empty else None
        if loose is not None:
            with contextlib.suppress(HttpStatusError):  # wildcards are not for every server
                for found in self._qido.search(search.resource, loose, plan.identity):
                    yield plan.complete(found, search.known)


def _spans_series(plan: QueryPlan, search: Search) -> bool:
    """Whether the search is a relational one (PS3.18 10.6.1: All Series, All Instances, Study's Instances)."""
    if plan.level is Level.IMAGE:
        return SERIES_INSTANCE_UID not in search.known
    return plan.level is Level.SERIES and not search.known


def _identity(plan: QueryPlan, attributes: Attributes) -> tuple[str, ...]:
    return tuple(_value(attributes, tag) for tag in plan.identity)


def _value(attributes: Attributes, tag: int) -> str:
    element = attributes.get(tag)
    return element.value if element is not None and isinstance(element.value, str) else ""


def _uid(attributes: Attributes, tag: int) -> str:
    """A UID of the server that may stand in a URL; "" otherwise."""
    uid = _value(attributes, tag)
    return uid if is_path_segment(uid) else ""
