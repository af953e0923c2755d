"""What a DICOMweb server's failures mean for who asks the archive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from gateway.archive.interface import AccessDenied, ArchiveUnavailable, QueryRefused, TooBroad
from gateway.dicomweb.errors import DicomWebError, HttpStatusError
from gateway.dicomweb.qido import TooManyMatches

# PS3.18 10.6.3: 400 is for a request that is wrong, 413 for one that asks for too much.
_TOO_BROAD: Final = frozenset((413, 414))
_NOT_TAKEN: Final = frozenset((400, 405, 406, 415, 422, 501))


def meaning(error: DicomWebError, title: str) -> ArchiveUnavailable | TooBroad:
    """The same error, as an archive's."""
    text = f"{title}: {error}"
    if isinstance(error, TooManyMatches):
        return TooBroad(text)
    if isinstance(error, HttpStatusError):
        if error.is_unauthorized:
            return AccessDenied(text)
        if error.status in _TOO_BROAD:
            return TooBroad(text)
        if error.status in _NOT_TAKEN:
            return QueryRefused(text)
    return ArchiveUnavailable(text)


@contextlib.contextmanager
def translated(title: str) -> Iterator[None]:
    """Raises ArchiveUnavailable, TooBroad for what a DICOMweb server did within."""
    try:
        yield
    except DicomWebError as error:
        raise meaning(error, title) from error
