"""The queue of messages in SQL. Everything works on a connection of the caller's.

Whoever changes an item's status puts in what is to be told, in the same transaction (`changed`): so no change is lost
and none is invented. Messages about one order go out one after the other; those about others do not wait for them.
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, exists, func, insert, or_, select, update

from worklist.encoding import from_json, to_json
from worklist.feedback.receivers import interested
from worklist.feedback.tables import MAXIMUM_TEXT_CHARACTERS, OUTBOX
from worklist.items import Item, Keys, Status
from worklist.tables import HISTORY

PRUNE_ROWS: Final = 200
# MSH-10 has 20 characters before HL7 2.7.
MAXIMUM_CONTROL_ID_CHARACTERS: Final = 20
# As worklist.store writes it into the history.
_STARTED: Final = f" to {Status.STARTED.value}"
_CONTROL_CHARACTERS: Final = re.compile("[\0-\x1f\x7f-\x9f]")


class State(StrEnum):
    """Where a message stands."""

    WAITING = "waiting"
    # AA, CA.
    ACCEPTED = "accepted"
    # AE, CE, and AR, CR as often as they were allowed.
    REFUSED = "refused"
    # By a person.
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message, as a person looks at it. Instants are nanoseconds since 1970, 0 is never."""

    id: int
    receiver: str
    item: int
    previous: str
    status: str
    at: int
    who: str
    control_id: str
    state: str
    attempts: int
    due_at: int
    sent_at: int
    settled_at: int
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Due:
    """A message to be sent."""

    id: int
    item: Item
    previous: str
    at: int
    started_at: int
    control_id: str
    attempts: int
    body: bytes | None


def changed(connection: Connection, item: Item, previous: Status, who: str, at: int) -> None:
    """Put in what is to be told of a status that `item` has now. Its history has it already."""
    keys = item.keys
    if not (keys.placer.number or keys.filler.number or keys.accession_number):
        return  # nothing by which a RIS could know what is meant
    for receiver in interested(connection, item, item.status, who, at):
        values = {
            "receiver": receiver,
            "item": item.id,
            "order_key": _order_key(keys),
            "previous": previous.value,
            "status": item.status.value,
            "at": at,
            "who": who,
            "started_at": _started_at(connection, item.id),
            "control_id": _new_control_id(),
            "state": State.WAITING.value,
            "attempts": 0,
            "due_at": 0,
            "sent_at": 0,
            "settled_at": 0,
            "outcome": "",
            "text": "",
            "attributes": to_json(item.attributes),
        }
        connection.execute(insert(OUTBOX).values(values))


def _order_key(keys: Keys) -> str:
    number = keys.filler if keys.filler.number else keys.placer
    text = "\n".join(number) if number.number else keys.accession_number
    return hashlib.blake2s(text.encode("utf-8", "replace")).hexdigest()


def _new_control_id() -> str:
    return uuid.uuid4().hex[:MAXIMUM_CONTROL_ID_CHARACTERS]


def _started_at(connection: Connection, item: int) -> int:
    """When an item became STARTED the last time; 0 if it never did."""
    h = HISTORY.c
    rows = connection.execute(
        select(h.at, h.what).where(h.item == item, h.what.contains(_STARTED)).order_by(h.id.desc())
    )
    return next((int(at) for at, what in rows if what.split(":")[0].endswith(_STARTED)), 0)


def next_due(connection: Connection, receiver: str, now: int, latest_due: int) -> Due | None:
    """The first message that may be sent now: it is due, and none about the same item or order waits before it.

    What is due later than `latest_due` became so by a clock that was set back: it is due.
    """
    o, e = OUTBOX.c, OUTBOX.alias("earlier").c
    before = exists().where(
        e.receiver == receiver,
        e.state == State.WAITING.value,
        e.id < o.id,
        or_(e.order_key == o.order_key, e.item == o.item),
    )
    columns = (o.id, o.item, o.attributes, o.status, o.previous, o.at, o.started_at, o.control_id, o.attempts, o.body)
    query = select(*columns).where(
        o.receiver == receiver, o.state == State.WAITING.value, or_(o.due_at <= now, o.due_at > latest_due), ~before
    )
    row = connection.execute(query.order_by(o.id).limit(1)).first()
    if row is None:
        return None
    item = Item(row.item, from_json(row.attributes), Status(row.status), "", row.at, row.at)
    body = bytes(row.body) if row.body is not None else None
    return Due(row.id, item, row.previous, row.at, row.started_at, row.control_id, row.attempts, body)


def begin(connection: Connection, due: Due, body: bytes, now: int) -> bool:
    """Write down that a message is about to be sent, and what; return whether it is still to be."""
    waiting = and_(OUTBOX.c.id == due.id, OUTBOX.c.state == State.WAITING.value, OUTBOX.c.control_id == due.control_id)
    values = {"body": body, "attempts": OUTBOX.c.attempts + 1, "sent_at": now}
    return connection.execute(update(OUTBOX).where(waiting).values(values)).rowcount == 1


