"""One report of storage commitment as N-EVENT-REPORT (PS3.4 J.3.3), on any association."""

from collections.abc import Mapping
from typing import Final

from gateway.printable import printable
from scp.data_set_sources import Chunks
from scp.requests import NegotiatedAssociation, RequestSender
from scp.scu import Event, n_event_report
from storage_commitment.data_sets import (
    STORAGE_COMMITMENT_PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    FailureReason,
    encode_report,
)
from storage_commitment.store import Transaction

# PS3.4 J.3.3: Storage Commitment Request Successful, and Complete - Failures Exist.
ALL_COMMITTED: Final = 1
FAILURES_EXIST: Final = 2

_SUCCESS: Final = 0x0000
# Warnings of PS3.7 C.4: the report was taken all the same.
_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)})


def send_report(
    association: NegotiatedAssociation,
    requests: RequestSender,
    context_id: int,
    transaction: Transaction,
    failures: Mapping[str, FailureReason],
    timeout_s: float,
) -> str:
    """Report on this presentation context; return why the requester did not take it, "" if it did.

    Retrieve AE Title is the title under which the requester knows us. Raises AssociationError.
    """
    transfer_syntax = str(association.accepted_context_ids[context_id].transfer_syntax[0])
    data = encode_report(transaction.request, failures, transaction.requester.called_ae_title, transfer_syntax)
    event = Event(STORAGE_COMMITMENT_PUSH_MODEL, WELL_KNOWN_INSTANCE, FAILURES_EXIST if failures else ALL_COMMITTED)
    response = n_event_report(requests, context_id, event, Chunks([data], len(data)), timeout_s=timeout_s)
    if response.status == _SUCCESS or response.status in _WARNINGS:
        return ""
    said = f": {printable(response.error_comment)}" if response.error_comment else ""
    return f"the requester answers status 0x{response.status:04X}{said}"
