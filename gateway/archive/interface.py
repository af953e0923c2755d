"""What every archive can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import IO, Final, Protocol

from gateway.matching.attributes import Attributes
from gateway.matching.keys import Key
from gateway.part10 import Readable

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

    @property
    def unique_key(self) -> int:
        """The tag of the level's unique key (PS3.4 C.6.1.1.2 to C.6.1.1.5)."""
        return (PATIENT_ID, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID)[self.value]


class ArchiveUnavailable(Exception):
    """The archive does not answer, or not as it should. The text is for the log."""


class TooBroad(Exception):
    """The answer would be larger than the gateway takes into memory."""


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
class EncodedInstance:
    """A data set as it is stored: `data` yields it from its first element."""

    transfer_syntax_uid: str
    data: Readable


class Archive(Protocol):
    """Answers queries, yields instances, stores them. Used by several threads."""

    def find(self, query: Query) -> Iterator[Attributes]:
        """Yield the attributes that `query` asks for of each entity that matches, as they are found.

        Raises InvalidQuery before anything is asked; ArchiveUnavailable, TooBroad at any time.
        """

    def list_instances(self, level: Level, unique_keys: Sequence[str]) -> list[InstanceReference]:
        """The instances of the entities of `level` with these unique keys. Raises ArchiveUnavailable, TooBroad."""

    def open(self, instance: InstanceReference) -> AbstractContextManager[EncodedInstance]:
        """Open an instance for reading. Raises ArchiveUnavailable, while it is read too."""

    def store(self, file: IO[bytes], size_bytes: int) -> None:
        """Store the DICOM Part 10 file `file`. Raises ArchiveUnavailable when the archive does not take it."""


class Archives:
    """Which archive answers, by called AE title."""

    def __init__(self, default: Archive, by_called_ae_title: dict[str, Archive]) -> None:
        self._default = default
        self._others = by_called_ae_title

    def of(self, called_ae_title: str) -> Archive:
        """The archive for this called AE title."""
        return self._others.get(called_ae_title, self._default)
