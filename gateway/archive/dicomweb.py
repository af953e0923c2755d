"""A DICOMweb server as an archive: queries by QIDO-RS, instances by WADO-RS (PS3.18)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO

from gateway.archive.barrier import QueryBarrier
from gateway.archive.dicomweb_errors import translated
from gateway.archive.dicomweb_listing import DicomWebInstance, list_instances
from gateway.archive.dicomweb_query import QueryPlan
from gateway.archive.dicomweb_read_ahead import DicomWebReadAhead, open_start
from gateway.archive.dicomweb_search import DicomWebSearch
from gateway.archive.dicomweb_series import count_series
from gateway.archive.dicomweb_series_stream import SeriesStream
from gateway.archive.interface import (
    ArchiveUnavailable,
    EncodedInstance,
    InstanceReference,
    Listing,
    Query,
    ReadAhead,
    Selection,
    Wanted,
    WholeSeries,
)
from gateway.dicomweb.client import DicomWebClient
from gateway.dicomweb.errors import DicomWebError, HttpStatusError, ServerUnreachable
from gateway.dicomweb.qido import Qido
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes


class DicomWebArchive:
    """The Archive (gateway.archive.interface) that a DICOMweb server is."""

    def __init__(
        self, client: DicomWebClient, barrier: QueryBarrier | None = None, *, case_sensitive_pn: bool = False
    ) -> None:
        """`barrier`: what a query waits for before the server is asked."""
        self._client = client
        self._barrier = barrier
        self._search = DicomWebSearch(Qido(client), client.title, client.section, case_sensitive_pn=case_sensitive_pn)

    def find(self, query: Query) -> Iterator[Attributes]:
        """See Archive."""
        return self._find(self._search.plan(query), query)

    def answers(self, query: Query, encoder: AnswerEncoder) -> Iterator[bytes]:
        """See Archive."""
        return map(encoder.encode, self.find(query))

    def list_instances(self, selection: Selection) -> Listing:
        """See Archive."""
        return self._list(selection, self._late(selection))

    def select(self, selection: Selection) -> Listing | WholeSeries:
        """See Archive."""
        late = self._late(selection)
        if not late:  # which of them have come can be told of a list only
            with translated(self._client.title):
                series = count_series(self._search, selection, self._look)
            if series:
                return WholeSeries(series, partial(SeriesStream, self._client))
        return self._list(selection, late)

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
        return DicomWebReadAhead(self._client, wanted)

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        """See Archive: what is for this server goes through the spool."""
        raise ArchiveUnavailable(f"{self._client.title}: nothing is stored but through the spool")

    def _late(self, selection: Selection) -> list[str]:
        return self._barrier.missing(selection) if self._barrier is not None else []

    def _list(self, selection: Selection, late: list[str]) -> Listing:
        with translated(self._client.title):
            instances = list_instances(self._search, selection, self._look)
        # what has come in the meantime, or was there before it was sent once more, is not missing
        there = {instance.sop_instance_uid for instance in instances} if late else frozenset()
        return Listing(instances, [uid for uid in late if uid not in there])

    def _find(self, plan: QueryPlan, query: Query) -> Iterator[Attributes]:
        if self._barrier is not None:
            self._barrier.wait(query)
        with translated(self._client.title):
            yield from self._search.matches(plan)

    def _look(self, instance: DicomWebInstance) -> str:
        try:
            return open_start(self._client, instance)
        except HttpStatusError as error:
            if error.is_unauthorized:
                raise
            return ""
        except ServerUnreachable:
            raise
        except DicomWebError:
            return ""
