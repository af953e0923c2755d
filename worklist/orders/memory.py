"""Which message said last what: so that one that was overtaken on its way does not undo what is newer."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Connection, Select, bindparam, delete, insert, select, update

from worklist.items import Item, Status
from worklist.orders.tables import EARLY, KNOWN

# A message that was overtaken comes within days, or never.
EARLY_KEPT_NS: Final = 30 * 24 * 3600 * 10**9

# Made once: SQLAlchemy takes longer to build a statement than to execute it.
_RECALL: Final = select(KNOWN.c.item, KNOWN.c.memory).where(KNOWN.c.item.in_(bindparam("items", expanding=True)))
_REMEMBER: Final = insert(KNOWN)
_REMEMBER_ANEW: Final = update(KNOWN).where(KNOWN.c.item == bindparam("number"))


class Moment(NamedTuple):
    """When a message said it, in microseconds since 1970; the last ones are the ends of what ORC-9 and MSH-7 name."""

    # MSH-3.1 and MSH-4.1
    application: str
    ordered: int | None = None
    sent: int | None = None
    ordered_last: int | None = None
    sent_last: int | None = None

    def is_older(self, other: "Moment | None") -> bool:
        """Whether this was certainly said before the other: by ORC-9 of both, else by MSH-7 of both.

        Clocks of different senders are not compared.
        """
        if other is None or self.application != other.application:
            return False
        if self.ordered_last is not None and other.ordered is not None:
            return self.ordered_last < other.ordered
        return self.sent_last is not None and other.sent is not None and self.sent_last < other.sent


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of an item's messages. Procedure, status and patient are said by different ones."""

    content: Moment | None = None
    status: Moment | None = None
    patient: Moment | None = None
    # Whether `content` is of a message that named all steps of the order.
    names_all_steps: bool = False
    # Tags of identifiers that no message has said.
    derived: frozenset[int] = field(default=frozenset())


class Known(NamedTuple):
    """An item and what is remembered of it."""

    item: Item
    memory: Memory


class EarlyStatus(NamedTuple):
    """A status that came before its order."""

    status: Status
    moment: Moment
    # "" is every step.
    step: str


def recall(connection: Connection, items: Iterable[Item]) -> list[Known]:
    """The items with what is remembered of them."""
    items = list(items)
    if not items:
        return []
    rows = connection.execute(_RECALL, {"items": [item.id for item in items]})
    memories = {number: _read(text) for number, text in rows}
    return [Known(item, memories.get(item.id, Memory())) for item in items]


def remember(connection: Connection, known: Known, memory: Memory, *, is_new: bool = False) -> Known:
    """Write down what a message said of an item."""
    if memory != known.memory or is_new:
        text = _write(memory)
        changed = 0
        if not is_new:
            changed = connection.execute(_REMEMBER_ANEW, {"number": known.item.id, "memory": text}).rowcount
        if not changed:
            connection.execute(_REMEMBER, {"item": known.item.id, "memory": text})
    return Known(known.item, memory)


def remember_early(
    connection: Connection, keys: Iterable[str], steps: Iterable[str], status: Status, moment: Moment, now: int
) -> None:
    """Keep a status for an order that is not there yet, and forget those whose order never came."""
    connection.execute(delete(EARLY).where(EARLY.c.received_at < now - EARLY_KEPT_NS))
    rows = [
        {"order_key": key, "step": step, "status": status.value, "moment": json.dumps(moment), "received_at": now}
        for key in keys
        for step in steps
    ]
    if rows:
        connection.execute(insert(EARLY), rows)


def recall_early(connection: Connection, keys: Iterable[str], step: str) -> EarlyStatus | None:
    """The newest status that waits for a step of an order."""
    given = {f"key_{number}": key for number, key in enumerate(keys)}
    newest: EarlyStatus | None = None
    for status, moment, of_step in connection.execute(_waiting(len(given)), {**given, "of_step": step}):
        early = EarlyStatus(Status(status), Moment(*json.loads(moment)), of_step)
        if newest is None or not early.moment.is_older(newest.moment):
            newest = early
    return newest


@cache
def _waiting(keys: int) -> Select[Any]:
    """What is kept under one of so many keys, the oldest first."""
    e = EARLY.c
    names: list[BindParameter[str]] = [bindparam(f"key_{number}") for number in range(keys)]
    query = select(e.status, e.moment, e.step)
    return query.where(e.order_key.in_(names), e.step.in_(("", bindparam("of_step")))).order_by(e.id)


def _write(memory: Memory) -> str:
    plain: dict[str, Any] = {
        name: moment
        for name, moment in (("content", memory.content), ("status", memory.status), ("patient", memory.patient))
        if moment is not None
    }
    if memory.names_all_steps:
        plain["names_all_steps"] = True
    if memory.derived:
        plain["derived"] = sorted(memory.derived)
    return json.dumps(plain, separators=(",", ":"))


def _read(text: str) -> Memory:
    plain = json.loads(text)
    content, status, patient = (
        Moment(*plain[name]) if name in plain else None for name in ("content", "status", "patient")
    )
    return Memory(content, status, patient, "names_all_steps" in plain, frozenset(plain.get("derived", ())))
