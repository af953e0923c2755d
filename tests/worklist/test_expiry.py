"""Items expire by their status, their day and their last change."""

import time
from datetime import datetime

from gateway.database import Database
from gateway.options.worklist import ExpirySection
from tests.support.worklists import add, item_attributes, items_of
from worklist import store
from worklist.expiry import BATCH_ITEMS, expire
from worklist.items import Status
from worklist.tables import FILES

DAY_S = 24 * 3600
NOW = datetime(2026, 11, 21, 12, 0)
NOW_NS = int(NOW.timestamp()) * 10**9
KEPT: dict[str, int | None] = dict.fromkeys(Status, DAY_S) | {"READY": None}


def days_ago(days: float) -> store.Change:
    return store.Change("somebody", NOW_NS - int(days * DAY_S) * 10**9)


def put(database: Database, status: Status, date: str, changed_days_ago: float) -> int:
    attributes = item_attributes(1, step={"ScheduledProcedureStepStartDate": date})
    with database.write(lock=store.LOCK) as connection:
        change = days_ago(changed_days_ago)
        return store.add(connection, attributes, change, origin="test", status=status).id


def test_what_is_over_for_long_enough_expires(database: Database) -> None:
    kept = [
        put(database, Status.SCHEDULED, "20261122", 30),  # ordered long ago, for tomorrow
        put(database, Status.SCHEDULED, "20261120", 30),  # yesterday's day has been over for half a day only
        put(database, Status.ARRIVED, "20260101", 0.5),  # entered late
        put(database, Status.READY, "20260101", 300),  # never
        put(database, Status.COMPLETED, "20260101", 0.5),
        put(database, Status.STARTED, "20261121", 0.5),
    ]
    put(database, Status.SCHEDULED, "20261119", 30)
    put(database, Status.SCHEDULED, "", 30)
    put(database, Status.STARTED, "20261121", 1.5)
    put(database, Status.COMPLETED, "20261122", 1.5)
    put(database, Status.CANCELED, "20261122", 1.5)
    assert expire(database, KEPT, NOW_NS) == 5
    assert [item.id for item in items_of(database)] == kept


def test_an_item_of_a_file_stays_as_long_as_the_file(database: Database) -> None:
    number = put(database, Status.COMPLETED, "20260101", 300)
    with database.write(lock=store.LOCK) as connection:
        connection.execute(FILES.insert().values(item=number, gateway="g", path=b"/a.wl", fingerprint=""))
    assert expire(database, KEPT, NOW_NS) == 0


def test_many_expire_in_several_transactions(database: Database) -> None:
    with database.write(lock=store.LOCK) as connection:
        for number in range(BATCH_ITEMS + 10):
            store.add(connection, item_attributes(number), days_ago(9), origin="test", status=Status.COMPLETED)
    assert expire(database, KEPT, NOW_NS) == BATCH_ITEMS + 10


def test_by_default_a_week(database: Database) -> None:
    item = add(database, item_attributes(1), status=Status.COMPLETED)
    week_ns = 7 * DAY_S * 10**9
    kept = ExpirySection().seconds()
    assert expire(database, kept, item.changed_at + week_ns) == 0
    assert expire(database, kept, item.changed_at + week_ns + 1) == 1
    assert expire(database, dict.fromkeys(Status), time.time_ns()) == 0
