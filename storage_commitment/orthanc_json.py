"""A report as Orthanc 1.10.1 answers it to GET /storage-commitment/{uid}."""

import json
from collections.abc import Sequence
from typing import Any, Final

from storage_commitment.data_sets import CommitmentReport, Reference
from storage_commitment.reports import KeptReport

# PS3.3 C.14.1.1; Orthanc answers these texts.
DESCRIPTIONS: Final = {
    0x0110: "A general failure in processing the operation was encountered",
    0x0112: "One or more of the elements in the Referenced SOP Instance Sequence was not available",
    0x0119: (
        "The SOP Class of an element in the Referenced SOP Instance Sequence did not correspond to the SOP class "
        "registered for this SOP Instance at the SCP"
    ),
    0x0122: (
        "Storage Commitment has been requested for a SOP Instance with a SOP Class that is not supported by the SCP"
    ),
    0x0131: "The Transaction UID of the Storage Commitment Request is already in use",
    0x0213: "The SCP does not currently have enough resources to store the requested SOP Instance(s)",
}
UNKNOWN: Final = "Unknown failure reason"


def encode(reports: Sequence[KeptReport]) -> bytes:
    """A list with the reports to one request, the latest first; nothing if there is none."""
    return json.dumps([_answer(kept) for kept in reports]).encode() if reports else b""


def _answer(kept: KeptReport) -> dict[str, Any]:
    report: CommitmentReport = kept.report
    return {
        "Failures": [
            {**_reference(one), "FailureReason": reason, "Description": DESCRIPTIONS.get(reason, UNKNOWN)}
            for one, reason in report.failed
        ],
        "RemoteAET": kept.reporter,
        "Status": "Failure" if report.failed else "Success",
        "Success": [_reference(one) for one in report.committed],
    }


def _reference(one: Reference) -> dict[str, str]:
    return {"SOPClassUID": one.sop_class_uid, "SOPInstanceUID": one.sop_instance_uid}
