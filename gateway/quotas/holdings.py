"""What is held, and what is not any more: deletions, the comparison with Orthanc, old rows. Each method is one
transaction."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, delete, or_, select, update

from gateway.database import Database
from gateway.quotas.accounts import counted_accounts
from gateway.quotas.books import LOCK, Counts, add_use
from gateway.quotas.entries import FOR_SERVER
from gateway.quotas.ledger import Ledger
from gateway.quotas.rules import Source
from gateway.quotas.tables import COUNTED, DUPLICATE, GONE, INSTANCES, RULES, SOURCES

InSpool = Callable[[str], bool]
"""Whether the file of this name waits for Orthanc or has failed: then it is held whatever Orthanc says."""


class Held(NamedTuple):
    """An instance that is held: its file's name, and what Orthanc calls it (or gateway.quotas.entries.place)."""

    name: str
    orthanc_id: str


class Holdings:
    """The instances of one gateway's books. Thread-safe."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger

    def known(self, orthanc_ids: Iterable[str]) -> list[Held]:
        """What is held of these instances of Orthanc."""
        with self._database.read() as sql:
            query = self._held().where(INSTANCES.c.orthanc_id.in_(list(orthanc_ids)))
            return [Held(row.name, row.orthanc_id) for row in sql.execute(query)]

    def gone(self, names: Iterable[str]) -> list[Held]:
        """Those of `names` that are written down as held no more."""
        with self._database.read() as sql:
            query = select(INSTANCES.c.name, INSTANCES.c.orthanc_id).where(
                INSTANCES.c.gateway == self._ledger.gateway, INSTANCES.c.held == GONE, INSTANCES.c.name.in_(list(names))
            )
            return [Held(*row) for row in sql.execute(query)]

    def see(self, orthanc_ids: Sequence[str], run: int) -> None:
        """The comparison number `run` found these in Orthanc."""
        with self._database.write(LOCK) as sql:
            ours = INSTANCES.c.gateway == self._ledger.gateway
            sql.execute(update(INSTANCES).where(ours, INSTANCES.c.orthanc_id.in_(list(orthanc_ids))).values(seen=run))

    def unseen(self, run: int, count: int, after: str = "") -> list[Held]:
        """Up to `count` of what was accepted for Orthanc before the comparison `run` (its start) and not found by it,
        by name."""
        of_orthanc = INSTANCES.c.orthanc_id.not_like(FOR_SERVER + "%")
        return self._page(count, after, of_orthanc, INSTANCES.c.seen < run, INSTANCES.c.accepted_at < run)

    def for_servers(self, count: int, after: str = "") -> list[Held]:
        """Up to `count` of what was accepted for DICOMweb servers, by name."""
        return self._page(count, after, INSTANCES.c.orthanc_id.like(FOR_SERVER + "%"))

    def release(self, names: Iterable[str]) -> int:
        """These are held no more: what they used is given back. Returns how many there were.

        If an identical one is still held, for example because it was sent again and waits for Orthanc, it counts
        in the place of the first.
        """
        with self._database.write(LOCK) as sql:
            rows = sql.execute(self._held().where(INSTANCES.c.name.in_(list(names)))).all()
            self._release(sql, rows)
            return len(rows)

    def release_overwritten(self, orthanc_id: str, in_spool: InSpool) -> int:
        """Orthanc has `orthanc_id`, and only what was delivered last under it; what that replaced is released."""
        with self._database.write(LOCK) as sql:
            query = self._held().where(INSTANCES.c.orthanc_id == orthanc_id).order_by(INSTANCES.c.accepted_at)
            rows = [row for row in sql.execute(query) if not in_spool(row.name)]
            replaced = [row for row in rows if row.digest != rows[-1].digest]
            self._release(sql, replaced)
            return len(replaced)

    def revive(self, names: Iterable[str]) -> int:
        """These are held after all: they count again, as far as no identical one does."""
        with self._database.write(LOCK) as sql:
            query = select(INSTANCES).where(
                INSTANCES.c.gateway == self._ledger.gateway, INSTANCES.c.held == GONE, INSTANCES.c.name.in_(list(names))
            )
            rows = sql.execute(query).all()
            for row in rows:
                twin = self._twin(sql, row, COUNTED)
                self._set_held(sql, row, DUPLICATE if twin is not None else COUNTED)
            return len(rows)

    def prune(self, now: int) -> int:
        """Forget what nothing counts any more: what is gone, and what only windows counted that have passed it."""
        windows = [rule.window_ns for rule in self._ledger.rules.values() if rule.window_ns is not None]
        before = now - max(windows, default=0)
        with self._database.write(LOCK) as sql:
            passing = [
                row.source
                for row in sql.execute(select(SOURCES))
                if not any(rule.window_ns is None and not rule.measured for rule in self._rules(Source(*row[1:])))
            ]
            useless = or_(INSTANCES.c.held == GONE, INSTANCES.c.source.in_(passing))
            ours = INSTANCES.c.gateway == self._ledger.gateway
            return sql.execute(delete(INSTANCES).where(ours, INSTANCES.c.accepted_at < before, useless)).rowcount

    def _page(self, count: int, after: str, *conditions: ColumnElement[bool]) -> list[Held]:
        with self._database.read() as sql:
            query = self._held().where(*conditions, INSTANCES.c.name > after).order_by(INSTANCES.c.name).limit(count)
            return [Held(row.name, row.orthanc_id) for row in sql.execute(query)]

    def _rules(self, source: Source) -> list[Any]:
        return self._ledger.rules_of(source)

    def _held(self) -> Any:
        return select(INSTANCES).where(INSTANCES.c.gateway == self._ledger.gateway, INSTANCES.c.held != GONE)

    def _release(self, sql: Connection, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            was = sql.scalars(select(INSTANCES.c.held).where(*_is(row))).one()
            self._set_held(sql, row, GONE, was)
            if was == COUNTED and (twin := self._twin(sql, row, DUPLICATE)) is not None:
                self._set_held(sql, twin, COUNTED)

    def _twin(self, sql: Connection, row: Row[Any], held: int) -> Row[Any] | None:
        query = select(INSTANCES).where(
            INSTANCES.c.sop_instance_uid == row.sop_instance_uid,
            INSTANCES.c.digest == row.digest,
            INSTANCES.c.orthanc_id == row.orthanc_id,
            INSTANCES.c.held == held,
        )
        return sql.execute(query).first()

    def _set_held(self, sql: Connection, row: Row[Any], held: int, was: int = GONE) -> None:
        sql.execute(update(INSTANCES).where(*_is(row)).values(held=held))
        if (was == COUNTED) == (held == COUNTED):
            return
        since = {rule.rule: rule.counts_since for rule in sql.execute(select(RULES))}
        source = sql.execute(select(SOURCES).where(SOURCES.c.source == row.source)).one()
        changed = Counts()
        for rule in self._rules(Source(*source[1:])):
            if rule.window_ns is None and not rule.measured and row.accepted_at > since.get(rule.key, 0):
                for account in counted_accounts(rule, row.study_instance_uid):
                    changed.add(account, row.bytes, 1 if held == COUNTED else -1)
        add_use(sql, changed.amounts)


def _is(row: Row[Any]) -> tuple[Any, Any]:
    return INSTANCES.c.gateway == row.gateway, INSTANCES.c.name == row.name
