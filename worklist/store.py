"""The items in SQL. Everything works on a connection of the caller's, so that he makes his changes in one transaction.

Whoever writes opens it with `database.write(lock=store.LOCK)`: writers follow each other on PostgreSQL as on SQLite,
and what was found is still so when it is changed.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, bindparam, delete, insert, or_, select, update

from gateway.matching.attributes import Attributes, name_of
from worklist.encoding import from_json, to_json
from worklist.feedback import outbox
from worklist.items import (
    MAXIMUM_KEY_CHARACTERS,
    SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    Item,
    Keys,
    OrderNumber,
    Patient,
    Status,
    clean_key,
    keys_of,
    step_of,
    with_status,
)
from worklist.tables import HISTORY, ITEMS, NAMES, STATIONS

# PostgreSQL's advisory lock of all who write here.
LOCK: Final = 0x44_47_00_03

# Made once: SQLAlchemy takes several times as long to build a statement as to execute it.
_ADD: Final = insert(ITEMS).returning(ITEMS.c.id)
_CHANGE: Final = update(ITEMS).where(ITEMS.c.id == bindparam("number"))
_ADD_STATIONS: Final = insert(STATIONS)
_ADD_NAMES: Final = insert(NAMES)
_REMOVE_STATIONS: Final = delete(STATIONS).where(STATIONS.c.item == bindparam("number"))
_REMOVE_NAMES: Final = delete(NAMES).where(NAMES.c.item == bindparam("number"))
_TELL: Final = insert(HISTORY)


class Change(NamedTuple):
    """By whom and when items are changed: one for all that belongs together, an HL7 message say."""

    who: str
    at: int

    @classmethod
    def now(cls, who: str) -> "Change":
        """By `who`, now."""
        return cls(who[:MAXIMUM_KEY_CHARACTERS], time.time_ns())


class Event(NamedTuple):
    """One line of an item's history."""

    at: int
    who: str
    what: str


def add(
    connection: Connection,
    attributes: Attributes,
    change: Change,
    *,
    origin: str,
    status: Status = Status.SCHEDULED,
) -> Item:
    """Add an item; the caller has seen that it is none of those that are there."""
    attributes, keys = with_status(attributes, status), keys_of(attributes)
    origin = origin[:MAXIMUM_KEY_CHARACTERS]
    values = {
        "status": status.value,
        "origin": origin,
        "created_at": change.at,
        "changed_at": change.at,
        "attributes": to_json(attributes),
        **_columns(keys),
    }
    number = connection.execute(_ADD, values).scalar_one()
    _insert_values(connection, number, keys)
    _tell(connection, number, change, f"added as {status.value}")
    return Item(number, attributes, status, origin, change.at, change.at)


def replace(connection: Connection, item: Item, attributes: Attributes, change: Change) -> Item:
    """Give an item other attributes; its status remains. Nothing is written if they are the same."""
    attributes = with_status(attributes, item.status)
    if attributes == item.attributes:
        return item
    keys = keys_of(attributes)
    values = {"number": item.id, "attributes": to_json(attributes), "changed_at": change.at, **_columns(keys)}
    connection.execute(_CHANGE, values)
    for statement in (_REMOVE_STATIONS, _REMOVE_NAMES):
        connection.execute(statement, {"number": item.id})
    _insert_values(connection, item.id, keys)
    _tell(connection, item.id, change, f"changed {_differences(item.attributes, attributes)}")
    return Item(item.id, attributes, item.status, item.origin, item.created_at, change.at)


def set_status(connection: Connection, item: Item, status: Status, change: Change, reason: str = "") -> Item:
    """Give an item another status. Nothing is written if it has it.

    What is to be told of it to a RIS is written down with it.
    """
    if status is item.status:
        return item
    attributes = with_status(item.attributes, status)
    values = {"number": item.id, "status": status.value, "attributes": to_json(attributes), "changed_at": change.at}
    connection.execute(_CHANGE, values)
    what = f"{item.status.value} to {status.value}"
    _tell(connection, item.id, change, f"{what}: {reason}" if reason else what)
    changed = Item(item.id, attributes, status, item.origin, item.created_at, change.at)
    outbox.changed(connection, changed, item.status, change.who, change.at)
    return changed


def remove(connection: Connection, numbers: Iterable[int]) -> int:
    """Delete items with their history; return how many there were."""
    return connection.execute(delete(ITEMS).where(ITEMS.c.id.in_(list(numbers)))).rowcount


def get(connection: Connection, number: int) -> Item | None:
    """The item with this identifier."""
    row = connection.execute(select(*ITEM_COLUMNS).where(ITEMS.c.id == number)).one_or_none()
    return item_of(row) if row is not None else None


