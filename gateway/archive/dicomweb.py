"""A DICOMweb server as an archive: queries by QIDO-RS, instances by WADO-RS (PS3.18)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import IO

from gateway.archive.dicomweb_errors import translated
from gateway.archive.dicomweb_listing import DicomWebInstance, list_instances
from gateway.archive.dicomweb_query import QueryPlan
from gateway.archive.dicomweb_read_ahead import DicomWebReadAhead, open_start
from gateway.archive.dicomweb_search import DicomWebSearch
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
from gateway.dicomweb.client import DicomWebClient
from gateway.dicomweb.errors import DicomWebError, HttpStatusError, ServerUnreachable
from gateway.dicomweb.qido import Qido
from gateway.matching.attributes import Attributes


class DicomWebArchive:
    """The Archive (gateway.archive.interface) that a DICOMweb server is."""

    def __init__(self, client: DicomWebClient, *, case_sensitive_pn: bool = False) -> None:
        self._client = client
        self._search = DicomWebSearch(Qido(client), client.title, client.section, case_sensitive_pn=case_sensitive_pn)

    def find(self, query: Query) -> Iterator[Attributes]:
        """See Archive."""
        return self._find(self._search.plan(query))

    def list_instances(self, selection: Selection) -> Listing:
        """See Archive."""
        with translated(self._client.title):
            return Listing(list_instances(self._search, selection, self._look))

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

    def _find(self, plan: QueryPlan) -> Iterator[Attributes]:
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
