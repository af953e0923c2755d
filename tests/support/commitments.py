"""Requests for storage commitment and their reports, encoded by pydicom, and a requester that waits for reports."""

from __future__ import annotations

import queue
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.rawdicom import (
    A_RELEASE_RP,
    A_RELEASE_RQ,
    CT_IMAGE,
    WITH_DATA_SET,
    WITHOUT_DATA_SET,
    Context,
    RawPeer,
    Response,
    command_set,
    pdu,
)
from tests.support.rawscp import Message, Proposal, RawConnection, RawScp

PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0100, 0x0130
CONTEXT: Final = Context(1, PUSH_MODEL, (EXPLICIT,))

TIMEOUT_S: Final = 30

Pair = tuple[str, str]
"""SOP Class UID and SOP Instance UID."""


def ct_of(*sop_instance_uids: str) -> list[Pair]:
    return [(CT_IMAGE, uid) for uid in sop_instance_uids]


def information(
    transaction_uid: str | None, references: Iterable[Pair] | None, failed: Iterable[tuple[Pair, int]] = ()
) -> Dataset:
    """Action Information, or Event Information; what is None is missing."""
    made = Dataset()
    if transaction_uid is not None:
        made.TransactionUID = transaction_uid
    if references is not None:
        made.ReferencedSOPSequence = [_item(*one) for one in references]
    failures = [_item(*one, reason) for one, reason in failed]
    if failures:
        made.FailedSOPSequence = failures
    return made


def _item(sop_class_uid: str, sop_instance_uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def encoded(data_set: Dataset, syntax: str = EXPLICIT) -> bytes:
    """By pydicom."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, syntax == IMPLICIT
    write_dataset(file, data_set)
    return file.getvalue()


def decoded(data: bytes, syntax: str = EXPLICIT) -> Dataset:
    """By pydicom."""
    return read_dataset(BytesIO(data), is_implicit_VR=syntax == IMPLICIT, is_little_endian=True)


def action_rq(
    *,
    sop_class_uid: str = PUSH_MODEL,
    sop_instance_uid: str = INSTANCE,
    action_type: int = 1,
    message_id: int = 1,
    has_data_set: bool = True,
) -> bytes:
    """Encodes the command set of an N-ACTION-RQ (PS3.7 table 10.3-7)."""
    return command_set(
        {
            0x0003: sop_class_uid,
            0x0100: N_ACTION_RQ,
            0x0110: message_id,
            0x0800: WITH_DATA_SET if has_data_set else WITHOUT_DATA_SET,
            0x1001: sop_instance_uid,
            0x1008: action_type,
        }
    )


def event_report_rq(
    *,
    sop_class_uid: str = PUSH_MODEL,
    sop_instance_uid: str = INSTANCE,
    event_type: int = 1,
    message_id: int = 1,
) -> bytes:
    """Encodes the command set of an N-EVENT-REPORT-RQ (PS3.7 table 10.3-1)."""
    return command_set(
        {
            0x0002: sop_class_uid,
            0x0100: N_EVENT_REPORT_RQ,
            0x0110: message_id,
            0x0800: WITH_DATA_SET,
            0x1000: sop_instance_uid,
            0x1002: event_type,
        }
    )


def ask(
    peer: RawPeer, transaction_uid: str, references: Sequence[Pair], *, context_id: int = 1, message_id: int = 1
) -> Response:
    """Asks for commitment on an association that is open."""
    data_set = encoded(information(transaction_uid, references))
    peer.message(context_id, action_rq(message_id=message_id), data_set)
    return peer.response()


def ask_and_leave(port: int, transaction_uid: str, references: Sequence[Pair], calling: str = "MODALITY") -> int:
    """Asks for commitment on an association of its own, released at once; returns the status."""
    with RawPeer(port) as peer:
        peer.associate([CONTEXT], calling=calling)
        status = ask(peer, transaction_uid, references).status
        peer.release()
    return status


@dataclass(frozen=True)
class Report:
    """What an N-EVENT-REPORT said; `proposal` is None on an association of the requester's."""

    event_type: int
    transaction_uid: str
    committed: list[Pair]
    failed: dict[str, int]
    retrieve_ae_title: str
    proposal: Proposal | None


def report_of(message: Message, syntax: str, proposal: Proposal | None = None) -> Report:
    """Decodes a request, which must be an N-EVENT-REPORT of the well-known instance."""
    assert message.number(0x0100) == N_EVENT_REPORT_RQ
    assert message.values[0x0002].strip(b"\0") == PUSH_MODEL.encode()
    assert message.values[0x1000].strip(b"\0") == INSTANCE.encode()
    data_set = decoded(message.data_set, syntax)
    return Report(
        message.number(0x1002),
        str(data_set.TransactionUID),
        [
            (str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID))
            for i in data_set.get("ReferencedSOPSequence", ())
        ],
        {str(i.ReferencedSOPInstanceUID): int(i.FailureReason) for i in data_set.get("FailedSOPSequence", ())},
        str(data_set.get("RetrieveAETitle", "")),
        proposal,
    )


class Requester(RawScp):
    """Listens for reports on `port`; each association brings one. `statuses` are the answers, the last one for ever.

    Instead of a status: "abort", "reject", "silence" (until the other side ends it).
    """

    def __init__(
        self, *statuses: int | str, port: int = 0, roles: bool = True, context: ssl.SSLContext | None = None
    ) -> None:
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._statuses = list(statuses) or [0]
        self._roles = roles
        super().__init__(self._take, port, context)

    def next(self, timeout_s: float = TIMEOUT_S) -> Report:
        """The next report that came."""
        try:
            return self.reports.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"no report within {timeout_s} s") from None

    def _take(self, peer: RawConnection) -> None:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        if status == "reject":
            peer.read_pdu()
            peer.send(pdu(3, bytes([0, 1, 1, 1])))
            peer.ends()
            return
        proposal = peer.accept(roles={PUSH_MODEL: (0, 1)} if self._roles else None)
        message = peer.request()
        (_abstract, syntaxes) = proposal.contexts[message.context_id]
        self.reports.put(report_of(message, syntaxes[0], proposal))
        if status == "abort":
            peer.send(pdu(7, bytes(4)))
        elif status == "silence":
            peer.ends()
        else:
            assert isinstance(status, int)
            peer.answer(message, status, e0902=b"as the test wants it")
            assert peer.read_pdu().type == A_RELEASE_RQ
            peer.send(pdu(A_RELEASE_RP, bytes(4)))
