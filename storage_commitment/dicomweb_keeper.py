"""Whether instances are safe on a DICOMweb server: it is searched for them (QIDO-RS, PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.archive.dicomweb_errors import translated
from gateway.archive.dicomweb_holdings import Holdings
from gateway.deliveries import DeliveryClient
from gateway.dicomweb.client import DicomWebClient
from storage_commitment.data_sets import FailureReason, Reference
from storage_commitment.undelivered import UndeliveredInstances
from storage_commitment.verification import Findings, not_delivered


class DicomWebKeeper:
    """A Keeper (storage_commitment.verification) that a DICOMweb server is. What it lists under its SOP Instance UID,
    with the SOP class of the request, is safe: the server's word is all that there is."""

    def __init__(self, client: DicomWebClient, deliveries: DeliveryClient, undelivered: UndeliveredInstances) -> None:
        self._title = client.title
        self._holdings = Holdings(client)
        self._deliveries = deliveries
        self._undelivered = undelivered

    def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
        """See Keeper."""
        uids = [one.sop_instance_uid for one in references]
        # In this order: what is not pending any more is on the server or in `failed` when these are looked at.
        undelivered = not_delivered(self._deliveries, uids, self._title)
        with translated(self._title):
            classes = self._holdings.classes(uids)
        refused = self._undelivered.among(uids, self._title)
        pending = undelivered - refused
        absent = frozenset(uid for uid in uids if uid not in classes and uid not in refused) - pending
        if pending or (absent and not is_final):
            return Findings({}, absent, pending)
        failures = dict.fromkeys(refused, FailureReason.PROCESSING_FAILURE)
        for reference in references:
            uid = reference.sop_instance_uid
            # PS3.18 table 10.6.3-5 has the SOP class in each answer; of a server that leaves it out nothing is known.
            if uid not in failures and uid in classes and not classes[uid] & {reference.sop_class_uid, ""}:
                failures[uid] = FailureReason.CLASS_INSTANCE_CONFLICT
        return Findings(failures, absent)
