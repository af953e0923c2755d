"""Who is verified and reported when, in simulated time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from gateway.archive.interface import ArchiveUnavailable, TooBroad
from gateway.database import Database, connect_sqlite, migrate
from storage_commitment import reporter as module
from storage_commitment import store
from storage_commitment.data_sets import CommitmentRequest, FailureReason, Reference
from storage_commitment.reporter import CONCURRENT, NotReported, Policy, Reporter
from storage_commitment.store import Requester, State, Transaction
from storage_commitment.verification import Findings
from tests.support.processes import wait_until
from tests.support.rawdicom import CT_IMAGE

SECOND: Final = 1_000_000_000
DEADLINE_S: Final = 30
POLICY: Final = Policy(
    grace_period_s=30, maximum_retries=20, retry_delay_s=30, maximum_retry_delay_s=1800, retention_s=86400
)


class Shelf:
    """A Keeper: `there` is safe, `coming` is on its way, of the rest nothing is known."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.coming: set[str] = set()
        self.trouble: Exception | None = None
        self.failures: dict[str, FailureReason] = {}
        self.looks = 0

    def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        uids = {one.sop_instance_uid for one in references}
        return Findings(
            {uid: reason for uid, reason in self.failures.items() if uid in uids},
            frozenset(uids - self.there - self.coming - self.failures.keys()),
            frozenset(uids & self.coming),
        )


class Bench:
    """A reporter with a clock that is set by hand, whose reports are kept, or refused while `refused` says so."""

    def __init__(self, books: Database, policy: Policy = POLICY) -> None:
        self.books = books
        self.now = 1000 * SECOND
        self.shelf = Shelf()
        self.reports: list[tuple[str, dict[str, FailureReason]]] = []
        self.refused: Callable[[Transaction], str] = lambda transaction: ""
        self.reporter = Reporter(
            books,
            "this",
            lambda called_ae_title: self.shelf,
            self._send,
            lambda sop_class_uid: sop_class_uid == CT_IMAGE,
            policy,
            lambda: self.now,
        )

    def _send(self, transaction: Transaction, failures: Mapping[str, FailureReason]) -> str:
        reason = self.refused(transaction)
        if reason:
            raise NotReported(reason)
        self.reports.append((transaction.request.transaction_uid, dict(failures)))
        return "by hand"

    def ask(self, uid: str, instances: Collection[str], requester: str = "MODALITY", sop_class: str = CT_IMAGE) -> int:
        asked = CommitmentRequest(uid, tuple(Reference(sop_class, one) for one in instances))
        with self.books.write(lock=store.LOCK) as connection:
            return store.receive(connection, "this", Requester(requester, "ORTHANC", "192.0.2.1"), asked, self.now)

    def step(self, seconds: float = 0) -> int:
        """Lets time pass and does what is due; how many transactions that was."""
        self.now += int(seconds * SECOND)
        done = 0
        while begun := self.reporter.step():
            done += len(begun)
            for thread in begun:
                thread.join(DEADLINE_S)
                assert not thread.is_alive()
        return done

    def transaction(self, number: int) -> Transaction:
        with self.books.read() as connection:
            found = store.load(connection, number)
        assert found is not None
        return found


@pytest.fixture
def books(tmp_path: Path) -> Database:
    made = connect_sqlite(tmp_path / "gateway.sqlite")
    migrate(made)
    return made


@pytest.fixture
def bench(books: Database) -> Bench:
    return Bench(books)


