"""Instances as an archive tells and gives them, and an archive in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from gateway.archive.interface import (
    ArchiveUnavailable,
    CannotTranscode,
    EncodedInstance,
    Fetched,
    InstanceReference,
    Listing,
    Query,
    Selection,
    Wanted,
    WholeSeries,
)
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes
from tests.support.data_sets import EXPLICIT
from tests.support.rawdicom import CT_IMAGE, image


def instance(number: int, sop_class_uid: str = CT_IMAGE, transfer_syntax_uid: str = EXPLICIT) -> InstanceReference:
    return InstanceReference(f"handle-{number}", sop_class_uid, f"2.25.{number}", transfer_syntax_uid, 100)


def encoded(one: InstanceReference, transfer_syntax_uid: str | None = None) -> EncodedInstance:
    """Its data set, which says the transfer syntax as Study Instance UID."""
    syntax = transfer_syntax_uid or one.transfer_syntax_uid
    data = image(one.sop_instance_uid, sop_class_uid=one.sop_class_uid, study=syntax)
    return EncodedInstance(syntax, len(data), iter([data]))


class MemoryArchive:
    """An Archive that has `instances`, whatever is selected; `broken` are those that it cannot give.

    `gate` holds up what is read until it is set.
    """

    def __init__(self, instances: Iterable[InstanceReference] = ()) -> None:
        self.instances = list(instances)
        self.missing: list[str] = []
        self.broken: set[str] = set()
        self.selections: list[Selection] = []
        self.opened: list[tuple[str, str | None]] = []
        self.gate = threading.Event()
        self.gate.set()

    def find(self, query: Query) -> Iterator[Attributes]:
        raise ArchiveUnavailable("it only gives instances")

    def answers(self, query: Query, encoder: AnswerEncoder) -> Iterator[bytes]:
        raise ArchiveUnavailable("it only gives instances")

    def list_instances(self, selection: Selection) -> Listing:
        self.selections.append(selection)
        return Listing(self.instances, self.missing)

    def select(self, selection: Selection) -> Listing | WholeSeries:
        return self.list_instances(selection)

    def give(self, one: InstanceReference, transfer_syntax_uid: str | None) -> EncodedInstance:
        self.opened.append((one.sop_instance_uid, transfer_syntax_uid))
        if one.sop_instance_uid in self.broken:
            raise CannotTranscode("no")
        return encoded(one, transfer_syntax_uid)

    @contextmanager
    def open(self, instance: InstanceReference, transfer_syntax_uid: str | None = None) -> Iterator[EncodedInstance]:
        yield self.give(instance, transfer_syntax_uid)

    def read_ahead(self, wanted: Iterable[Wanted]) -> Reading:
        return Reading(self, wanted)

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        raise ArchiveUnavailable("it only gives instances")


class Reading:
    """A ReadAhead that gives one after the other."""

    def __init__(self, archive: MemoryArchive, wanted: Iterable[Wanted]) -> None:
        self._archive = archive
        self._wanted = iter(wanted)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Reading:
        return self

    def __next__(self) -> Fetched:
        one, syntax = next(self._wanted)
        try:
            return Fetched(one, self._archive.give(one, syntax))
        except (ArchiveUnavailable, CannotTranscode) as error:
            return Fetched(one, None, error)

    def wait(self, seconds: float) -> bool:
        return self._archive.gate.wait(seconds)

    def close(self) -> None:
        self._wanted = iter(())
