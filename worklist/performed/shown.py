"""To whom items were shown: for each item, the calling AE titles whose queries it answered, how often, and when last.

Noted in memory while a query is answered, written down later and many together: a query waits for nothing, and what a
killed worker had not written yet is missing.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from worklist import store
from worklist.performed.tables import ANSWERS
from worklist.tables import ITEMS

WRITE_AFTER_S: Final = 5.0
# In one transaction: others who write wait no longer than that.
BATCH_NOTES: Final = 500
# What waits to be written; beyond it nothing is noted.
MAXIMUM_WAITING: Final = 100_000
# Of one item. Whoever invents AE titles does not fill the database.
MAXIMUM_TITLES: Final = 50


class Shown(NamedTuple):
    """That an item was an answer to queries of an AE title. `last_at`: nanoseconds since 1970."""

    calling_ae_title: str
    times: int
    last_at: int


class ShownLog:
    """One worker's notes, and the thread that writes them down. Thread-safe."""

    def __init__(self, database: Database, write_after_s: float = WRITE_AFTER_S) -> None:
        self._database = database
        self._write_after_s = write_after_s
        self._lock = threading.Lock()
        self._notes: dict[tuple[int, str], tuple[int, int]] = {}
        self._wanted = threading.Event()
        self._log = get_logger()
        threading.Thread(target=self._run, name="shown", daemon=True).start()

    def note(self, items: list[int], calling_ae_title: str) -> None:
        """These items were answers to one query."""
        now = time.time_ns()
        with self._lock:
            for item in items:
                key = (item, calling_ae_title)
                if key in self._notes or len(self._notes) < MAXIMUM_WAITING:
                    self._notes[key] = (self._notes.get(key, (0, 0))[0] + 1, now)
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            time.sleep(self._write_after_s)
            self._wanted.clear()
            with self._lock:
                notes, self._notes = self._notes, {}
            try:
                self._write([(item, Shown(title, *seen)) for (item, title), seen in notes.items()])
            except DatabaseError as error:
                self._log.warning("not written down to whom items were shown", reason=str(error))

    def _write(self, notes: list[tuple[int, Shown]]) -> None:
        for start in range(0, len(notes), BATCH_NOTES):
            with self._database.write(lock=store.LOCK) as connection:
                write(connection, notes[start : start + BATCH_NOTES])


def write(connection: Connection, notes: Sequence[tuple[int, Shown]]) -> None:
    """Add notes, by item, to what is written down. Items that are gone are passed over."""
    numbers = sorted({item for item, _shown in notes})
    there = set(connection.scalars(select(ITEMS.c.id).where(ITEMS.c.id.in_(numbers))))
    known: dict[int, dict[str, Shown]] = {number: {} for number in there}
    for row in connection.execute(select(ANSWERS).where(ANSWERS.c.item.in_(numbers))):
        known[row.item][row.calling_ae_title] = Shown(row.calling_ae_title, row.times, row.last_at)
    new, changed = [], []
    for item, note in notes:
        if item not in there:
            continue
        before = known[item].get(note.calling_ae_title)
        if before is not None:
            times, last_at = before.times + note.times, max(before.last_at, note.last_at)
            changed.append({"of": item, "by": note.calling_ae_title, "times": times, "last_at": last_at})
        elif len(known[item]) < MAXIMUM_TITLES:
            new.append({"item": item, **note._asdict()})
            known[item][note.calling_ae_title] = note
    if new:
        connection.execute(insert(ANSWERS), new)
    if changed:
        same = (ANSWERS.c.item == bindparam("of")) & (ANSWERS.c.calling_ae_title == bindparam("by"))
        connection.execute(update(ANSWERS).where(same), changed)


def shown(connection: Connection, item: int) -> list[Shown]:
    """To whom an item was shown, the last first."""
    a = ANSWERS.c
    rows = connection.execute(
        select(a.calling_ae_title, a.times, a.last_at).where(a.item == item).order_by(a.last_at.desc())
    )
    return [Shown(*row) for row in rows]
