"""Transactions in SQL, on a connection of the caller's. Who writes opens it with `database.write(lock=store.LOCK)`.

Instants are nanoseconds since 1970; the clock is the caller's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from storage_commitment.data_sets import CommitmentRequest, FailureReason, Reference
from storage_commitment.tables import TRANSACTIONS

# PostgreSQL's advisory lock of all who write here.
LOCK: Final = 0x44_47_00_05

MAXIMUM_NOTE_CHARACTERS: Final = 255
# Of one requester, not reported yet: more are refused, so that nobody fills the disk.
MAXIMUM_PENDING: Final = 10_000
# From the commit of a request to its response: until then it is not due.
RESPONSE_TIME_NS: Final = 2_000_000_000


class TooManyPending(Exception):
    """The requester has MAXIMUM_PENDING transactions that are not reported."""


class State(Enum):
    """What is to be done for a transaction."""

    PENDING = "pending"  # to be verified and reported
    REPORTED = "reported"  # the requester has confirmed the report
    GIVEN_UP = "given up"  # no report reached it


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asked, under which of our AE titles, from where."""

    ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request for commitment and what became of it. Instants are nanoseconds since 1970."""

    id: int
    requester: Requester
    request: CommitmentRequest
    is_duplicate: bool
    received_at: int
    state: State
    due_at: int
    attempts: int
    verified_at: int | None
    failures: Mapping[str, FailureReason]
    note: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A transaction without its instances."""

    id: int
    transaction_uid: str
    requester: str
    state: State
    instances: int
    failed: int
    is_duplicate: bool
    received_at: int
    due_at: int
    attempts: int
    verified_at: int | None
    note: str


def receive(connection: Connection, gateway: str, requester: Requester, request: CommitmentRequest, now: int) -> int:
    """Keep a request, due once it is answered; return the number of its transaction. Raises TooManyPending.

    The same request again is the same transaction, and is reported again: the requester did not get the report, or
    not yet. The Transaction UID of another request that is still known makes a duplicate (PS3.3 C.14.1.1, 0131H).
    """
    digest = _digest(request.references)
    known = connection.execute(
        select(TRANSACTIONS.c.id, TRANSACTIONS.c.digest)
        .where(TRANSACTIONS.c.transaction_uid == request.transaction_uid)
        .where(TRANSACTIONS.c.requester == requester.ae_title)
        .order_by(TRANSACTIONS.c.id)
    ).all()
    current = {
        "gateway": gateway,
        "called_ae_title": requester.called_ae_title,
        "address": requester.address,
        "received_at": now,
        "state": State.PENDING.value,
        "due_at": now + RESPONSE_TIME_NS,
        "attempts": 0,
        "verified_at": None,
        "note": "",
    }
    for row in known:
        if row.digest == digest:
            connection.execute(update(TRANSACTIONS).where(TRANSACTIONS.c.id == row.id).values(current))
            return int(row.id)
    _require_room(connection, requester.ae_title)
    values = {
        **current,
        "transaction_uid": request.transaction_uid,
        "requester": requester.ae_title,
        "digest": digest,
        "is_duplicate": bool(known),
        "instances": len(request.references),
        "instance_references": json.dumps(request.references, separators=(",", ":")),
        "failures": "{}",
    }
    return int(connection.execute(insert(TRANSACTIONS).values(values).returning(TRANSACTIONS.c.id)).scalar_one())


