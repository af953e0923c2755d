"""Orthanc's log of changes (`/changes`): what is new. Deletions are not in it, nor anything of what was deleted."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateway.archive.interface import ArchiveUnavailable
from gateway.archive.rest import OrthancRest

NEW_STUDY: Final = "NewStudy"
NEW_SERIES: Final = "NewSeries"


class Change(NamedTuple):
    """One entry. Two with all of this alike are the same one, of the same database."""

    number: int
    kind: str
    resource: str
    date: str


class Changes:
    """The log, read over REST. All methods raise ArchiveUnavailable."""

    def __init__(self, rest: OrthancRest) -> None:
        self._rest = rest

    def last(self) -> Change | None:
        """The last entry that is there; None when there is none (a new Orthanc, or after `DELETE /changes`)."""
        changes, _done = self._read("/changes?last")
        return changes[-1] if changes else None

    def since(self, number: int, limit: int) -> tuple[list[Change], bool]:
        """Entries after `number`, in their order, and whether these are all."""
        return self._read(f"/changes?since={number}&limit={limit}")

    def _read(self, uri: str) -> tuple[list[Change], bool]:
        answer = self._rest.get(uri)
        try:
            return [_change(entry) for entry in answer["Changes"]], bool(answer["Done"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveUnavailable("Orthanc's answer is no list of changes") from error


def _change(entry: Any) -> Change:
    return Change(int(entry["Seq"]), str(entry["ChangeType"]), str(entry["ID"]), str(entry["Date"]))
