"""Which items a query could match, by the keys that are in SQL. gateway.matching decides about them."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, select, tuple_

from gateway.database import Database
from gateway.matching.text import normal_name
from worklist.items import Item, Status, clean_key
from worklist.store import ITEM_COLUMNS, item_of
from worklist.tables import ITEMS, NAMES, STATIONS

PAGE_ITEMS: Final = 100
_LAST_CHARACTER: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Selection:
    """What the candidates have in common. A field that is None or empty selects nothing out.

    Values are compared as they are stored: without padding, case-sensitive. An attribute with several of these
    values is selected by one of them.
    """

    stations: Collection[str] | None = None
    # As gateway.matching.times.days returns them: YYYYMMDD, both within; "" where there is no end.
    first_day: str = ""
    last_day: str = ""
    modalities: Collection[str] | None = None
    patient_ids: Collection[str] | None = None
    # The key as it was asked, wildcards and all: what every name that it matches begins with and holds, selects.
    patient_name: str = ""
    # The same for keys with wildcards, by column of worklist.tables.ITEMS.
    patterns: Mapping[str, str] = field(default_factory=dict)
    accession_numbers: Collection[str] | None = None
    requested_procedure_ids: Collection[str] | None = None
    scheduled_procedure_step_ids: Collection[str] | None = None
    study_instance_uids: Collection[str] | None = None
    statuses: Collection[Status] | None = None
    partitions: Collection[str] | None = None


class Cursor(NamedTuple):
    """Where a page ended."""

    scheduled_date: str
    scheduled_time: str
    id: int


class Page(NamedTuple):
    """Candidates in the order of their scheduled date and time, and where to go on; None at the end."""

    items: list[Item]
    next: Cursor | None


def candidates(database: Database, selection: Selection, page_items: int = PAGE_ITEMS) -> Iterator[Item]:
    """All candidates, read by pages. No transaction is open while the caller, or his peer, takes his time."""
    cursor: Cursor | None = None
    while True:
        with database.read() as connection:
            page = candidates_page(connection, selection, cursor, page_items)
        yield from page.items
        cursor = page.next
        if cursor is None:
            return


def candidates_page(
    connection: Connection, selection: Selection, after: Cursor | None = None, page_items: int = PAGE_ITEMS
) -> Page:
    """The next candidates after a page that ended there."""
    order = (ITEMS.c.scheduled_date, ITEMS.c.scheduled_time, ITEMS.c.id)
    conditions = _conditions(selection)
    if after is not None:
        conditions.append(tuple_(*order) > tuple_(*after))
    query = select(*ITEM_COLUMNS, *order[:2]).where(*conditions).order_by(*order).limit(page_items)
    rows = connection.execute(query).all()
    last = Cursor(rows[-1][-2], rows[-1][-1], rows[-1][0]) if len(rows) == page_items else None
    return Page([item_of(row) for row in rows], last)


def _conditions(selection: Selection) -> list[ColumnElement[Any]]:
    c = ITEMS.c
    conditions: list[ColumnElement[Any]] = [
        column.in_([clean_key(value) for value in values])
        for column, values in (
            (c.modality, selection.modalities),
            (c.patient_id, selection.patient_ids),
            (c.accession_number, selection.accession_numbers),
            (c.requested_procedure_id, selection.requested_procedure_ids),
            (c.scheduled_procedure_step_id, selection.scheduled_procedure_step_ids),
            (c.study_instance_uid, selection.study_instance_uids),
            (c.status, selection.statuses),
            (c.partition, selection.partitions),
        )
        if values is not None
    ]
    conditions += _days(c.scheduled_date, selection)
    if selection.stations is not None:
        titles = [clean_key(title) for title in selection.stations]
        days = _days(STATIONS.c.scheduled_date, selection)
        conditions.append(c.id.in_(select(STATIONS.c.item).where(STATIONS.c.station.in_(titles), *days)))
    named = _like(NAMES.c.name, _name_pattern(selection.patient_name))
    if named:
        conditions.append(c.id.in_(select(NAMES.c.item).where(*named)))
    for column_name, pattern in selection.patterns.items():
        # in a table of its own SQLite reads nothing but the column's index
        other = ITEMS.alias()
        conditions.append(c.id.in_(select(other.c.id).where(*_like(other.c[column_name], pattern))))
    return conditions


def _days(column: ColumnElement[str], selection: Selection) -> list[ColumnElement[Any]]:
    conditions: list[ColumnElement[Any]] = []
    if selection.first_day or selection.last_day:
        conditions.append(column >= (selection.first_day or "0"))
    if selection.last_day:
        conditions.append(column <= selection.last_day)
    return conditions


def _like(column: ColumnElement[str], pattern: str) -> list[ColumnElement[Any]]:
    """What all values have in common that match a key with wildcards: their beginning, and the longest piece."""
    beginning, *others = re.split(r"[*?]+", pattern)
    longest = max(others, key=len, default="")
    conditions: list[ColumnElement[Any]] = []
    if beginning:
        conditions.append(column.between(beginning, beginning + _LAST_CHARACTER))
    if len(longest) > len(beginning):
        conditions.append(column.contains(longest, autoescape=True))
    return conditions


def _name_pattern(name: str) -> str:
    """What one of the component groups of every name that the key matches is like."""
    return normal_name(next((group for group in name.split("=") if group.strip("* ^")), ""), case_sensitive=False)