def take_over(connection: Connection, gateway: str, due_at: int) -> None:
    """What an earlier run of this gateway left is due soon: the requester has waited long enough."""
    connection.execute(
        update(TRANSACTIONS)
        .where(TRANSACTIONS.c.gateway == gateway)
        .where(TRANSACTIONS.c.state == State.PENDING.value)
        .values(due_at=due_at)
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """A transaction that may be worked on, and when it is due."""

    id: int
    requester: str
    due_at: int


def next_one(connection: Connection, gateway: str, busy: Collection[int], waiting: Collection[str]) -> Chosen | None:
    """The next transaction: none that is `busy`, none of the requesters in `waiting`."""
    query = (
        _pending(gateway)
        .where(TRANSACTIONS.c.id.not_in(busy))
        .where(TRANSACTIONS.c.requester.not_in(waiting))
        .order_by(TRANSACTIONS.c.due_at, TRANSACTIONS.c.id)
        .limit(1)
    )
    return _chosen(connection.execute(query).one_or_none())


def pending_one(connection: Connection, gateway: str, number: int) -> Chosen | None:
    """The transaction of this number, if there is something to do for it."""
    return _chosen(connection.execute(_pending(gateway).where(TRANSACTIONS.c.id == number)).one_or_none())


def hurry(connection: Connection, gateway: str, requester: str, now: int) -> None:
    """A requester answers again: what waits for it is due now."""
    connection.execute(
        update(TRANSACTIONS)
        .where(TRANSACTIONS.c.gateway == gateway)
        .where(TRANSACTIONS.c.state == State.PENDING.value)
        .where(TRANSACTIONS.c.requester == requester)
        .where(TRANSACTIONS.c.due_at > now)
        .values(due_at=now)
    )


def load(connection: Connection, number: int) -> Transaction | None:
    """One transaction with its instances; None if it was deleted."""
    row = connection.execute(select(TRANSACTIONS).where(TRANSACTIONS.c.id == number)).one_or_none()
    return None if row is None else _transaction(row)


def postpone(connection: Connection, transaction: Transaction, due_at: int, reason: str = "") -> None:
    """Look again later: nothing can be said yet."""
    _change(connection, transaction, due_at=due_at, note=reason[:MAXIMUM_NOTE_CHARACTERS])


def verified(connection: Connection, transaction: Transaction, failures: Mapping[str, FailureReason], now: int) -> None:
    """Keep the result; the report is still to be made."""
    plain = json.dumps({uid: reason.value for uid, reason in failures.items()}, separators=(",", ":"))
    _change(connection, transaction, verified_at=now, failures=plain)


def not_reported(connection: Connection, transaction: Transaction, reason: str, now: int, due_at: int | None) -> None:
    """An attempt failed: there is another one at `due_at`, or, with None, none."""
    state = State.PENDING if due_at is not None else State.GIVEN_UP
    _change(
        connection,
        transaction,
        state=state.value,
        due_at=now if due_at is None else due_at,
        attempts=transaction.attempts + 1,
        note=reason[:MAXIMUM_NOTE_CHARACTERS],
    )


def reported(connection: Connection, transaction: Transaction, how: str, now: int) -> None:
    """The requester has the report."""
    _change(
        connection,
        transaction,
        state=State.REPORTED.value,
        due_at=now,
        attempts=transaction.attempts + 1,
        note=how[:MAXIMUM_NOTE_CHARACTERS],
    )


def resend(connection: Connection, number: int, gateway: str, now: int) -> bool:
    """Verify and report a transaction once more; False if there is none."""
    values = {
        "gateway": gateway,
        "state": State.PENDING.value,
        "due_at": now,
        "attempts": 0,
        "verified_at": None,
    }
    return bool(connection.execute(update(TRANSACTIONS).where(TRANSACTIONS.c.id == number).values(values)).rowcount)


def remove(connection: Connection, number: int) -> bool:
    """Forget a transaction; False if there is none."""
    return bool(connection.execute(delete(TRANSACTIONS).where(TRANSACTIONS.c.id == number)).rowcount)


def purge(connection: Connection, before: int) -> int:
    """Forget what was reported or given up before this instant; return how many."""
    over = (State.REPORTED.value, State.GIVEN_UP.value)
    condition = (TRANSACTIONS.c.state.in_(over), TRANSACTIONS.c.due_at < before)
    return int(connection.execute(delete(TRANSACTIONS).where(*condition)).rowcount)


def summaries(
    connection: Connection, *, state: State | None = None, requester: str = "", limit: int = 1000
) -> list[Summary]:
    """The latest transactions, the newest first; `requester` "" is all."""
    columns = [column for column in TRANSACTIONS.c if column is not TRANSACTIONS.c.instance_references]
    query = select(*columns).order_by(TRANSACTIONS.c.received_at.desc()).limit(limit)
    if state is not None:
        query = query.where(TRANSACTIONS.c.state == state.value)
    if requester:
        query = query.where(TRANSACTIONS.c.requester == requester)
    return [_summary(row) for row in connection.execute(query)]


def _pending(gateway: str) -> Select[Any]:
    return (
        select(TRANSACTIONS.c.id, TRANSACTIONS.c.requester, TRANSACTIONS.c.due_at)
        .where(TRANSACTIONS.c.gateway == gateway)
        .where(TRANSACTIONS.c.state == State.PENDING.value)
    )


def _chosen(row: Row[Any] | None) -> Chosen | None:
    return None if row is None else Chosen(int(row.id), row.requester, int(row.due_at))


def _require_room(connection: Connection, requester: str) -> None:
    query = (
        select(func.count())
        .select_from(TRANSACTIONS)
        .where(TRANSACTIONS.c.requester == requester)
        .where(TRANSACTIONS.c.state == State.PENDING.value)
    )
    if connection.execute(query).scalar_one() >= MAXIMUM_PENDING:
        raise TooManyPending(f"{MAXIMUM_PENDING} transactions of this AE title are not reported yet")


def is_current(connection: Connection, transaction: Transaction) -> bool:
    """Whether this is still what is to be reported: it was not deleted, and did not come again."""
    query = select(TRANSACTIONS.c.received_at).where(TRANSACTIONS.c.id == transaction.id)
    return connection.execute(query).scalar_one_or_none() == transaction.received_at


def _change(connection: Connection, transaction: Transaction, **values: Any) -> None:
    """Unless the request has come again in the meantime: then it begins anew."""
    connection.execute(
        update(TRANSACTIONS)
        .where(TRANSACTIONS.c.id == transaction.id)
        .where(TRANSACTIONS.c.received_at == transaction.received_at)
        .values(values)
    )


def _digest(references: Sequence[Reference]) -> bytes:
    return hashlib.sha256("\n".join(sorted("\\".join(one) for one in references)).encode()).digest()


def _transaction(row: Row[Any]) -> Transaction:
    references = tuple(Reference(*one) for one in json.loads(row.instance_references))
    return Transaction(
        id=int(row.id),
        requester=Requester(row.requester, row.called_ae_title, row.address),
        request=CommitmentRequest(row.transaction_uid, references),
        is_duplicate=bool(row.is_duplicate),
        received_at=int(row.received_at),
        state=State(row.state),
        due_at=int(row.due_at),
        attempts=int(row.attempts),
        verified_at=None if row.verified_at is None else int(row.verified_at),
        failures={uid: FailureReason(reason) for uid, reason in json.loads(row.failures).items()},
        note=row.note,
    )


def _summary(row: Row[Any]) -> Summary:
    return Summary(
        id=int(row.id),
        transaction_uid=row.transaction_uid,
        requester=row.requester,
        state=State(row.state),
        instances=int(row.instances),
        failed=len(json.loads(row.failures)),
        is_duplicate=bool(row.is_duplicate),
        received_at=int(row.received_at),
        due_at=int(row.due_at),
        attempts=int(row.attempts),
        verified_at=None if row.verified_at is None else int(row.verified_at),
        note=row.note,
    )
