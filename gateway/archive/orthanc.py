"""Orthanc as an archive: candidates from its index by pages, compared here (docs/architecture.md, "Queries")."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Literal

from gateway.archive.barrier import QueryBarrier
from gateway.archive.interface import ArchiveUnavailable, EncodedInstance, InstanceReference, Level, Query
from gateway.archive.orthanc_files import StoredFiles
from gateway.archive.orthanc_lookup import lookup
from gateway.archive.orthanc_related import Found, Related
from gateway.archive.orthanc_resources import PAGE, OrthancResources, Resource, short
from gateway.archive.orthanc_tags import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    Source,
    level_of,
    source_of,
)
from gateway.archive.rest import OrthancRest
from gateway.forwarding.verdicts import Verdict
from gateway.matching.answers import private_creators
from gateway.matching.attributes import Attributes, Element
from gateway.matching.keys import Key
from gateway.matching.matcher import Matcher
from gateway.part10 import Part10Error, read_transfer_syntax

StorageAccess = Literal["Always", "Never", "Answers"]


@dataclass(frozen=True)
class Options:
    """What Orthanc's configuration says about answers: DicomAet, CaseSensitivePN, StorageAccessOnFind."""

    retrieve_ae_title: str
    case_sensitive_pn: bool = False
    storage_access: StorageAccess = "Always"


class _Plan:
    """A query, made ready: what is looked up, what is compared when, what must be fetched. Raises InvalidQuery."""

    def __init__(self, query: Query, options: Options) -> None:
        self.level = query.level
        keys: dict[Source, list[Key]] = {source: [] for source in Source}
        for key in query.keys:
            if key.tag != QUERY_RETRIEVE_LEVEL:
                keys[source_of(key.tag, query.level)].append(key)
        matchers = {s: Matcher(keys[s], case_sensitive_pn=options.case_sensitive_pn) for s in Source}
        self.main, self.computed, self.file = (matchers[s] for s in (Source.MAIN, Source.COMPUTED, Source.FILE))
        self.lookup = lookup(query)
        self.main_keys = [(level_of(key.tag, query.level), short(key.tag), key) for key in keys[Source.MAIN]]
        self.top = min((level.value for level, _name, _key in self.main_keys if level), default=query.level.value)
        self.computed_tags = frozenset(key.tag for key in keys[Source.COMPUTED])
        self.file_keys = () if options.storage_access == "Never" else tuple(keys[Source.FILE])
        self.constants: Attributes = {
            QUERY_RETRIEVE_LEVEL: Element("CS", query.level.name),
            RETRIEVE_AE_TITLE: Element("AE", options.retrieve_ae_title),
            INSTANCE_AVAILABILITY: Element("CS", "ONLINE"),
            **private_creators(query.keys),
        }
        # Orthanc, too, finds nothing if it may not look where a key is.
        hidden = options.storage_access != "Always" and bool(self.file)
        self.is_empty = hidden or not matchers[Source.CONSTANT].matches(self.constants)


class OrthancArchive:
    """The Archive (gateway.archive.interface) that Orthanc is. One for a process: it keeps connections and threads."""

    def __init__(self, rest: OrthancRest, options: Options, barrier: QueryBarrier | None = None) -> None:
        """`barrier`: what a query waits for before Orthanc is asked."""
        self._rest = rest
        self._barrier = barrier
        self._options = options
        self._resources = OrthancResources(rest)
        self._executor = ThreadPoolExecutor(rest.connections, thread_name_prefix="archive")

    def find(self, query: Query) -> Iterator[Attributes]:
        """See Archive."""
        plan = _Plan(query, self._options)
        return iter(()) if plan.is_empty else self._find(plan, query)

    def list_instances(self, level: Level, unique_keys: Sequence[str]) -> list[InstanceReference]:
        """See Archive."""
        identifiers = self._resources.identifiers(Level.IMAGE, {short(level.unique_key): "\\".join(unique_keys)})
        return [
            _reference(resource)
            for start in range(0, len(identifiers), PAGE)
            for resource in self._resources.bulk(Level.IMAGE, identifiers[start : start + PAGE], metadata=True)
        ]

    @contextlib.contextmanager
    def open(self, instance: InstanceReference) -> Iterator[EncodedInstance]:
        """See Archive."""
        with self._rest.open(f"/instances/{instance.handle}/file") as response:
            try:
                transfer_syntax_uid = read_transfer_syntax(response)
            except Part10Error as error:
                raise ArchiveUnavailable(f"instance {instance.handle} of Orthanc: {error}") from error
            yield EncodedInstance(transfer_syntax_uid, response)

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        """See Archive."""
        judgement = self._rest.store(file, size_bytes)
        if judgement.verdict not in (Verdict.DELIVERED, Verdict.ALREADY_STORED):
            raise ArchiveUnavailable(judgement.reason)

    def _find(self, plan: _Plan, query: Query) -> Iterator[Attributes]:
        if self._barrier is not None:
            self._barrier.wait(query)
        parents = _Parents(self._resources)
        related = Related(self._resources, plan.computed_tags)
        files = StoredFiles(self._rest, self._resources, self._executor, plan.file_keys)
        for page in self._resources.pages(plan.level, plan.lookup):
            found = _matches(plan.main, _from_index(plan, page, parents))
            related.add(plan.level, found)
            found = _matches(plan.computed, found)
            files.add(plan.level, found)
            for _resource, attributes in _matches(plan.file, found):
                yield attributes


