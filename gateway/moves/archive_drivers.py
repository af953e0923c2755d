"""The drivers that send what archives have."""

from __future__ import annotations

from functools import partial

from gateway.archive.interface import Archives, Listing
from gateway.moves.archive_driver import ArchiveDriver
from gateway.moves.interface import MoveDriver, MoveDrivers, MoveRequest, Target
from gateway.moves.series_driver import SeriesDriver


def archive_driver(archives: Archives, request: MoveRequest, target: Target) -> MoveDriver:
    """The driver of the archive that was called. Raises ArchiveUnavailable, TooBroad."""
    archive, selection = archives.of(request.source_ae_title), request.selection()
    selected = archive.select(selection)
    if isinstance(selected, Listing):
        return ArchiveDriver(archive, selection, target, selected)
    return SeriesDriver(archive, selection, selected, target)


def archive_drivers(archives: Archives) -> MoveDrivers:
    """Each called AE title's archive sends what it has."""
    return MoveDrivers(partial(archive_driver, archives), {})
