"""Transactions and reports in SQL, on SQLite and on PostgreSQL."""

from collections.abc import Sequence

import pytest
from sqlalchemy import Connection

from gateway.database import Database
from storage_commitment import reports, store
from storage_commitment.data_sets import CommitmentReport, CommitmentRequest, FailureReason, Reference
from storage_commitment.store import RESPONSE_TIME_NS, Requester, State
from tests.support.rawdicom import CT_IMAGE

GATEWAY = "this"
SECOND = 1_000_000_000
MODALITY = Requester("MODALITY", "ORTHANC", "192.0.2.1")


def request(uid: str = "1.2.99", instances: Sequence[str] = ("1.2.3",)) -> CommitmentRequest:
    return CommitmentRequest(uid, tuple(Reference(CT_IMAGE, one) for one in instances))


def receive(database: Database, asked: CommitmentRequest, requester: Requester = MODALITY, now: int = SECOND) -> int:
    with database.write(lock=store.LOCK) as connection:
        return store.receive(connection, GATEWAY, requester, asked, now)


def loaded(connection: Connection, number: int) -> store.Transaction:
    transaction = store.load(connection, number)
    assert transaction is not None
    return transaction


def test_what_was_received_is_pending_and_due_once_it_is_answered(database: Database) -> None:
    number = receive(database, request(instances=["1.2.3", "1.2.4"]))
    with database.read() as connection:
        transaction = loaded(connection, number)
        assert transaction.request == request(instances=["1.2.3", "1.2.4"])
        assert transaction.requester == MODALITY
        assert (transaction.state, transaction.is_duplicate) == (State.PENDING, False)
        chosen = store.next_one(connection, GATEWAY, (), ())
        assert chosen == store.Chosen(number, "MODALITY", SECOND + RESPONSE_TIME_NS)
        assert store.pending_one(connection, GATEWAY, number) == chosen


def test_same_request_again_is_the_same_transaction_from_the_beginning(database: Database) -> None:
    number = receive(database, request(instances=["1.2.3", "1.2.4"]))
    with database.write() as connection:
        store.reported(connection, loaded(connection, number), "ok", 2 * SECOND)
    again = Requester("MODALITY", "OTHER", "192.0.2.2")
    assert receive(database, request(instances=["1.2.4", "1.2.3"]), again, 3 * SECOND) == number
    with database.read() as connection:
        transaction = loaded(connection, number)
    assert (transaction.state, transaction.attempts, transaction.requester) == (State.PENDING, 0, again)


def test_what_was_done_for_an_earlier_request_changes_nothing_of_the_one_that_came_again(database: Database) -> None:
    number = receive(database, request())
    with database.read() as connection:
        earlier = loaded(connection, number)
        assert store.is_current(connection, earlier)
    receive(database, request(), now=2 * SECOND)
    with database.write() as connection:
        assert not store.is_current(connection, earlier)
        store.reported(connection, earlier, "too late", 3 * SECOND)
        assert loaded(connection, number).state is State.PENDING


def test_known_uid_with_other_instances_is_a_duplicate_and_the_first_stands(database: Database) -> None:
    first = receive(database, request())
    second = receive(database, request(instances=["1.2.4"]))
    assert second != first
    assert receive(database, request(instances=["1.2.4"]), now=2 * SECOND) == second
    with database.read() as connection:
        assert loaded(connection, second).is_duplicate
        assert not loaded(connection, first).is_duplicate
        assert loaded(connection, first).request == request()


def test_same_uid_of_another_requester_is_another_transaction(database: Database) -> None:
    first = receive(database, request())
    second = receive(database, request(instances=["1.2.4"]), Requester("OTHER", "ORTHANC", "192.0.2.1"))
    with database.read() as connection:
        assert first != second
        assert not loaded(connection, second).is_duplicate


def test_requester_with_too_many_pending_is_refused_and_others_are_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAXIMUM_PENDING", 2)
    first = receive(database, request("1.2.1"))
    receive(database, request("1.2.2"))
    with pytest.raises(store.TooManyPending):
        receive(database, request("1.2.3"))
    receive(database, request("1.2.2"))
    receive(database, request("1.2.3"), Requester("OTHER", "ORTHANC", "192.0.2.1"))
    with database.write() as connection:
        store.reported(connection, loaded(connection, first), "ok", SECOND)
    receive(database, request("1.2.3"))


