"""What a person sees of the quotas, and the one thing that a person may change."""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from gateway.database import Database
from gateway.quotas.accounts import TOTAL, Amount
from gateway.quotas.books import LOCK
from gateway.quotas.rules import Rule, Source
from gateway.quotas.tables import COUNTED, INSTANCES, LEASES, RULES, SOURCES, USE


class Line(NamedTuple):
    """The use of one rule, or of one source under it (`source` is not None), or of its fullest study."""

    rule: Rule
    source: Source | None
    study: str
    used: Amount
    leased: Amount


def overview(database: Database, rules: Sequence[Rule], now: int | None = None) -> list[Line]:
    """Each rule with its use, what is leased of it, its sources, and the study that has most. Changes nothing."""
    instant = time.time_ns() if now is None else now
    lines = []
    with database.read() as sql:
        since = {row.rule: row.counts_since for row in sql.execute(select(RULES))}
        sources = {row.source: Source(*row[1:]) for row in sql.execute(select(SOURCES))}
        for rule in rules:
            start = since.get(rule.key, 0)
            if rule.window_ns is not None:
                start = max(start, instant - rule.window_ns)
            by_source = _by_source(sql, rule, sources, start)
            used = _sum(by_source.values())
            if rule.measured:
                used = _stored(sql, rule)
            lines.append(Line(rule, None, TOTAL, used, _leased(sql, rule)))
            lines += [Line(rule, source, TOTAL, amount, Amount()) for source, amount in sorted(by_source.items())]
            if rule.maximum_instances_per_study is not None:
                lines += _fullest_study(sql, rule)
    return lines


def reset(database: Database, rule: Rule, now: int | None = None) -> None:
    """Forget what `rule` has counted: what was accepted until now counts for it no more."""
    with database.write(LOCK) as sql:
        instant = time.time_ns() if now is None else now
        sql.execute(delete(USE).where(USE.c.rule == rule.key))
        sql.execute(update(RULES).where(RULES.c.rule == rule.key).values(counts_since=instant))


def _by_source(sql: Connection, rule: Rule, sources: dict[int, Source], since: int) -> dict[Source, Amount]:
    if rule.measured:
        return {}
    numbers = [number for number, source in sources.items() if rule.matches(source)]
    counts = INSTANCES.c.was_new.is_(True) if rule.window_ns is not None else INSTANCES.c.held == COUNTED
    query = (
        select(INSTANCES.c.source, func.count(), func.sum(INSTANCES.c.bytes))
        .where(INSTANCES.c.source.in_(numbers), INSTANCES.c.accepted_at > since, counts)
        .group_by(INSTANCES.c.source)
    )
    return {sources[number]: Amount(count, int(size)) for number, count, size in sql.execute(query)}


def _stored(sql: Connection, rule: Rule) -> Amount:
    row = sql.execute(select(USE.c.instances, USE.c.bytes).where(USE.c.rule == rule.key, USE.c.study == TOTAL)).first()
    return Amount(*row) if row is not None else Amount()


def _leased(sql: Connection, rule: Rule) -> Amount:
    row = sql.execute(
        select(func.sum(LEASES.c.instances), func.sum(LEASES.c.bytes)).where(
            LEASES.c.rule == rule.key, LEASES.c.study == TOTAL
        )
    ).one()
    return Amount(int(row[0] or 0), int(row[1] or 0))


def _fullest_study(sql: Connection, rule: Rule) -> list[Line]:
    query = (
        select(USE)
        .where(USE.c.rule == rule.key, USE.c.study != TOTAL)
        .order_by(USE.c.instances.desc(), USE.c.study)
        .limit(1)
    )
    return [Line(rule, None, row.study, Amount(row.instances, row.bytes), Amount()) for row in sql.execute(query)]


def _sum(amounts: Iterable[Amount]) -> Amount:
    total = Amount()
    for amount in amounts:
        total = Amount(total.instances + amount.instances, total.bytes + amount.bytes)
    return total
