"""The books of the quotas, in SQL: leases, instances, use. Each method is one transaction.

For each account (a rule, or a study under it): what is used + what is leased <= the limit, at any time. Who receives
accepts only what is covered by a lease that was committed before; what was accepted moves from lease to use. The proof
that no limit is ever exceeded stands in docs/architecture.md.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.database import Database
from gateway.quotas.accounts import TOTAL, Account, Amount, Holder, counted_accounts
from gateway.quotas.books import (
    LOCK,
    Counts,
    add_use,
    amount_of,
    by_account,
    change_lease,
    copy_of,
    held_copies,
    is_of,
    source_number,
)
from gateway.quotas.entries import Entry
from gateway.quotas.rules import Rule, Source
from gateway.quotas.tables import COUNTED, DUPLICATE, GONE, INSTANCES, LEASES, RULES, SOURCES, USE

# A lease is a part of what is left, so that the last ones are single instances, and never more than this.
LEASE_PART: Final = 16
MAXIMUM_LEASE_INSTANCES: Final = 256
MAXIMUM_LEASE_BYTES: Final = 256 * 1024 * 1024

# Sources that are remembered; who invents AE titles gets them looked up again.
MAXIMUM_SOURCES: Final = 10_000


class Grant(NamedTuple):
    """`amount` is None if the account has not enough left; then `lacks_instances` says of what, and `leased` how much
    of it all leases have together."""

    amount: Amount | None
    lacks_instances: bool = False
    leased: Amount = Amount()


class Ledger:
    """The books, as one gateway opens them. Thread-safe."""

    def __init__(
        self, database: Database, rules: Sequence[Rule], gateway: str, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.gateway = gateway
        self.rules = {rule.key: rule for rule in rules}
        self._database = database
        self._clock = clock
        self._rules_of: dict[Source, list[Rule]] = {}
        self._source_numbers: dict[Source, int] = {}

    def rules_of(self, source: Source) -> list[Rule]:
        """The rules that count instances of `source`."""
        rules = self._rules_of.get(source)
        if rules is None:
            if len(self._rules_of) >= MAXIMUM_SOURCES:
                self._rules_of.clear()
            rules = self._rules_of[source] = [rule for rule in self.rules.values() if rule.matches(source)]
        return rules

    def open(self) -> None:
        """Take over the configured rules: what is new or counted in another way is counted from the instances."""
        with self._database.write(LOCK) as sql:
            known = {row.rule: row for row in sql.execute(select(RULES))}
            ours = [rule for rule in known if "@" not in rule or rule.endswith("@" + self.gateway)]
            for key in [key for key in ours if key not in self.rules]:
                for table in (RULES, USE, LEASES):
                    sql.execute(delete(table).where(table.c.rule == key))
            for rule in self.rules.values():
                row = known.get(rule.key)
                if row is None or row.definition != rule.definition:
                    self._define(sql, rule)

    def _define(self, sql: Connection, rule: Rule) -> None:
        since = self._clock() - rule.window_ns if rule.window_ns is not None else 0
        sql.execute(delete(RULES).where(RULES.c.rule == rule.key))
        sql.execute(delete(USE).where(USE.c.rule == rule.key))
        sql.execute(insert(RULES).values(rule=rule.key, definition=rule.definition, counts_since=since))
        if not rule.measured:
            add_use(sql, by_account(rule, self._sum(sql, rule, since)))

    def grant(self, holder: Holder, account: Account, wanted: Amount) -> Grant:
        """Lease at least `wanted` of `account` to `holder`, and more where much is left."""
        rule = self.rules[account.rule]
        with self._database.write(LOCK) as sql:
            self._roll(sql, rule)
            used, leased = amount_of(sql, USE, account), amount_of(sql, LEASES, account)
            instance_limit, byte_limit = maxima(rule, account)
            taken = Amount(used.instances + leased.instances, used.bytes + leased.bytes)
            instances = _part(instance_limit, taken.instances, wanted.instances, MAXIMUM_LEASE_INSTANCES)
            size = _part(byte_limit, taken.bytes, wanted.bytes, MAXIMUM_LEASE_BYTES)
            if instances is None or size is None:
                return Grant(None, instances is None, leased)
            amount = Amount(instances, size)
            change_lease(sql, holder, account, amount, +1)
            return Grant(amount, False, leased)

    def give_back(self, holder: Holder, amounts: Iterable[tuple[Account, Amount]]) -> None:
        """`holder` does not need these parts of its leases any more."""
        with self._database.write(LOCK) as sql:
            for account, amount in amounts:
                change_lease(sql, holder, account, amount, -1)

    def set_leases(self, holder: Holder, amounts: Iterable[tuple[Account, Amount]]) -> None:
        """`holder` says what it has: grants that were lost on the way end here."""
        with self._database.write(LOCK) as sql:
            sql.execute(delete(LEASES).where(is_of(holder)))
            for account, amount in amounts:
                if account.rule in self.rules and any(amount):
                    change_lease(sql, holder, account, amount, +1)

    def end_leases(self, holder: Holder) -> None:
        """`holder` is dead, and all that it accepted is written down."""
        with self._database.write(LOCK) as sql:
            sql.execute(delete(LEASES).where(is_of(holder)))

    def holders(self) -> set[str]:
        """The folders of the holders of this gateway."""
        with self._database.read() as sql:
            query = select(LEASES.c.holder).where(LEASES.c.gateway == self.gateway).distinct()
            return set(sql.scalars(query))

    def settle(self, holder: Holder | None, entries: Sequence[Entry], *, leased: bool = True) -> None:
        """Write down accepted instances; `leased`: with what they used of the leases of `holder`.

        One that is written down already changes nothing. One whose SOP Instance UID, digest and place are those
        of an instance that is held uses nothing.
        """
        with self._database.write(LOCK) as sql:
            by_name = {entry.name: entry for entry in entries}
            for name in self._known_names(sql, by_name):
                del by_name[name]
            entries = list(by_name.values())
            if not entries:
                return
            held = held_copies(sql, {entry.sop_instance_uid for entry in entries})
            since = {row.rule: row.counts_since for row in sql.execute(select(RULES.c.rule, RULES.c.counts_since))}
            used, consumed = Counts(), Counts()
            numbers = self._numbers_of(sql, {entry.source for entry in entries})
            rows = []
            for entry in entries:
                copy = copy_of(entry)
                is_new = copy not in held
                held.add(copy)
                rules = self.rules_of(entry.source)
                if leased:
                    entry = _not_before_windows(entry, rules, since)
                for rule in rules:
                    for account in counted_accounts(rule, entry.study):
                        consumed.add(account, entry.bytes)
                        if rule.measured or (is_new and entry.accepted_at > since.get(rule.key, 0)):
                            used.add(account, entry.bytes)
                if any(not rule.measured for rule in rules):
                    rows.append(self._row(entry, numbers[entry.source], is_new))
            if rows:
                sql.execute(insert(INSTANCES), rows)
            add_use(sql, used.amounts)
            if leased and holder is not None:
                for account, amount in consumed.amounts.items():
                    change_lease(sql, holder, account, amount, -1)
        if len(self._source_numbers) >= MAXIMUM_SOURCES:
            self._source_numbers.clear()
        self._source_numbers |= numbers

    def claim(self, entry: Entry) -> bool:
        """Write `entry` down if it is identical to what is held: it needs no lease then. False if it is not."""
        with self._database.write(LOCK) as sql:
            if copy_of(entry) not in held_copies(sql, {entry.sop_instance_uid}):
                return False
            number = self._numbers_of(sql, {entry.source})[entry.source]
            sql.execute(insert(INSTANCES), [self._row(entry, number, False)])
            return True

    def is_held(self, sop_instance_uid: str) -> bool:
        """Whether an instance of this UID is held."""
        with self._database.read() as sql:
            return bool(held_copies(sql, {sop_instance_uid}))

    def measured(self, rule: Rule) -> Amount:
        """The use of a measured rule as it is written down."""
        with self._database.read() as sql:
            return amount_of(sql, USE, Account(rule.key, TOTAL))

    def set_measured(self, rule: Rule, amount: Amount, before: Amount) -> None:
        """`amount` was measured after `before` was written down: what came in between is added."""
        with self._database.write(LOCK) as sql:
            account = Account(rule.key, TOTAL)
            now = amount_of(sql, USE, account)
            difference = Amount(amount.instances - before.instances, amount.bytes - before.bytes)
            if any(difference) or not any(now):
                add_use(sql, {account: difference})

    def states(self, names: Iterable[str]) -> dict[str, bool]:
        """Those of `names` (of files in the spool) that are written down, and whether they are held."""
        with self._database.read() as sql:
            query = select(INSTANCES.c.name, INSTANCES.c.held).where(
                INSTANCES.c.gateway == self.gateway, INSTANCES.c.name.in_(list(names))
            )
            return {name: held != GONE for name, held in sql.execute(query)}

    def _known_names(self, sql: Connection, names: Iterable[str]) -> set[str]:
        query = select(INSTANCES.c.name).where(INSTANCES.c.gateway == self.gateway, INSTANCES.c.name.in_(list(names)))
        return set(sql.scalars(query))

    def _numbers_of(self, sql: Connection, sources: set[Source]) -> dict[Source, int]:
        """Those that are not known are entered; they are remembered only once that is committed."""
        return {source: self._source_numbers.get(source) or source_number(sql, source) for source in sources}

    def _row(self, entry: Entry, source: int, is_new: bool) -> dict[str, Any]:
        return {
            "gateway": self.gateway,
            "name": entry.name,
            "source": source,
            "sop_instance_uid": entry.sop_instance_uid,
            "study_instance_uid": entry.study,
            "digest": bytes.fromhex(entry.digest),
            "bytes": entry.bytes,
            "orthanc_id": entry.orthanc_id,
            "accepted_at": entry.accepted_at,
            "was_new": is_new,
            "held": COUNTED if is_new else DUPLICATE,
            "seen": 0,
        }

    def _roll(self, sql: Connection, rule: Rule) -> None:
        """Move the start of the window: what left it is not used any more."""
        if rule.window_ns is None:
            return
        since = sql.scalars(select(RULES.c.counts_since).where(RULES.c.rule == rule.key)).one()
        start = self._clock() - rule.window_ns
        if start <= since:
            return
        left = by_account(rule, self._sum(sql, rule, since, start))
        add_use(sql, {account: Amount(-a.instances, -a.bytes) for account, a in left.items()})
        sql.execute(update(RULES).where(RULES.c.rule == rule.key).values(counts_since=start))

    def _sum(self, sql: Connection, rule: Rule, since: int, until: int | None = None) -> dict[str, Amount]:
        """By study, what `rule` counts of what was accepted after `since` and up to `until`."""
        sources = [row.source for row in sql.execute(select(SOURCES)) if rule.matches(Source(*row[1:]))]
        counts = INSTANCES.c.was_new.is_(True) if rule.window_ns is not None else INSTANCES.c.held == COUNTED
        query = (
            select(INSTANCES.c.study_instance_uid, func.count(), func.sum(INSTANCES.c.bytes))
            .where(INSTANCES.c.source.in_(sources), INSTANCES.c.accepted_at > since, counts)
            .group_by(INSTANCES.c.study_instance_uid)
        )
        if until is not None:
            query = query.where(INSTANCES.c.accepted_at <= until)
        return {study: Amount(count, int(size)) for study, count, size in sql.execute(query)}


def _not_before_windows(entry: Entry, rules: Sequence[Rule], since: Mapping[str, int]) -> Entry:
    """What a lease was taken for counts, even if a clock was set back and the window has passed it already."""
    starts = [since.get(rule.key, 0) for rule in rules if rule.window_ns is not None]
    return entry._replace(accepted_at=max([entry.accepted_at, *(start + 1 for start in starts)]))


def maxima(rule: Rule, account: Account) -> tuple[int | None, int | None]:
    """The limits of an account: instances, bytes; None where there is none."""
    if account.study != TOTAL:
        return rule.maximum_instances_per_study, None
    return rule.maximum_instances, rule.maximum_bytes


def _part(maximum: int | None, taken: int, wanted: int, most: int) -> int | None:
    """How much to lease of what is left: at least `wanted`; None if there is not so much."""
    if maximum is None:
        return 0
    free = maximum - taken
    return max(wanted, min(most, free // LEASE_PART)) if free >= wanted else None
