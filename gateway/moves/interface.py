"""Who drives a C-MOVE: a request and a target go in, one sub-operation after the other comes out.

The life cycle is that of RegisterMoveCallback2 (Orthanc's Python plugin, since 4.2): a driver is created once from a
request, `size` is called once, `apply` once for each sub-operation, `free` exactly once whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from gateway.archive.interface import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    EncodedInstance,
    InstanceReference,
    Level,
    Selection,
)

# The identifiers of a request, by RegisterMoveCallback2's names.
IDENTIFIERS: Final[Mapping[str, int]] = {
    "PatientID": PATIENT_ID,
    "AccessionNumber": ACCESSION_NUMBER,
    "StudyInstanceUID": STUDY_INSTANCE_UID,
    "SeriesInstanceUID": SERIES_INSTANCE_UID,
    "SOPInstanceUID": SOP_INSTANCE_UID,
}
# Orthanc's plugins call the lowest level so.
_LEVEL_NAMES: Final = {Level.IMAGE: "INSTANCE"}


class Outcome(Enum):
    """What became of a sub-operation, as the counters of C-MOVE and C-GET tell it (PS3.4 C.4.2.1.6 to C.4.2.1.9)."""

    COMPLETED = "completed"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SubOperation:
    """One sub-operation, done. `reason` says for a person why it is not `COMPLETED`."""

    outcome: Outcome
    sop_instance_uid: str = ""
    reason: str = ""
    # The others are not begun.
    ends_move: bool = False
    # So many sub-operations more than were known before.
    more: int = 0


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """A C-MOVE request. `identifiers` by tag: those of IDENTIFIERS that have a value, with their values.

    `originator_ae_title` asks `source_ae_title`, which is the gateway as it was called, to send to `target_ae_title`;
    `originator_id` is the Message ID of the request.
    """

    level: Level
    identifiers: Mapping[int, tuple[str, ...]]
    originator_ae_title: str
    source_ae_title: str
    target_ae_title: str
    originator_id: int
    originator_address: str = ""

    def selection(self) -> Selection:
        """What an archive is asked for: what stands below the level does not count, nor Accession Number above it."""
        counting = {level.unique_key for level in Level if level.value <= self.level.value}
        if self.level is not Level.PATIENT:
            counting.add(ACCESSION_NUMBER)
        return Selection(self.level, {tag: values for tag, values in self.identifiers.items() if tag in counting})

    def as_dictionary(self) -> dict[str, str | int]:
        """The arguments of a create function of RegisterMoveCallback2: all keys, several values joined by backslash."""
        identifiers = {name: "\\".join(self.identifiers.get(tag, ())) for name, tag in IDENTIFIERS.items()}
        return {
            "Level": _LEVEL_NAMES.get(self.level, self.level.name),
            **identifiers,
            "OriginatorAET": self.originator_ae_title,
            "SourceAET": self.source_ae_title,
            "TargetAET": self.target_ae_title,
            "OriginatorID": self.originator_id,
        }


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How a target takes an instance: in this transfer syntax (None: as it is stored), or not at all, for a reason."""

    transfer_syntax_uid: str | None = None
    refusal: str = ""


class TargetLost(Exception):
    """The way to the target broke while an instance was sent: it may be sent again. The text is for a person."""


class Target(Protocol):
    """Where a driver sends to. Used by one thread."""

    def begin(self, instances: Sequence[InstanceReference]) -> list[Acceptance]:
        """Get ready for the first of `instances`, as many as there are answers: one at least."""

    def store(
        self, instance: InstanceReference, encoded: EncodedInstance, on_sent: Callable[[], None] | None = None
    ) -> SubOperation:
        """Send one instance. Raises TargetLost, and what the chunks of `encoded` raise.

        `on_sent` is called when `encoded` has been read to its end and the response is not there yet.
        """

    def waiting(self) -> None:
        """To be called again and again, several times a second, while something else than the target is waited for.

        Raises what ends the whole: that nobody wants the rest any more.
        """


class MoveDriver(Protocol):
    """Performs the sub-operations of one request. Used by one thread."""

    def size(self) -> int:
        """Number of sub-operations. Called once, before all others."""

    def apply(self) -> SubOperation:
        """Perform the next one. Called `size` times at most, plus what `more` says; not again after an exception."""

    def free(self) -> None:
        """Called exactly once: at the end, after a cancel, when the requester has gone, after an exception."""


CreateDriver = Callable[[MoveRequest, Target], MoveDriver]
"""Raises ArchiveUnavailable or TooBroad when it cannot be told what is to be sent.

For a C-GET the target is the requester itself, and `target_ae_title` is empty.
"""


class MoveDrivers:
    """Who drives a move, by called AE title."""

    def __init__(
        self, default: CreateDriver, by_called_ae_title: Mapping[str, CreateDriver], key: Callable[[str], str] = str
    ) -> None:
        """`key`: what AE titles are compared by."""
        self._default = default
        self._key = key
        self._others = {key(title): create for title, create in by_called_ae_title.items()}

    def needs_target(self, called_ae_title: str) -> bool:
        """Whether drivers send to the destination through a Target, which must then be known."""
        return True

    def of(self, called_ae_title: str) -> CreateDriver:
        """How drivers are made for moves that are asked of this AE title."""
        return self._others.get(self._key(called_ae_title), self._default)
