"""Sequences of stores, refusals, deletions, crashes and the passing of time, made by hypothesis, against a model.

The model knows what was accepted and what is held. The books know leases, and forget what a crash took from the memory
of those who receive; the spool brings it back.
"""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.database import connect_sqlite, migrate
from gateway.quotas.accounts import Account, Amount, Holder, counted_accounts
from gateway.quotas.entries import Entry
from gateway.quotas.overview import overview
from tests.gateway.quotas.conftest import Books, Clock, entry, rules

LIMIT = 4
WINDOW_S = 100
QUOTAS: list[dict[str, Any]] = [
    {"Name": "held", "MaximumInstances": LIMIT},
    {"Name": "bytes", "MaximumBytes": 700},
    {"Name": "window", "MaximumInstances": LIMIT, "Window": f"{WINDOW_S}s"},
    {"Name": "study", "MaximumInstancesPerStudy": 2},
]


class Worker:
    """A process that receives: its leases, and what it accepted and has not told."""

    def __init__(self, number: int) -> None:
        self.holder = Holder("ours", f"{number}-w")
        self.leases: dict[Account, Amount] = {}
        self.unsettled: list[Entry] = []


class Quotas(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.database = connect_sqlite(Path(self.folder.name) / "gateway.sqlite")
        migrate(self.database)
        self.clock = Clock()
        self.books = Books(self.database, self.clock, rules(*QUOTAS))
        self.numbers = iter(range(1, 10**6))
        self.workers = [Worker(next(self.numbers)) for _ in range(2)]
        # The model: by name, what was accepted; what of it is held; what was new when it came.
        self.accepted: dict[str, Entry] = {}
        self.held: set[str] = set()
        self.new: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    @rule(
        which=st.integers(0, 1),
        uid=st.integers(1, 5),
        version=st.integers(1, 2),
        study=st.integers(1, 3),
        fails=st.booleans(),
    )
    def store(self, which: int, uid: int, version: int, study: int, fails: bool) -> None:
        worker = self.workers[which]
        name = f"{next(self.numbers)}-{worker.holder.folder}"
        new = entry(
            name,
            self.clock,
            sop_instance_uid=f"1.{uid}",
            digest=f"{uid}{version}",
            study=f"2.{study}",
            bytes=100 + 50 * version,
        )
        wanted = self._wanted(new)
        for account, amount in wanted:
            if not self._reserve(worker, account, amount):
                # As a policy does: perhaps it is held already.
                for other in self.workers:
                    self._tell(other)
                if self.books.ledger.claim(new):
                    self._accept(new, is_new=False)
                return
        if fails:
            return  # refused for another reason: the leases stay
        for account, amount in wanted:
            have = worker.leases[account]
            worker.leases[account] = Amount(have.instances - amount.instances, have.bytes - amount.bytes)
        worker.unsettled.append(new)
        self._accept(new)

    @rule(which=st.integers(0, 1))
    def tell(self, which: int) -> None:
        self._tell(self.workers[which])

    @rule(which=st.integers(0, 1))
    def give_back(self, which: int) -> None:
        worker = self.workers[which]
        self.books.ledger.give_back(worker.holder, worker.leases.items())
        worker.leases.clear()

    @rule(which=st.integers(0, 1))
    def kill_worker(self, which: int) -> None:
        self._bury(which)

    @rule()
    def kill_everything(self) -> None:
        self.books = Books(self.database, self.clock, rules(*QUOTAS))
        for which in range(2):
            self._bury(which)

    @rule()
    def keeper_dies_with_a_grant_on_its_way(self) -> None:
        worker = self.workers[0]
        self.books.ledger.grant(worker.holder, Account("held", ""), Amount(1))
        self._tell(worker)
        self.books.ledger.set_leases(worker.holder, worker.leases.items())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        for worker in self.workers:
            self._tell(worker)
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.books.holdings.release([name])
        self.held.discard(name)

    @rule(seconds=st.integers(1, 60))
    def time_passes(self, seconds: int) -> None:
        self.clock.forward(seconds)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        if not hasattr(self, "accepted"):
            return
        distinct = {(e.sop_instance_uid, e.digest): e for e in map(self.accepted.get, self.held) if e is not None}
        # What was sent twice and is not told yet is held twice in the leases; never less than it costs.
        assert len(distinct) <= LIMIT
        assert sum(e.bytes for e in distinct.values()) <= 700
        since = self.clock() - WINDOW_S * 10**9
        assert sum(self.accepted[name].accepted_at > since for name in self.new) <= LIMIT

    @invariant()
    def nothing_is_lost_when_all_is_told(self) -> None:
        if not hasattr(self, "accepted") or any(worker.unsettled for worker in self.workers):
            return
        lines = overview(self.database, list(self.books.ledger.rules.values()), self.clock())
        held = next(line.used for line in lines if line.rule.key == "held" and line.source is None)
        distinct = {(self.accepted[name].sop_instance_uid, self.accepted[name].digest) for name in self.held}
        assert held.instances == len(distinct)
        stored = self.books.ledger.measured(self.books.ledger.rules["held"])
        assert stored.instances == held.instances, "the sum and the rows differ"

    def _wanted(self, new: Entry) -> list[tuple[Account, Amount]]:
        wanted = []
        for each in self.books.ledger.rules.values():
            for account in counted_accounts(each, new.study):
                is_bytes = account.study == "" and each.maximum_bytes is not None
                wanted.append((account, Amount(bytes=new.bytes) if is_bytes else Amount(1)))
        return wanted

    def _reserve(self, worker: Worker, account: Account, amount: Amount) -> bool:
        have = worker.leases.get(account, Amount())
        if have.instances >= amount.instances and have.bytes >= amount.bytes:
            return True
        missing = Amount(max(0, amount.instances - have.instances), max(0, amount.bytes - have.bytes))
        grant = self.books.ledger.grant(worker.holder, account, missing)
        if grant.amount is None:
            return False
        worker.leases[account] = Amount(have.instances + grant.amount.instances, have.bytes + grant.amount.bytes)
        return True

    def _accept(self, new: Entry, *, is_new: bool | None = None) -> None:
        pair = (new.sop_instance_uid, new.digest)
        known = {(self.accepted[name].sop_instance_uid, self.accepted[name].digest) for name in self.held}
        if pair not in known if is_new is None else is_new:
            self.new.add(new.name)
        self.accepted[new.name] = new
        self.held.add(new.name)

    def _tell(self, worker: Worker) -> None:
        self.books.ledger.settle(worker.holder, worker.unsettled)
        worker.unsettled.clear()

    def _bury(self, which: int) -> None:
        """As the auditor: what the spool holds and the books do not is written down, then the leases end."""
        dead = self.workers[which]
        unknown = {e.name: e for e in dead.unsettled}
        for name in self.books.ledger.states(unknown):
            del unknown[name]
        self.books.ledger.settle(None, list(unknown.values()), leased=False)
        self.books.ledger.end_leases(dead.holder)
        self.workers[which] = Worker(next(self.numbers))


Quotas.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_books_against_a_model = Quotas.TestCase
