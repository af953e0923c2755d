"""Verifies transactions and sees to it that their requesters learn the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.archive.interface import ArchiveUnavailable, TooBroad
from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from storage_commitment import reports, store
from storage_commitment.data_sets import FailureReason
from storage_commitment.store import Chosen, Transaction
from storage_commitment.verification import Findings, Keeper

SECOND_NS: Final = 1_000_000_000
# Transactions that are worked on at the same time.
CONCURRENT: Final = 8
# What is missing is looked for so often.
LOOK_INTERVAL_S: Final = 1.0
# While the archive does not answer, and while the database does not.
ARCHIVE_RETRY_S: Final = 2.0
DATABASE_RETRY_S: Final = 5.0
# An older result is not reported: instances may have gone since.
RESULT_VALID_S: Final = 600.0
PURGE_INTERVAL_S: Final = 3600.0

Clock = Callable[[], int]
"""The time, in nanoseconds since 1970."""


class NotReported(Exception):
    """The requester did not take the report. The text is for a person."""


Send = Callable[[Transaction, Mapping[str, FailureReason]], str]
"""Sends a report with these failures, which are in the store; returns how it went, for a person. Raises NotReported."""


# More than what synchronised clocks are corrected by.
CLOCK_STEP_NS: Final = 10 * SECOND_NS


@dataclass(frozen=True)
class Policy:
    """How long is waited for what, in seconds."""

    grace_period_s: float
    maximum_retries: int
    retry_delay_s: float
    maximum_retry_delay_s: float
    retention_s: float

    def retry_delay_ns(self, attempts: int) -> int | None:
        """How long to wait after so many failed attempts; None when they were enough."""
        if attempts > self.maximum_retries:
            return None
        doublings = min(attempts - 1, 30)
        return int(min(self.retry_delay_s * 2**doublings, self.maximum_retry_delay_s) * SECOND_NS)


class Reporter:
    """The transactions of one gateway. `poke` and `answered` may be called by any thread.

    A requester that did not take its last report gets one attempt at a time, so that one that does not answer does
    not hold up others; when it answers again, all that waits for it is due.
    """

    def __init__(
        self,
        books: Database,
        gateway: str,
        keeper: Callable[[Transaction], Keeper],
        send: Send,
        supports: Callable[[str], bool],
        policy: Policy,
        clock: Clock = time.time_ns,
    ) -> None:
        """`keeper`: who says whether the instances of a transaction are safe. `supports`: if we take a SOP class."""
        self._books = books
        self._gateway = gateway
        self._keeper = keeper
        self._send = send
        self._supports = supports
        self._policy = policy
        self._clock = clock
        self._changed = threading.Condition()
        self._poked = False
        # Numbers of transactions whose requests are answered, and which therefore need not wait to be due.
        self._answered: list[int] = []
        # By number: the requesters of transactions that are being worked on.
        self._working: dict[int, str] = {}
        # Requesters that did not take their last report.
        self._failing: set[str] = set()
        self._purge_at = self._seen_at = 0
        self._log = get_logger()

    def poke(self) -> None:
        """Something is due, or may be."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def answered(self, number: int) -> None:
        """The request of this transaction has its response: the report may follow."""
        with self._changed:
            self._answered.append(number)
        self.poke()

    def run(self) -> None:
        """Never returns."""
        complained = False
        while True:
            try:
                self.step()
                wait_s = self._wait_s()
                complained = False
            except DatabaseError as error:
                if not complained:
                    self._log.error("the database fails; commitments wait", reason=str(error))
                complained, wait_s = True, DATABASE_RETRY_S
            with self._changed:
                if not self._poked:
                    self._changed.wait(wait_s)
                self._poked = False

    def step(self) -> list[threading.Thread]:
        """Begin what is due; return the threads that work on it. Raises DatabaseError."""
        now = self._clock()
        if now < self._seen_at - CLOCK_STEP_NS:
            self._follow_clock(now)
        self._seen_at = now
        if now >= self._purge_at:
            self._purge(now)
        begun = []
        while (chosen := self._choose(now)) is not None:
            thread = threading.Thread(target=self._work, args=(chosen,), name=f"commitment-{chosen.id}", daemon=True)
            with self._changed:
                self._working[chosen.id] = chosen.requester
            thread.start()
            begun.append(thread)
        return begun

    def _follow_clock(self, now: int) -> None:
        """The system's clock was set back: what was due in moments must not wait until it is as late as it was."""
        self._log.warning("the clock was set back; all commitments are due")
        with self._books.write(lock=store.LOCK) as connection:
            store.take_over(connection, self._gateway, now + store.RESPONSE_TIME_NS)
        self._purge_at = 0

    def _purge(self, now: int) -> None:
        self._purge_at = now + int(PURGE_INTERVAL_S * SECOND_NS)
        before = now - int(self._policy.retention_s * SECOND_NS)
        with self._books.write(lock=store.LOCK) as connection:
            store.purge(connection, before)
            reports.purge(connection, before)

    def _choose(self, now: int) -> Chosen | None:
        with self._changed:
            if len(self._working) >= CONCURRENT:
                return None
            busy, waiting = set(self._working), self._waiting()
            answered, self._answered = self._answered, []
        chosen = None
        with self._books.read() as connection:
            while answered and chosen is None:
                first = store.pending_one(connection, self._gateway, answered.pop(0))
                if first is not None and first.id not in busy and first.requester not in waiting:
                    chosen = first
            if chosen is None:
                chosen = store.next_one(connection, self._gateway, busy, waiting)
                chosen = chosen if chosen is not None and chosen.due_at <= now else None
        with self._changed:
            self._answered[:0] = answered
        return chosen

    def _waiting(self) -> set[str]:
        """Requesters whose turn is taken: call it with the lock."""
        return self._failing.intersection(self._working.values())

    def _wait_s(self) -> float:
        with self._changed:
            if len(self._working) >= CONCURRENT:
                return PURGE_INTERVAL_S
            busy, waiting = set(self._working), self._waiting()
        with self._books.read() as connection:
            chosen = store.next_one(connection, self._gateway, busy, waiting)
        if chosen is None:
            return PURGE_INTERVAL_S
        return min(max(0.0, (chosen.due_at - self._clock()) / SECOND_NS), PURGE_INTERVAL_S)

    def _work(self, chosen: Chosen) -> None:
        try:
            with self._books.read() as connection:
                transaction = store.load(connection, chosen.id)
            if transaction is not None:
                self._advance(transaction)
        except DatabaseError as error:
            self._log.error("the database fails; a commitment waits", transaction=chosen.id, reason=str(error))
            time.sleep(DATABASE_RETRY_S)
        except Exception:  # noqa: BLE001 - the outermost boundary of a thread: the transaction stays, and is tried again
            self._log.exception("a commitment failed by an error of the gateway", transaction=chosen.id)
            time.sleep(DATABASE_RETRY_S)
        finally:
            with self._changed:
                self._working.pop(chosen.id, None)
            self.poke()

    def _advance(self, transaction: Transaction) -> None:
        failures = self._failures(transaction)
        if failures is None or not self._is_current(transaction):
            return
        log = self._log.bind(
            transaction=transaction.request.transaction_uid,
            requester=transaction.requester.ae_title,
            instances=len(transaction.request.references),
            failed=len(failures),
            attempt=transaction.attempts + 1,
        )
        try:
            how = self._send(transaction, failures)
        except NotReported as error:
            self._retry(transaction, str(error), log)
            return
        log.info("storage commitment reported", how=how)
        self._reported(transaction, how)

    def _is_current(self, transaction: Transaction) -> bool:
        with self._books.read() as connection:
            return store.is_current(connection, transaction)

    def _failures(self, transaction: Transaction) -> Mapping[str, FailureReason] | None:
        """What is to be reported as failed; None when that cannot be said yet, and the transaction is due again."""
        now = self._clock()
        if transaction.verified_at is not None and abs(now - transaction.verified_at) < RESULT_VALID_S * SECOND_NS:
            return transaction.failures
        failures = self._examine(transaction, now)
        if failures is not None:
            with self._books.write(lock=store.LOCK) as connection:
                store.verified(connection, transaction, failures, self._clock())
        return failures

    def _examine(self, transaction: Transaction, now: int) -> Mapping[str, FailureReason] | None:
        references = transaction.request.references
        uids = [one.sop_instance_uid for one in references]
        if transaction.is_duplicate:
            return dict.fromkeys(uids, FailureReason.DUPLICATE_TRANSACTION_UID)
        waited = now - transaction.received_at
        # since before it was received: the clock was set back, and nobody knows how long
        is_final = waited < -CLOCK_STEP_NS or waited >= self._policy.grace_period_s * SECOND_NS
        try:
            findings = self._keeper(transaction).examine(references, is_final=is_final)
        except ArchiveUnavailable as error:
            self._postpone(transaction, ARCHIVE_RETRY_S, f"the archive does not answer: {error}")
            return None
        except TooBroad:
            return dict.fromkeys(uids, FailureReason.RESOURCE_LIMITATION)
        if findings.pending or (findings.absent and not is_final):
            self._postpone(transaction, LOOK_INTERVAL_S, _awaited(findings))
            return None
        return {
            **findings.failures,
            **{
                one.sop_instance_uid: self._why_absent(one.sop_class_uid)
                for one in references
                if one.sop_instance_uid in findings.absent
            },
        }

    def _why_absent(self, sop_class_uid: str) -> FailureReason:
        if self._supports(sop_class_uid):
            return FailureReason.NO_SUCH_OBJECT_INSTANCE
        return FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED

    def _postpone(self, transaction: Transaction, delay_s: float, reason: str) -> None:
        with self._books.write(lock=store.LOCK) as connection:
            store.postpone(connection, transaction, self._clock() + int(delay_s * SECOND_NS), reason)

    def _reported(self, transaction: Transaction, how: str) -> None:
        requester = transaction.requester.ae_title
        with self._changed:
            answers_again = requester in self._failing
            self._failing.discard(requester)
        now = self._clock()
        with self._books.write(lock=store.LOCK) as connection:
            store.reported(connection, transaction, how, now)
            if answers_again:
                store.hurry(connection, self._gateway, requester, now)

    def _retry(self, transaction: Transaction, reason: str, log: Any) -> None:
        with self._changed:
            self._failing.add(transaction.requester.ae_title)
        delay_ns = self._policy.retry_delay_ns(transaction.attempts + 1)
        now = self._clock()
        due_at = None if delay_ns is None else now + delay_ns
        if delay_ns is None:
            log.error("storage commitment given up: dicom-gateway commitment resend tries again", reason=reason)
        else:
            log.warning("storage commitment not reported", reason=reason, retry_in=round(delay_ns / SECOND_NS))
        with self._books.write(lock=store.LOCK) as connection:
            store.not_reported(connection, transaction, reason, now, due_at)


def _awaited(findings: Findings) -> str:
    parts = []
    if findings.pending:
        parts.append(f"{len(findings.pending)} instances are on their way to the archive")
    if findings.absent:
        parts.append(f"{len(findings.absent)} instances are not there")
    return ", ".join(parts)
