"""What every archive can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import IO, Final, Protocol

from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes
from gateway.matching.keys import Key

ACCESSION_NUMBER: Final = 0x0008_0050
PATIENT_ID: Final = 0x0010_0020
STUDY_INSTANCE_UID: Final = 0x0020_000D
SERIES_INSTANCE_UID: Final = 0x0020_000E
SOP_INSTANCE_UID: Final = 0x0008_0018


class Level(Enum):
    """The levels of the query/retrieve information model (PS3.4 C.6.1.1), from the top."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3

    # Members are what they are; Enum's own function, in Python, hashes their names.
    __hash__ = object.__hash__

    @property
    def unique_key(self) -> int:
        """The tag of the level's unique key (PS3.4 C.6.1.1.2 to C.6.1.1.5)."""
        return (PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID)[self.value]


class ArchiveUnavailable(Exception):
    """The archive does not answer, or not as it should. The text is for the log."""


class AccessDenied(ArchiveUnavailable):
    """The archive answers that we may not ask."""


class QueryRefused(ArchiveUnavailable):
    """The archive does not take the question, and will not take it later."""


class TooBroad(Exception):
    """The answer would be larger than the gateway takes into memory."""


class CannotTranscode(Exception):
    """The archive has the instance, but not in the transfer syntax that is wanted. The text is for the log."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which entities of one level are asked for, and what of them."""

    level: Level
    keys: tuple[Key, ...]

    def identifiers(self, tag: int) -> frozenset[str]:
        """The values of a unique key if they are exact, else nothing."""
        values = [value for key in self.keys if key.tag == tag for value in key.values]
        exact = not any("*" in value or "?" in value for value in values)
        return frozenset(values) if exact else frozenset()


@dataclass(frozen=True, slots=True)
class InstanceReference:
    """One instance of an archive. `handle` is how the archive itself names it."""

    handle: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instances are to be retrieved (PS3.4 C.4.2.1.4.1): all of the entities of `level` with `identifiers`.

    By tag, without wildcards: the unique keys of `level` and of the levels above, and Accession Number. Each may
    have several values, of which one is enough; all given tags must hold.
    """

    level: Level
    identifiers: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a selection means. `missing`: SOP Instance UIDs that are selected and acknowledged, and could not be
    delivered to the archive in time: a retrieval has failed for them."""

    instances: list[InstanceReference]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EncodedInstance:
    """A data set, encoded. `chunks` yields it once, from its first element, in pieces of any size; ArchiveUnavailable
    when it breaks off. The pieces hold until it is closed, or the next one is fetched. `size_bytes`: of the data set;
    None if the archive does not say."""

    transfer_syntax_uid: str
    size_bytes: int | None
    chunks: Iterator[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a request for one instance: `encoded`, to be read before the next is asked for, or an `error`."""

    instance: InstanceReference
    encoded: EncodedInstance | None
    error: ArchiveUnavailable | CannotTranscode | None = None


Wanted = tuple[InstanceReference, str | None]
"""An instance, and the UID of the transfer syntax to have it in; None for the one in which it is stored."""


class ReadAhead(AbstractContextManager["ReadAhead"], Iterator[Fetched], Protocol):
    """Instances in the order in which they were asked for, the next ones on their way already. Used by one thread."""

    def wait(self, seconds: float) -> bool:
        """Whether the next one begins to come within `seconds`, so that asking for it does not wait for long."""

    def close(self) -> None:
        """Fetch no more, and forget what was fetched; at any time, from any thread. Iteration then ends."""


@dataclass(frozen=True, slots=True)
class SeriesCount:
    """A series whose instances are not listed: how many there are, and one of them."""

    sample: InstanceReference
    count: int


@dataclass(frozen=True, slots=True)
class WholeSeries:
    """A selection of whole series, which can be read before their instances are listed.

    `read` begins to read some of them: it yields what is of its series and has the SOP class and the transfer syntax of
    the sample. It leaves out what is not, and ends early when anything goes wrong; errors it does not tell.
    """

    series: Sequence[SeriesCount]
    read: Callable[[Sequence[SeriesCount]], ReadAhead]


class Archive(Protocol):
    """Answers queries, yields instances, stores them. Used by several threads."""

    def find(self, query: Query) -> Iterator[Attributes]:
        """Yield the attributes that `query` asks for of each entity that matches, as they are found.

        Raises InvalidQuery before anything is asked; ArchiveUnavailable, TooBroad at any time.
        """

    def answers(self, query: Query, encoder: AnswerEncoder) -> Iterator[bytes]:
        """What `find` yields, encoded by `encoder`, which is made for this query."""

    def list_instances(self, selection: Selection) -> Listing:
        """What is selected. Raises ArchiveUnavailable, TooBroad."""

    def select(self, selection: Selection) -> Listing | WholeSeries:
        """What is selected, only counted where to list it costs much. Raises ArchiveUnavailable, TooBroad."""

    def open(
        self, instance: InstanceReference, transfer_syntax_uid: str | None = None
    ) -> AbstractContextManager[EncodedInstance]:
        """Open an instance for reading: as it is stored, or transcoded, its UIDs kept, nothing of it stored.

        Raises CannotTranscode, ArchiveUnavailable.
        """

    def read_ahead(self, wanted: Iterable[Wanted]) -> ReadAhead:
        """Fetch instances one after the other; errors belong to their instance, the others follow."""

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        """Store the DICOM Part 10 file `file`. Raises ArchiveUnavailable when the archive does not take it."""


class Archives:
    """Which archive answers, by called AE title."""

    def __init__(
        self, default: Archive, by_called_ae_title: Mapping[str, Archive], key: Callable[[str], str] = str
    ) -> None:
        """`key`: what AE titles are compared by."""
        self._default = default
        self._key = key
        self._others = {key(title): archive for title, archive in by_called_ae_title.items()}

    def of(self, called_ae_title: str) -> Archive:
        """The archive for this called AE title."""
        return self._others.get(self._key(called_ae_title), self._default)
