"""Orthanc as an archive: candidates by pages, compared here (docs/architecture.md, "Queries get candidates")."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Literal

from gateway import waiting
from gateway.archive.barrier import QueryBarrier
from gateway.archive.http_connection import Address
from gateway.archive.index.query_index import QueryIndex
from gateway.archive.interface import (
    ArchiveUnavailable,
    EncodedInstance,
    InstanceReference,
    Listing,
    Query,
    ReadAhead,
    Selection,
    Wanted,
)
from gateway.archive.kept_answers import Asked, KeptAnswers
from gateway.archive.orthanc_candidates import OrthancCandidates
from gateway.archive.orthanc_files import StoredFiles
from gateway.archive.orthanc_instances import list_instances
from gateway.archive.orthanc_parents import Parents
from gateway.archive.orthanc_related import Found, Related
from gateway.archive.orthanc_resources import OrthancResources, Resource, short
from gateway.archive.orthanc_tags import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    TIMEZONE_OFFSET_FROM_UTC,
    Source,
    level_of,
    source_of,
)
from gateway.archive.read_ahead import OrthancReadAhead, Slots
from gateway.archive.rest import OrthancRest
from gateway.forwarding.verdicts import Verdict
from gateway.matching.answers import AnswerEncoder, private_creators
from gateway.matching.attributes import Attributes, Element, is_private_creator
from gateway.matching.keys import Key
from gateway.matching.matcher import Matcher

StorageAccess = Literal["Always", "Never", "Answers"]


@dataclass(frozen=True)
class Options:
    """What Orthanc's configuration says about answers: DicomAet, CaseSensitivePN, StorageAccessOnFind."""

    retrieve_ae_title: str
    case_sensitive_pn: bool = False
    storage_access: StorageAccess = "Always"


class _Plan:
    """A query, made ready: what is compared when, what must be fetched. Raises InvalidQuery."""

    def __init__(self, query: Query, options: Options) -> None:
        self.level = query.level
        keys: dict[Source, list[Key]] = {source: [] for source in Source}
        for key in query.keys:
            if key.tag == TIMEZONE_OFFSET_FROM_UTC:
                key = Key(key.tag, key.vr)  # never matched (PS3.4 C.2.2.2)
            if is_private_creator(key.tag) and key.is_universal:
                keys[Source.FILE].append(key)  # who reserved the block is asked
            elif key.tag != QUERY_RETRIEVE_LEVEL:
                keys[source_of(key.tag, query.level)].append(key)
        matchers = {s: Matcher(keys[s], case_sensitive_pn=options.case_sensitive_pn) for s in Source}
        self.main, self.computed, self.file = (matchers[s] for s in (Source.MAIN, Source.COMPUTED, Source.FILE))
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

    def __init__(
        self,
        rest: OrthancRest,
        options: Options,
        barrier: QueryBarrier | None = None,
        index: QueryIndex | None = None,
        kept: KeptAnswers | None = None,
    ) -> None:
        """`barrier`: what a query waits for before Orthanc is asked. Without `index` Orthanc finds the candidates.

        `kept`: answers that need not be asked for again.
        """
        self._rest = rest
        self._address = Address(rest.endpoint)
        # of Orthanc's HTTP threads half as many as queries may take
        self._slots = Slots(rest.connections // 2)
        self._barrier = barrier
        self._options = options
        self._resources = OrthancResources(rest)
        self._executor = ThreadPoolExecutor(rest.connections, thread_name_prefix="archive")
        self._candidates = OrthancCandidates(self._resources, index)
        self._kept = kept

    def find(self, query: Query) -> Iterator[Attributes]:
        """See Archive."""
        plan = _Plan(query, self._options)
        return iter(()) if plan.is_empty else self._find(plan, query)

    def answers(self, query: Query, encoder: AnswerEncoder) -> Iterator[bytes]:
        """See Archive."""
        plan = _Plan(query, self._options)
        return iter(()) if plan.is_empty else self._answers(plan, query, encoder)

    def list_instances(self, selection: Selection) -> Listing:
        """See Archive."""
        late = self._barrier.missing(selection) if self._barrier is not None else []
        instances = list_instances(self._resources, self._candidates, selection)
        # what has come in the meantime, or was there before it was sent once more, is not missing
        there = {instance.sop_instance_uid for instance in instances} if late else frozenset()
        return Listing(instances, [uid for uid in late if uid not in there])

    def select(self, selection: Selection) -> Listing:
        """See Archive."""
        return self.list_instances(selection)

    @contextlib.contextmanager
    def open(self, instance: InstanceReference, transfer_syntax_uid: str | None = None) -> Iterator[EncodedInstance]:
        """See Archive."""
        with self.read_ahead([(instance, transfer_syntax_uid)]) as instances:
            fetched = next(instances)
            if fetched.encoded is None:
                raise fetched.error or ArchiveUnavailable("closed")
            yield fetched.encoded

    def read_ahead(self, wanted: Iterable[Wanted]) -> ReadAhead:
        """See Archive."""
        return OrthancReadAhead(self._rest, self._address, self._slots, wanted)

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        """See Archive."""
        judgement = self._rest.store(file, size_bytes)
        if judgement.verdict not in (Verdict.DELIVERED, Verdict.ALREADY_STORED):
            raise ArchiveUnavailable(judgement.reason)

    def _find(self, plan: _Plan, query: Query) -> Iterator[Attributes]:
        if self._barrier is not None:
            self._barrier.wait(query)
        yield from self._ask(plan, query)

    def _answers(self, plan: _Plan, query: Query, encoder: AnswerEncoder) -> Iterator[bytes]:
        if self._barrier is not None:
            self._barrier.wait(query)

        def ask() -> Iterator[bytes]:
            return map(encoder.encode, self._ask(plan, query))

        kept = self._kept
        yield from ask() if kept is None else kept.answers(Asked(query.keys, (query.level, encoder.form)), ask)

    def _ask(self, plan: _Plan, query: Query) -> Iterator[Attributes]:
        parents = Parents(self._resources)
        related = Related(self._resources, plan.computed_tags)
        files = StoredFiles(self._rest, self._resources, self._executor, plan.file_keys)
        pages = self._candidates.pages(query)
        page = next(pages, None)
        while page is not None:
            found = _matches(plan.main, _from_index(plan, page.resources, parents))
            related.add(plan.level, found)
            found = _matches(plan.computed, found)
            files.add(plan.level, found)
            # On its way while this one is sent; not earlier, because Orthanc answers one request after the other.
            following = self._executor.submit(next, pages, None) if not page.is_last else None
            for _resource, attributes in _matches(plan.file, found):
                yield attributes
            page = waiting.result(following) if following is not None else None


def _matches(matcher: Matcher, found: Found) -> Found:
    return [entity for entity in found if matcher.matches(entity[1])] if matcher else found


def _from_index(plan: _Plan, page: list[Resource], parents: Parents) -> Found:
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
