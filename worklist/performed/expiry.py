"""Procedure steps that nobody needs any more are deleted."""

import time
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Select, and_, delete, exists, or_, select

from gateway.database import Database
from worklist import store
from worklist.items import Status
from worklist.performed.requirements import StepStatus
from worklist.performed.tables import STEP_ITEMS, STEPS

# So many are deleted in one transaction: others who write wait no longer than that.
BATCH_STEPS: Final = 500

# A step is kept as long as an item in the status that it gives.
_AS_ITEMS: Final = {
    StepStatus.IN_PROGRESS: Status.STARTED,
    StepStatus.DISCONTINUED: Status.DISCONTINUED,
    StepStatus.COMPLETED: Status.COMPLETED,
}


def expire_steps(database: Database, kept_s: Mapping[str, int | None], now_ns: int | None = None) -> int:
    """Delete steps whose last change is older than `kept_s` says (see worklist.expiry); return how many.

    A step is kept as long as one of its items. Raises DatabaseError.
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
            expired = connection.scalars(_expired(kept_s, now)).all()
            total += connection.execute(delete(STEPS).where(STEPS.c.id.in_(expired))).rowcount


def _expired(kept_s: Mapping[str, int | None], now: int) -> Select[int]:
    choices = [
        and_(STEPS.c.status == status.value, STEPS.c.changed_at < now - seconds * 10**9)
        for status, item_status in _AS_ITEMS.items()
        if (seconds := kept_s.get(item_status.value)) is not None
    ]
    has_items = exists().where(STEP_ITEMS.c.step == STEPS.c.id)
    return select(STEPS.c.id).where(or_(False, *choices), ~has_items).limit(BATCH_STEPS)
