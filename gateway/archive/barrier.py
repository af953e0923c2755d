"""Queries see what was acknowledged: before Orthanc is asked, what could match is delivered to it."""

from typing import Final

from gateway.archive.interface import PATIENT_ID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID, Query
from gateway.deliveries import DeliveryClient, Wanted
from gateway.log import get_logger

# More would not fit into a message; the query then waits for all that could match otherwise.
MAXIMUM_IDENTIFIERS: Final = 200


class QueryBarrier:
    """Waits for the forwarder, for a time."""

    def __init__(self, deliveries: DeliveryClient, timeout_s: float) -> None:
        self._deliveries = deliveries
        self._timeout_s = timeout_s
        self._log = get_logger()

    def wait(self, query: Query) -> None:
        """Return when what was acknowledged before and could match is in Orthanc or has failed, or time is over."""
        if not self._timeout_s:
            return
        wanted = Wanted(
            patient_ids=_identifiers(query, PATIENT_ID),
            study_instance_uids=_identifiers(query, STUDY_INSTANCE_UID),
            series_instance_uids=_identifiers(query, SERIES_INSTANCE_UID),
            sop_instance_uids=_identifiers(query, SOP_INSTANCE_UID),
        )
        if not self._deliveries.wait_for(wanted, self._timeout_s):
            self._log.warning(
                "a query is answered although acknowledged instances are not in Orthanc yet", timeout=self._timeout_s
            )


def _identifiers(query: Query, tag: int) -> frozenset[str]:
    found = query.identifiers(tag)
    # what the forwarder knows of an instance is not decoded
    usable = len(found) <= MAXIMUM_IDENTIFIERS and all(value.isascii() for value in found)
    return found if usable else frozenset()
