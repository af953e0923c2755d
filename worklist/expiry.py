"""Items that nobody needs any more are deleted, after a time that depends on their status."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import Select, and_, exists, or_, select

from gateway.database import Database
from worklist import store
from worklist.items import Status
from worklist.tables import FILES, ITEMS

# So many are deleted in one transaction: others who write wait no longer than that.
BATCH_ITEMS: Final = 500

# Before the examination: an item is kept until its day is over, however long ago it was entered.
_WAITING: Final = (Status.SCHEDULED, Status.ARRIVED, Status.READY)


def expire(database: Database, kept_s: Mapping[str, int | None], now_ns: int | None = None) -> int:
    """Delete what is older than `kept_s` says for its status (None: never); return how many. Raises DatabaseError.

    The age is counted from the last change; before the examination also from the end of the scheduled day, in local
    time. An item of a file is kept as long as its file.
    """
    now = time.time_ns() if now_ns is None else now_ns
    total = 0
    while True:
        with database.read() as connection:
            expired = connection.scalars(_expired(kept_s, now)).all()
        if not expired:
            return total
        with database.write(lock=store.LOCK) as connection:
            # Asked again: somebody may have changed one meanwhile.
            total += store.remove(connection, connection.scalars(_expired(kept_s, now)).all())


def _expired(kept_s: Mapping[str, int | None], now: int) -> Select[int]:
    choices = []
    for status, seconds in kept_s.items():
        if seconds is None:
            continue
        instant = now - seconds * 10**9
        choice = and_(ITEMS.c.status == status, ITEMS.c.changed_at < instant)
        if status in _WAITING:
            day = datetime.fromtimestamp(instant / 10**9).strftime("%Y%m%d")
            choice = and_(choice, ITEMS.c.scheduled_date < day)
        choices.append(choice)
    of_file = exists().where(FILES.c.item == ITEMS.c.id)
    return select(ITEMS.c.id).where(or_(False, *choices), ~of_file).limit(BATCH_ITEMS)
