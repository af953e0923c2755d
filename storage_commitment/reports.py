"""Reports that others make to Orthanc's own requests, kept in SQL on a connection of the caller's.

Who writes opens it with `database.write(lock=store.LOCK)`. Instants are nanoseconds since 1970.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from storage_commitment.data_sets import CommitmentReport, Reference
from storage_commitment.tables import REPORTS

# Of one reporter; of more the oldest are forgotten, so that nobody fills the disk.
MAXIMUM_REPORTS: Final = 1000


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report, and the AE title of who made it."""

    reporter: str
    received_at: int
    report: CommitmentReport


def keep(connection: Connection, reporter: str, report: CommitmentReport, now: int) -> None:
    """Keep a report, in the place of an earlier one to the same request."""
    of_reporter = REPORTS.c.reporter == reporter
    connection.execute(delete(REPORTS).where(REPORTS.c.transaction_uid == report.transaction_uid).where(of_reporter))
    values = {
        "transaction_uid": report.transaction_uid,
        "reporter": reporter,
        "received_at": now,
        "report": json.dumps([report.committed, report.failed], separators=(",", ":")),
    }
    connection.execute(insert(REPORTS).values(values))
    newest = select(REPORTS.c.received_at).where(of_reporter).order_by(REPORTS.c.received_at.desc())
    oldest = connection.execute(newest.offset(MAXIMUM_REPORTS - 1).limit(1)).scalar_one_or_none()
    if oldest is not None:
        connection.execute(delete(REPORTS).where(of_reporter).where(REPORTS.c.received_at < oldest))


def find(connection: Connection, transaction_uid: str) -> list[KeptReport]:
    """The reports to the request with this Transaction UID, the latest first."""
    query = select(REPORTS).where(REPORTS.c.transaction_uid == transaction_uid)
    return [_kept(row) for row in connection.execute(query.order_by(REPORTS.c.received_at.desc()))]


def purge(connection: Connection, before: int) -> int:
    """Forget what came before this instant; return how many."""
    return int(connection.execute(delete(REPORTS).where(REPORTS.c.received_at < before)).rowcount)


def _kept(row: Any) -> KeptReport:
    committed, failed = json.loads(row.report)
    report = CommitmentReport(
        row.transaction_uid,
        tuple(Reference(*one) for one in committed),
        tuple((Reference(*one), int(reason)) for one, reason in failed),
    )
    return KeptReport(row.reporter, int(row.received_at), report)
