"""What stands behind the gateway's own AE title where there is no Orthanc."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import IO, NoReturn

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
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes


class NoArchive:
    """An Archive (gateway.archive.interface) that has nothing and takes nothing."""

    def find(self, query: Query) -> Iterator[Attributes]:
        """See Archive."""
        self._refuse()

    def answers(self, query: Query, encoder: AnswerEncoder) -> Iterator[bytes]:
        """See Archive."""
        self._refuse()

    def list_instances(self, selection: Selection) -> Listing:
        """See Archive."""
        self._refuse()

    def select(self, selection: Selection) -> Listing:
        """See Archive."""
        self._refuse()

    def open(
        self, instance: InstanceReference, transfer_syntax_uid: str | None = None
    ) -> AbstractContextManager[EncodedInstance]:
        """See Archive."""
        self._refuse()

    def read_ahead(self, wanted: Iterable[Wanted]) -> ReadAhead:
        """See Archive."""
        self._refuse()

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        """See Archive."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ArchiveUnavailable("this gateway has no Orthanc: call the AE title of a DICOMweb server")