def settle(connection: Connection, due: Due, state: State, now: int, outcome: str, text: str, answer: bytes) -> None:
    """Write down what came of a message that needs nothing more."""
    values = {"state": state.value, "settled_at": now, "outcome": outcome, "text": _cut(text)}
    _write(connection, due, {**values, "acknowledgement": answer})


def postpone(
    connection: Connection, due: Due, due_at: int, text: str, outcome: str = "", answer: bytes | None = None
) -> None:
    """Write down that a message was not accepted, and when it is sent again."""
    values = {"due_at": due_at, "outcome": outcome, "text": _cut(text), "acknowledgement": answer}
    _write(connection, due, values)


def _write(connection: Connection, due: Due, values: dict[str, Any]) -> None:
    """Unless a person has decided otherwise meanwhile: then this is what came of another attempt."""
    o = OUTBOX.c
    same = and_(o.id == due.id, o.state == State.WAITING.value, o.control_id == due.control_id)
    connection.execute(update(OUTBOX).where(same).values(values))


def resend(connection: Connection, numbers: Sequence[int]) -> int:
    """Let messages be sent, whatever came of them, each made anew and under another MSH-10; return how many."""
    count = 0
    for number in numbers:
        values = {
            "state": State.WAITING.value,
            "control_id": _new_control_id(),
            "attempts": 0,
            "due_at": 0,
            "settled_at": 0,
            "outcome": "",
            "text": "",
            "body": None,
            "acknowledgement": None,
        }
        count += connection.execute(update(OUTBOX).where(OUTBOX.c.id == number).values(values)).rowcount
    return count


def discard(connection: Connection, numbers: Sequence[int], now: int) -> int:
    """Let messages that wait not be sent; return how many."""
    o = OUTBOX.c
    values = {"state": State.DISCARDED.value, "settled_at": now}
    waiting = and_(o.id.in_(list(numbers)), o.state == State.WAITING.value)
    return connection.execute(update(OUTBOX).where(waiting).values(values)).rowcount


def refused_and_current(connection: Connection, receiver: str) -> list[int]:
    """What a receiver refused and did not learn since: no later message about the same item was accepted."""
    o, later = OUTBOX.c, OUTBOX.alias("later").c
    accepted = exists().where(
        later.receiver == receiver, later.item == o.item, later.id > o.id, later.state == State.ACCEPTED.value
    )
    query = select(o.id).where(o.receiver == receiver, o.state == State.REFUSED.value, ~accepted)
    return list(connection.execute(query.order_by(o.id)).scalars())


def waiting(connection: Connection, receiver: str) -> list[int]:
    """What waits for a receiver."""
    query = select(OUTBOX.c.id).where(OUTBOX.c.receiver == receiver, OUTBOX.c.state == State.WAITING.value)
    return list(connection.execute(query.order_by(OUTBOX.c.id)).scalars())


def prune(connection: Connection, before: int) -> bool:
    """Delete the oldest of what was settled `before` (ns); return whether there may be more."""
    o = OUTBOX.c
    oldest = select(o.id).where(o.settled_at > 0, o.settled_at < before).order_by(o.settled_at).limit(PRUNE_ROWS)
    numbers = list(connection.execute(oldest).scalars())
    connection.execute(delete(OUTBOX).where(o.id.in_(numbers)))
    return len(numbers) == PRUNE_ROWS


_ENTRY_COLUMNS: Final = tuple(OUTBOX.c[name] for name in Entry.__slots__)


def latest(
    connection: Connection, limit: int, *, receiver: str = "", item: int | None = None, states: Sequence[State] = ()
) -> list[Entry]:
    """The messages that were put in last, the newest first."""
    o = OUTBOX.c
    query = select(*_ENTRY_COLUMNS).order_by(o.id.desc()).limit(limit)
    if receiver:
        query = query.where(o.receiver == receiver)
    if item is not None:
        query = query.where(o.item == item)
    if states:
        query = query.where(o.state.in_([state.value for state in states]))
    return [Entry(*row) for row in connection.execute(query)]


def of_item(connection: Connection, item: int) -> list[Entry]:
    """What was sent, or is to be sent, about an item, and how it was acknowledged; the oldest first."""
    query = select(*_ENTRY_COLUMNS).where(OUTBOX.c.item == item).order_by(OUTBOX.c.id)
    return [Entry(*row) for row in connection.execute(query)]


def get(connection: Connection, number: int) -> tuple[Entry, bytes | None, bytes | None] | None:
    """A message, what was sent and the last acknowledgement, as far as there are any."""
    query = select(*_ENTRY_COLUMNS, OUTBOX.c.body, OUTBOX.c.acknowledgement).where(OUTBOX.c.id == number)
    row = connection.execute(query).first()
    if row is None:
        return None
    body, answer = (bytes(one) if one is not None else None for one in row[-2:])
    return Entry(*row[:-2]), body, answer


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """How many messages there are, by receiver and state."""
    o = OUTBOX.c
    query = select(o.receiver, o.state, func.count()).group_by(o.receiver, o.state)
    return {(receiver, state): count for receiver, state, count in connection.execute(query)}


def _cut(text: str) -> str:
    return _CONTROL_CHARACTERS.sub(" ", text)[:MAXIMUM_TEXT_CHARACTERS]