def test_report_comes_once_the_request_is_answered_or_may_be_taken_for_answered(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    first, _second = bench.ask("1.2.1", ["1.2.3"]), bench.ask("1.2.2", ["1.2.3"])
    assert bench.step() == 0
    bench.reporter.answered(first)
    assert bench.step() == 1
    assert bench.reports == [("1.2.1", {})]
    assert bench.step(2) == 1
    assert bench.reports == [("1.2.1", {}), ("1.2.2", {})]
    assert bench.transaction(first).state is State.REPORTED
    assert bench.step(3600) == 0


def test_what_is_not_there_is_waited_for_and_then_reported_as_failed(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    bench.reporter.answered(bench.ask("1.2.1", ["1.2.3", "1.2.4"]))
    assert bench.step() == 1
    assert bench.step(29) == 1
    assert bench.reports == []
    assert bench.step(1) == 1
    assert bench.reports == [("1.2.1", {"1.2.4": FailureReason.NO_SUCH_OBJECT_INSTANCE})]


def test_what_comes_during_the_grace_period_is_committed(bench: Bench) -> None:
    bench.reporter.answered(bench.ask("1.2.1", ["1.2.3"]))
    bench.step()
    bench.shelf.there = {"1.2.3"}
    bench.step(1)
    assert bench.reports == [("1.2.1", {})]


def test_what_is_on_its_way_is_waited_for_however_long_it_takes(bench: Bench) -> None:
    bench.shelf.coming = {"1.2.3"}
    number = bench.ask("1.2.1", ["1.2.3"])
    bench.step(2)
    for _ in range(5):
        bench.step(3600)
    assert bench.reports == []
    assert bench.transaction(number).note == "1 instances are on their way to the archive"
    bench.shelf.coming, bench.shelf.there = set(), {"1.2.3"}
    bench.step(2)
    assert bench.reports == [("1.2.1", {})]


def test_instance_of_an_unknown_class_that_is_not_there_is_of_a_class_that_is_not_supported(bench: Bench) -> None:
    bench.ask("1.2.1", ["1.2.3"], sop_class="1.2.840.10008.5.1.4.999")
    bench.step(30)
    assert bench.reports == [("1.2.1", {"1.2.3": FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED})]


def test_archive_that_does_not_answer_is_waited_for_and_costs_no_attempt(bench: Bench) -> None:
    number = bench.ask("1.2.1", ["1.2.3"])
    bench.shelf.trouble = ArchiveUnavailable("connection refused")
    for _ in range(100):
        bench.step(60)
    assert bench.transaction(number).attempts == 0
    assert bench.transaction(number).note == "the archive does not answer: connection refused"
    bench.shelf.trouble, bench.shelf.there = None, {"1.2.3"}
    bench.step(5)
    assert bench.reports == [("1.2.1", {})]


def test_request_that_is_too_broad_for_the_archive_is_a_limit_of_resources(bench: Bench) -> None:
    bench.ask("1.2.1", ["1.2.3"])
    bench.shelf.trouble = TooBroad("too much")
    bench.step(2)
    assert bench.reports == [("1.2.1", {"1.2.3": FailureReason.RESOURCE_LIMITATION})]


def test_duplicate_gets_its_own_reason_and_the_first_result_stands(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3", "1.2.4"}
    first, second = bench.ask("1.2.1", ["1.2.3"]), bench.ask("1.2.1", ["1.2.3", "1.2.4"])
    bench.step(2)
    duplicate = FailureReason.DUPLICATE_TRANSACTION_UID
    assert bench.reports == [("1.2.1", {}), ("1.2.1", {"1.2.3": duplicate, "1.2.4": duplicate})]
    assert bench.transaction(first).failures == {}
    assert bench.transaction(second).is_duplicate


def test_peer_that_is_down_for_an_hour_gets_its_report(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    number = bench.ask("1.2.1", ["1.2.3"])
    bench.refused = lambda transaction: "connection refused"
    start = bench.now
    attempts = []
    bench.step(2)
    while bench.now - start < 3600 * SECOND:
        if bench.step(10):
            attempts.append((bench.now - start) // SECOND)
    assert attempts == [32, 92, 212, 452, 932, 1892]
    bench.refused = lambda transaction: ""
    bench.step(1800)
    assert bench.reports == [("1.2.1", {})]
    assert bench.transaction(number).attempts == 8


def test_what_was_given_up_is_kept_and_sent_again_when_somebody_says_so(books: Database) -> None:
    policy = Policy(grace_period_s=0, maximum_retries=2, retry_delay_s=1, maximum_retry_delay_s=1, retention_s=86400)
    bench = Bench(books, policy)
    bench.shelf.there = {"1.2.3"}
    number = bench.ask("1.2.1", ["1.2.3"])
    bench.refused = lambda transaction: "status 0x0110"
    for _ in range(10):
        bench.step(2)
    transaction = bench.transaction(number)
    assert (transaction.state, transaction.attempts, transaction.note) == (State.GIVEN_UP, 3, "status 0x0110")
    bench.refused = lambda transaction: ""
    with books.write() as connection:
        store.resend(connection, number, "this", bench.now)
    bench.step()
    assert bench.reports == [("1.2.1", {})]


def test_old_result_is_not_reported_and_a_new_one_is_not_looked_for(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    bench.ask("1.2.1", ["1.2.3"])
    bench.refused = lambda transaction: "connection refused"
    bench.step(2)
    bench.step(30)
    assert bench.shelf.looks == 1
    bench.step(60)
    bench.shelf.there = set()
    bench.refused = lambda transaction: ""
    bench.step(600)
    assert bench.shelf.looks == 2
    assert bench.reports == [("1.2.1", {"1.2.3": FailureReason.NO_SUCH_OBJECT_INSTANCE})]


def test_requester_that_does_not_answer_holds_up_nobody_else(bench: Bench) -> None:
    """Its reports block for as long as the test wants; those of others go out all the same."""
    bench.shelf.there = {"1.2.3"}
    bench.ask("1.1.0", ["1.2.3"], "DEAD")
    bench.refused = lambda transaction: "timed out" if transaction.requester.ae_title == "DEAD" else ""
    bench.step(2)
    for number in range(1, 3 * CONCURRENT):
        bench.ask(f"1.1.{number}", ["1.2.3"], "DEAD")
    bench.ask("1.2.1", ["1.2.3"], "ALIVE")
    hanging = threading.Event()

    def hang(transaction: Transaction) -> str:
        if transaction.requester.ae_title == "DEAD":
            assert hanging.wait(DEADLINE_S)
            return "timed out"
        return ""

    bench.refused = hang
    bench.now += 60 * SECOND
    begun = bench.reporter.step()
    assert len(begun) == 2  # one of the dead, and the one that is alive
    wait_until(lambda: bench.reports, DEADLINE_S, "the others wait")
    assert bench.reporter.step() == []
    hanging.set()
    for thread in begun:
        thread.join(DEADLINE_S)


def test_requester_that_answers_again_gets_all_that_waits_for_it(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    bench.refused = lambda transaction: "connection refused"
    for number in range(3):
        bench.ask(f"1.1.{number}", ["1.2.3"])
    bench.step(2)
    bench.step(30)
    bench.step(60)
    bench.refused = lambda transaction: ""
    bench.ask("1.1.9", ["1.2.3"])
    bench.step(2)
    assert sorted(uid for uid, _failures in bench.reports) == ["1.1.0", "1.1.1", "1.1.2", "1.1.9"]


def test_request_that_comes_again_while_it_is_looked_at_is_reported_once(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    number = bench.ask("1.2.1", ["1.2.3"])
    shelf = bench.shelf

    class Meanwhile:
        def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
            bench.now += SECOND
            bench.ask("1.2.1", ["1.2.3"])
            bench.reporter._keeper = lambda called: shelf
            return shelf.examine(references, is_final=is_final)

    bench.reporter._keeper = lambda called: Meanwhile()
    bench.step(2)
    assert bench.reports == []
    bench.step(2)
    assert bench.reports == [("1.2.1", {})]
    assert bench.transaction(number).state is State.REPORTED


def test_what_an_earlier_run_left_is_due_at_the_start(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    bench.ask("1.2.1", ["1.2.3"])
    bench.refused = lambda transaction: "connection refused"
    bench.step(2)
    again = Bench(bench.books)
    again.now, again.shelf = bench.now, bench.shelf
    with again.books.write() as connection:
        store.take_over(connection, "this", again.now)
    assert again.step() == 1
    assert again.reports == [("1.2.1", {})]


def test_other_gateways_on_the_same_database_do_not_report_ours(bench: Bench) -> None:
    number = bench.ask("1.2.1", ["1.2.3"])
    with bench.books.write() as connection:
        store.resend(connection, number, "another", bench.now)
    assert bench.step(3600) == 0


def test_what_is_over_is_forgotten_after_the_retention(bench: Bench) -> None:
    bench.shelf.there = {"1.2.3"}
    number = bench.ask("1.2.1", ["1.2.3"])
    bench.step(2)
    bench.step(86400 - 3600)
    assert bench.transaction(number).state is State.REPORTED
    bench.step(2 * 3600)
    with bench.books.read() as connection:
        assert store.load(connection, number) is None


def test_database_that_fails_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tables are away and come back."""
    monkeypatch.setattr(module, "DATABASE_RETRY_S", 0.0)
    bench.shelf.there = {"1.2.3"}
    number = bench.ask("1.2.1", ["1.2.3"])

    has_begun = threading.Event()

    class Breaking:
        def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
            assert has_begun.wait(DEADLINE_S)
            with bench.books.write() as connection:
                connection.exec_driver_sql("ALTER TABLE commitment_transactions RENAME TO away")
            return Findings()

    bench.reporter._keeper = lambda called: Breaking()
    bench.now += 2 * SECOND
    begun = bench.reporter.step()
    has_begun.set()
    for thread in begun:
        thread.join(DEADLINE_S)
    assert bench.reports == []
    with bench.books.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO commitment_transactions")
    bench.reporter._keeper = lambda called: bench.shelf
    bench.step()
    assert bench.reports == [("1.2.1", {})]
    assert bench.transaction(number).state is State.REPORTED


def test_a_clock_that_is_set_back_by_a_day_delays_nothing_by_a_day(bench: Bench) -> None:
    bench.now = 100_000 * SECOND
    bench.ask("1.2.1", ["1.2.3"])
    assert bench.step(2) == 1  # not there yet: it is looked for again
    bench.shelf.there = {"1.2.3"}
    bench.now -= 86_400 * SECOND
    bench.step()
    assert bench.step(2) == 1
    assert bench.reports == [("1.2.1", {})]
