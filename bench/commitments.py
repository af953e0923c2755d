"""A modality that asks for storage commitment and waits for the reports (PS3.4 annex J)."""

import http.client
import itertools
import json
import queue
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from bench.client import STORAGE_COMMITMENT, Association, association_request
from bench.encoding import encode

AE_TITLE = "BENCH"
TIMEOUT_S = 300.0
SUCCESSFUL = 1  # PS3.4 section J.3.3: event type

Reference = tuple[str, str]


class CommitmentFailed(OSError):
    """A report did not come, or does not say that all is committed."""


@dataclass(frozen=True)
class Committed:
    """How long each transaction took from its request to its report, and all of them together."""

    times_ms: list[float]
    elapsed_s: float


class Modality:
    """Listens on `port` for reports, with pynetdicom, while the `with` lasts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reports: dict[str, queue.SimpleQueue[tuple[int, int]]] = {}

    def __enter__(self) -> Self:
        ae = AE(ae_title=AE_TITLE)
        ae.add_supported_context(STORAGE_COMMITMENT, scu_role=False, scp_role=True)
        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._take)]
        self._server = ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._server.shutdown()

    def commit(self, port: int, references: Sequence[Reference], transactions: int, at_once: int) -> Committed:
        """Ask for commitment of the same instances again and again, so many transactions at once.

        Raises CommitmentFailed and AssociationFailed.
        """
        uids = [str(generate_uid()) for _ in range(transactions)]
        self._reports |= {uid: queue.SimpleQueue() for uid in uids}
        began = time.monotonic()
        with ThreadPoolExecutor(at_once) as executor:
            times_ms = list(executor.map(self._one, itertools.repeat(port), uids, itertools.repeat(references)))
        return Committed(times_ms, time.monotonic() - began)

    def _one(self, port: int, uid: str, references: Sequence[Reference]) -> float:
        items = [
            {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": sop_instance}
            for sop_class, sop_instance in references
        ]
        data_set = encode({"TransactionUID": uid, "ReferencedSOPSequence": items})
        started = time.perf_counter()
        with Association(port, association_request([STORAGE_COMMITMENT])) as association:
            association.request_commitment(data_set)
            association.release()
        try:
            event, committed = self._reports[uid].get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise CommitmentFailed(f"no report within {TIMEOUT_S:.0f} s") from None
        if (event, committed) != (SUCCESSFUL, len(references)):
            raise CommitmentFailed(f"event type {event}, {committed} of {len(references)} instances are committed")
        return (time.perf_counter() - started) * 1000

    def _take(self, event: Any) -> tuple[int, None]:
        report = event.event_information
        committed = len(report.get("ReferencedSOPSequence", ()))
        self._reports[str(report.TransactionUID)].put((event.event_type, committed))
        return 0x0000, None


def references_of(http_port: int, study_uid: str, count: int) -> list[Reference]:
    """SOP Class and SOP Instance UIDs of `count` instances of a study. Raises CommitmentFailed."""
    connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=60)
    try:
        order = {"Level": "Instance", "Expand": False, "Limit": count, "Query": {"StudyInstanceUID": study_uid}}
        identifiers = _post(connection, "/tools/find", order)
        order = {"Resources": identifiers, "Level": "Instance", "Metadata": True}
        found = _post(connection, "/tools/bulk-content", order)
    finally:
        connection.close()
    if len(found) != count:
        raise CommitmentFailed(f"Orthanc has {len(found)} of {count} instances")
    return [(one["Metadata"]["SopClassUid"], one["MainDicomTags"]["SOPInstanceUID"]) for one in found]


def _post(connection: http.client.HTTPConnection, uri: str, order: dict[str, object]) -> list[Any]:
    connection.request("POST", uri, body=json.dumps(order))
    return list(json.loads(connection.getresponse().read()))