def test_next_is_the_one_that_is_due_first_of_who_does_not_wait(database: Database) -> None:
    late = receive(database, request("1.2.1"), now=9 * SECOND)
    early = receive(database, request("1.2.2"), Requester("OTHER", "ORTHANC", "192.0.2.1"), now=SECOND)

    def next_one(busy: Sequence[int] = (), waiting: Sequence[str] = (), gateway: str = GATEWAY) -> int | None:
        with database.read() as connection:
            chosen = store.next_one(connection, gateway, busy, waiting)
        return None if chosen is None else chosen.id

    assert next_one() == early
    assert next_one(busy=[early]) == late
    assert next_one(waiting=["OTHER"]) == late
    assert next_one(busy=[early, late]) is None
    assert next_one(gateway="another") is None


def test_result_outcome_and_another_try(database: Database) -> None:
    number = receive(database, request(instances=["1.2.3", "1.2.4"]))
    failures = {"1.2.4": FailureReason.NO_SUCH_OBJECT_INSTANCE}
    with database.write() as connection:
        store.verified(connection, loaded(connection, number), failures, 2 * SECOND)
        store.not_reported(connection, loaded(connection, number), "x" * 1000, 2 * SECOND, 30 * SECOND)
        transaction = loaded(connection, number)
        assert (transaction.failures, transaction.verified_at, transaction.attempts) == (failures, 2 * SECOND, 1)
        assert (transaction.state, transaction.due_at) == (State.PENDING, 30 * SECOND)
        store.hurry(connection, GATEWAY, "MODALITY", 3 * SECOND)
        assert loaded(connection, number).due_at == 3 * SECOND
        store.not_reported(connection, loaded(connection, number), "no", 4 * SECOND, None)
        (summary,) = store.summaries(connection, state=State.GIVEN_UP)
        assert (summary.id, summary.instances, summary.failed, summary.note) == (number, 2, 1, "no")
        assert store.next_one(connection, GATEWAY, (), ()) is None
        assert store.resend(connection, number, "another", 5 * SECOND)
        assert store.next_one(connection, "another", (), ()) == store.Chosen(number, "MODALITY", 5 * SECOND)
        assert loaded(connection, number).verified_at is None


def test_what_is_over_is_forgotten_and_what_is_pending_is_not(database: Database) -> None:
    pending, over = receive(database, request("1.2.1")), receive(database, request("1.2.2"))
    with database.write() as connection:
        store.reported(connection, loaded(connection, over), "ok", 5 * SECOND)
        assert store.purge(connection, 5 * SECOND) == 0
        assert store.purge(connection, 6 * SECOND) == 1
        assert store.load(connection, over) is None
        assert store.remove(connection, pending)
        assert not store.remove(connection, pending)
        assert not store.resend(connection, pending, GATEWAY, 0)


def report(uid: str, *failed: str) -> CommitmentReport:
    return CommitmentReport(
        uid, (Reference(CT_IMAGE, "1.2.3"),), tuple((Reference(CT_IMAGE, one), 0x0112) for one in failed)
    )


def keep(database: Database, reporter: str, made: CommitmentReport, now: int) -> None:
    with database.write(lock=store.LOCK) as connection:
        reports.keep(connection, reporter, made, now)


def find(database: Database, uid: str) -> list[tuple[str, CommitmentReport]]:
    with database.read() as connection:
        return [(kept.reporter, kept.report) for kept in reports.find(connection, uid)]


def test_report_is_kept_and_the_latest_of_each_reporter_counts(database: Database) -> None:
    keep(database, "ARCHIVE", report("1.2.99", "1.2.4"), 1)
    keep(database, "OTHER", report("1.2.99"), 2)
    keep(database, "ARCHIVE", report("1.2.99"), 3)
    assert find(database, "1.2.99") == [("ARCHIVE", report("1.2.99")), ("OTHER", report("1.2.99"))]
    assert find(database, "1.2.98") == []


def test_of_one_reporter_only_so_many_reports_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAXIMUM_REPORTS", 2)
    keep(database, "OTHER", report("1.2.0"), 0)
    for now in (1, 2, 3):
        keep(database, "ARCHIVE", report(f"1.2.{now}"), now)
    assert [bool(find(database, f"1.2.{now}")) for now in range(4)] == [True, False, True, True]
    with database.write() as connection:
        assert reports.purge(connection, 3) == 2
    assert find(database, "1.2.3")