def _matches(matcher: Matcher, found: Found) -> Found:
    return [entity for entity in found if matcher.matches(entity[1])] if matcher else found


def _from_index(plan: _Plan, page: list[Resource], parents: _Parents) -> Found:
    parents.fetch(plan.level, plan.top, page)
    found = []
    for resource in page:
        tags = parents.tags(plan.level, plan.top, resource)
        if tags is None:
            continue  # deleted just now
        attributes = dict(plan.constants)
        for level, name, key in plan.main_keys:
            value = tags[level].get(name) if level is not None else None
            if value:
                attributes[key.tag] = Element(key.vr, value)
        found.append((resource, attributes))
    return found


class _Parents:
    """What stands over the entities of a query, each fetched once."""

    def __init__(self, resources: OrthancResources) -> None:
        self._resources = resources
        self._series: dict[str, Resource] = {}
        self._studies: dict[str, Resource] = {}

    def fetch(self, level: Level, top: int, page: list[Resource]) -> None:
        """Have at hand what `tags` needs for `page`."""
        below = page
        if level is Level.IMAGE and top < Level.IMAGE.value:
            below = self._add(Level.SERIES, {resource["ParentSeries"] for resource in page}, self._series)
        if level.value > Level.STUDY.value and top < Level.SERIES.value:
            self._add(Level.STUDY, {resource["ParentStudy"] for resource in below}, self._studies)

    def tags(self, level: Level, top: int, resource: Resource) -> dict[Level, dict[str, str]] | None:
        """Orthanc's main tags of an entity and of what is over it, up to `top`; None if that is gone."""
        tags = {level: resource["MainDicomTags"]}
        if level is Level.IMAGE and top < Level.IMAGE.value:
            series = self._series.get(resource["ParentSeries"])
            if series is None:
                return None
            tags[Level.SERIES] = series["MainDicomTags"]
            resource = series
        if level.value > Level.STUDY.value and top < Level.SERIES.value:
            study = self._studies.get(resource["ParentStudy"])
            if study is None:
                return None
            tags[Level.STUDY] = study["MainDicomTags"]
            resource = study
        if level is not Level.PATIENT and top == Level.PATIENT.value:
            tags[Level.PATIENT] = resource["PatientMainDicomTags"]
        return tags

    def _add(self, level: Level, identifiers: set[str], known: dict[str, Resource]) -> list[Resource]:
        missing = sorted(identifiers - known.keys())
        known.update((resource["ID"], resource) for resource in self._resources.bulk(level, missing))
        return [known[identifier] for identifier in identifiers if identifier in known]


def _reference(resource: Resource) -> InstanceReference:
    return InstanceReference(
        handle=resource["ID"],
        sop_class_uid=resource["Metadata"].get("SopClassUid", ""),
        sop_instance_uid=resource["MainDicomTags"].get(short(Level.IMAGE.unique_key), ""),
        transfer_syntax_uid=resource["Metadata"].get("TransferSyntax", ""),
        size_bytes=int(resource["FileSize"]),
    )
