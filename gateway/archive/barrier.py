"""Queries see what was acknowledged: before an archive is asked, what could match is delivered to it."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from gateway.archive.interface import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    ArchiveUnavailable,
    Query,
    Selection,
)
from gateway.deliveries import DeliveryClient, Wanted
from gateway.log import get_logger
from gateway.spool import ORTHANC

# The values of one key, as they are sent: five times more would not fit into a message. The query then waits for all
# that could match otherwise.
MAXIMUM_KEY_BYTES: Final = 12 * 1024

_TAGS: Final = {
    "patient_ids": PATIENT_ID,
    "study_instance_uids": STUDY_INSTANCE_UID,
    "series_instance_uids": SERIES_INSTANCE_UID,
    "sop_instance_uids": SOP_INSTANCE_UID,
    "accession_numbers": ACCESSION_NUMBER,
}


class QueryBarrier:
    """Waits for the forwarder, for a time."""

    def __init__(self, deliveries: DeliveryClient, timeout_s: float, destination: str = ORTHANC) -> None:
        """`destination`: the archive, as the spool calls it."""
        self._deliveries = deliveries
        self._timeout_s = timeout_s
        self._destination = destination
        self._log = get_logger()

    def wait(self, query: Query) -> None:
        """Return when what was acknowledged before and could match is delivered or has failed, or time is over."""
        if not self._timeout_s:
            return
        wanted = self._wanted({name: _comparable(query.identifiers(tag)) for name, tag in _TAGS.items()})
        if not self._deliveries.wait_for(_short(wanted), self._timeout_s):
            self._log.warning(
                f"a query is answered although acknowledged instances are not in {self._destination or 'Orthanc'} yet",
                timeout=self._timeout_s,
            )

    def missing(self, selection: Selection) -> list[str]:
        """Wait as `wait` does; the SOP Instance UIDs of what is selected and has not arrived.

        Raises ArchiveUnavailable when that cannot be known.
        """
        wanted = self._wanted({name: _comparable(selection.identifiers.get(tag, ())) for name, tag in _TAGS.items()})
        late = self._deliveries.wait_and_list(_short(wanted), self._timeout_s)
        if late is None:
            raise ArchiveUnavailable("the forwarder does not say what is not delivered yet")
        return list(dict.fromkeys(identifiers[0] for identifiers in late if wanted.may_have(identifiers)))

    def _wanted(self, values: dict[str, Any]) -> Wanted:
        return Wanted(**values, destination=self._destination)


def _comparable(values: Iterable[str]) -> frozenset[str]:
    """What the forwarder knows of an instance is not decoded: beyond ASCII anything could match."""
    found = frozenset(value.strip(" \0") for value in values)
    return found if all(map(str.isascii, found)) else frozenset()


def _short(wanted: Wanted) -> Wanted:
    too_long: dict[str, Any] = {
        name: frozenset() for name in _TAGS if len(json.dumps(list(getattr(wanted, name)))) > MAXIMUM_KEY_BYTES
    }
    return replace(wanted, **too_long)