def find(
    connection: Connection,
    *,
    placer: OrderNumber | None = None,
    filler: OrderNumber | None = None,
    accession_number: str | None = None,
    study_instance_uid: str | None = None,
    scheduled_procedure_step_id: str | None = None,
    requested_procedure_id: str | None = None,
    patient: Patient | None = None,
    partition: str | None = None,
) -> list[Item]:
    """The items that have all of what is given, the oldest first; one at least must be given.

    An empty namespace or issuer, asked for or stored, is one that nobody named: it is equal to every other.
    """
    values = {
        "accession_number": accession_number,
        "study_instance_uid": study_instance_uid,
        "scheduled_procedure_step_id": scheduled_procedure_step_id,
        "requested_procedure_id": requested_procedure_id,
        "partition": partition,
    }
    for identifier, number, namespace in (
        (placer, "placer_order_number", "placer_namespace"),
        (filler, "filler_order_number", "filler_namespace"),
        (patient, "patient_id", "issuer_of_patient_id"),
    ):
        if identifier is not None:
            values[number], values[namespace] = identifier[0], identifier[1] or None
    given = {column: clean_key(value) for column, value in values.items() if value is not None}
    if not given:
        raise ValueError("nothing to find items by")
    return [item_of(row) for row in connection.execute(_having(tuple(given)), given)]


def has_any(connection: Connection, values: Mapping[str, str]) -> bool:
    """Whether any item has one of these values, by column of worklist.tables.ITEMS."""
    given = {column: clean_key(value) for column, value in values.items()}
    return connection.execute(_having_any(tuple(given)), given).first() is not None


@cache
def _having_any(columns: tuple[str, ...]) -> Select[Any]:
    return select(ITEMS.c.id).where(or_(*(ITEMS.c[name] == bindparam(name) for name in columns))).limit(1)


@cache
def _having(columns: tuple[str, ...]) -> Select[Any]:
    """The items that have what is given of some columns."""
    c = ITEMS.c
    conditions = [
        or_(c[name] == "", c[name] == bindparam(name)) if name in _NAMESPACES else c[name] == bindparam(name)
        for name in columns
    ]
    return select(*ITEM_COLUMNS).where(*conditions).order_by(c.id)


def history(connection: Connection, number: int) -> list[Event]:
    """What happened to an item, the oldest first."""
    h = HISTORY.c
    rows = connection.execute(select(h.at, h.who, h.what).where(h.item == number).order_by(h.id))
    return [Event(*row) for row in rows]


_NAMESPACES: Final = frozenset(("placer_namespace", "filler_namespace", "issuer_of_patient_id"))
# What item_of needs.
ITEM_COLUMNS: Final = (
    ITEMS.c.id,
    ITEMS.c.attributes,
    ITEMS.c.status,
    ITEMS.c.origin,
    ITEMS.c.created_at,
    ITEMS.c.changed_at,
)


def item_of(row: Sequence[Any]) -> Item:
    """The item of a row of ITEM_COLUMNS."""
    return Item(row[0], from_json(row[1]), Status(row[2]), row[3], row[4], row[5])


def _columns(keys: Keys) -> dict[str, str]:
    return {
        "partition": keys.partition,
        "placer_order_number": keys.placer.number,
        "placer_namespace": keys.placer.namespace,
        "filler_order_number": keys.filler.number,
        "filler_namespace": keys.filler.namespace,
        "accession_number": keys.accession_number,
        "study_instance_uid": keys.study_instance_uid,
        "scheduled_procedure_step_id": keys.scheduled_procedure_step_id,
        "requested_procedure_id": keys.requested_procedure_id,
        "patient_id": keys.patient.patient_id,
        "issuer_of_patient_id": keys.patient.issuer,
        "modality": keys.modality,
        "scheduled_date": keys.scheduled_date,
        "scheduled_time": keys.scheduled_time,
    }


def _insert_values(connection: Connection, number: int, keys: Keys) -> None:
    stations = [{"item": number, "station": one, "scheduled_date": keys.scheduled_date} for one in keys.stations]
    names = [{"item": number, "name": one} for one in keys.names]
    if stations:
        connection.execute(_ADD_STATIONS, stations)
    if names:
        connection.execute(_ADD_NAMES, names)


def _tell(connection: Connection, number: int, change: Change, what: str) -> None:
    connection.execute(_TELL, {"item": number, "at": change.at, "who": change.who, "what": what})


def _differences(before: Attributes, after: Attributes) -> str:
    """The tags that are not the same, without values: the history is read by persons and kept in logs."""
    pairs = ((before, after), (step_of(before), step_of(after)))
    tags = {tag for old, new in pairs for tag in {*old, *new} if old.get(tag) != new.get(tag)}
    return ", ".join(map(name_of, sorted(tags - {SCHEDULED_PROCEDURE_STEP_SEQUENCE})))
