"""The message log: every message with its outcome, and which was seen before."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from worklist.hl7.acknowledgement import Outcome
from worklist.hl7.framing import Frame
from worklist.hl7.header import Header
from worklist.hl7.tables import MAXIMUM_TEXT_CHARACTERS, MESSAGES

# So many rows at most are deleted in one transaction: nobody waits for long.
PRUNE_ROWS: Final = 200

_CONTROL_CHARACTERS: Final = re.compile("[\0-\x1f\x7f-\x9f]")

# What every message needs is made once: SQLAlchemy takes longer to build a statement than to execute it.
_FIND_EARLIER: Final = select(MESSAGES.c.id, MESSAGES.c.outcome, MESSAGES.c.text, MESSAGES.c.acknowledgement).where(
    MESSAGES.c.replay_key == bindparam("replay_key")
)
_WRITE: Final = insert(MESSAGES).returning(MESSAGES.c.id)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it came."""

    frame: Frame
    peer: str
    received_at: int

    @property
    def body(self) -> bytes:
        """The message; of one that was too large its beginning only."""
        return self.frame.body


@dataclass(frozen=True, slots=True)
class Earlier:
    """The same message as it came before."""

    number: int
    outcome: str
    text: str
    acknowledgement: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of the log, as a person looks at it."""

    id: int
    received_at: int
    last_received_at: int
    times_received: int
    peer: str
    sending_application: str
    sending_facility: str
    type: str
    control_id: str
    outcome: str
    text: str
    error_code: int
    error_location: str


def replay_key(header: Header | None, delivery: Delivery) -> bytes | None:
    """By what a replay is known: MSH-3, MSH-4, MSH-10 and the rest of the message.

    None for a message without MSH-10, and for one of which the rest is not there.
    """
    if header is None or not header.control_id or delivery.frame.is_too_large:
        return None
    return hashlib.sha256(delivery.body).digest()


def find_earlier(connection: Connection, key: bytes) -> Earlier | None:
    """The same message, if it came before."""
    row = connection.execute(_FIND_EARLIER, {"replay_key": key}).first()
    return Earlier(row[0], row[1], row[2], bytes(row[3])) if row is not None else None


def came_again(connection: Connection, earlier: Earlier, delivery: Delivery) -> None:
    """Note that a message came once more and got the acknowledgement that it has."""
    connection.execute(update(MESSAGES).where(MESSAGES.c.id == earlier.number).values(_again(delivery)))


def write(
    connection: Connection,
    delivery: Delivery,
    header: Header | None,
    outcome: Outcome | None,
    acknowledgement: bytes,
    earlier: Earlier | None,
) -> int:
    """Write what came of a message, without `outcome` that nothing did; return its number in the log.

    One that came before and was not accepted then (`earlier`) keeps its row.
    """
    header = header or Header()
    refusal = outcome.refusal if outcome is not None else None
    values: dict[str, Any] = {
        "outcome": outcome.code if outcome is not None else "",
        "text": _cut(outcome.text) if outcome is not None else "",
        "error_code": refusal.code.value if refusal is not None else 0,
        "error_location": _cut(refusal.location) if refusal is not None else "",
        "acknowledgement": acknowledgement,
    }
    if earlier is not None:
        statement = update(MESSAGES).where(MESSAGES.c.id == earlier.number)
        connection.execute(statement.values(values | _again(delivery)))
        return earlier.number
    values |= {
        "received_at": delivery.received_at,
        "last_received_at": delivery.received_at,
        "times_received": 1,
        "peer": _cut(delivery.peer)[:64],
        "sending_application": _cut(header.sending_application),
        "sending_facility": _cut(header.sending_facility),
        "type": _cut(header.type_and_event),
        "control_id": _cut(header.control_id),
        "replay_key": replay_key(header, delivery),
        "body": delivery.body,
    }
    return int(connection.execute(_WRITE, values).scalar_one())


def _again(delivery: Delivery) -> dict[str, Any]:
    return {
        "last_received_at": delivery.received_at,
        "times_received": MESSAGES.c.times_received + 1,
        "peer": _cut(delivery.peer)[:64],
    }


def prune(connection: Connection, before: int) -> bool:
    """Delete the oldest messages of those that came last `before` (ns); return whether there may be more."""
    m = MESSAGES.c
    oldest = select(m.id).where(m.last_received_at < before).order_by(m.last_received_at).limit(PRUNE_ROWS)
    numbers = list(connection.execute(oldest).scalars())
    connection.execute(delete(MESSAGES).where(m.id.in_(numbers)))
    return len(numbers) == PRUNE_ROWS


_ENTRY_COLUMNS: Final = tuple(MESSAGES.c[name] for name in Entry.__slots__)


def latest(
    connection: Connection, limit: int, *, outcomes: Sequence[str] = (), sender: str = "", control_id: str = ""
) -> list[Entry]:
    """The messages that came last, the newest first: of these outcomes, of an MSH-3 or address, with this MSH-10."""
    m = MESSAGES.c
    query = select(*_ENTRY_COLUMNS).order_by(m.last_received_at.desc(), m.id.desc()).limit(limit)
    if outcomes:
        query = query.where(m.outcome.in_(outcomes))
    if sender:
        query = query.where((m.sending_application == sender) | (m.peer == sender))
    if control_id:
        query = query.where(m.control_id == control_id)
    return [Entry(*row) for row in connection.execute(query)]


def get(connection: Connection, number: int) -> tuple[Entry, bytes, bytes] | None:
    """A message, its body and the frames that answered it."""
    m = MESSAGES.c
    row = connection.execute(select(*_ENTRY_COLUMNS, m.body, m.acknowledgement).where(m.id == number)).first()
    return (Entry(*row[:-2]), bytes(row[-2]), bytes(row[-1])) if row is not None else None


def _cut(text: str) -> str:
    return _CONTROL_CHARACTERS.sub(" ", text)[:MAXIMUM_TEXT_CHARACTERS]
