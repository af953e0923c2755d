"""Processes that write into a store, for tests of several at once and of their death.

`python -m tests.worklist.writers URL_OR_PATH same COUNT` adds the orders 0 to COUNT - 1 that are not there yet;
`... endless` adds one after the other and says the number of each when it is committed.
"""

import itertools
import sys
from pathlib import Path

from gateway.database import Database, connect_postgresql, connect_sqlite
from tests.support.worklists import item_attributes
from worklist import store


def connect(where: str) -> Database:
    """The database of a test."""
    return connect_postgresql(where) if where.startswith("postgresql") else connect_sqlite(Path(where))


def add_if_new(database: Database, number: int) -> None:
    """As who gets an order does it: look, then add."""
    with database.write(lock=store.LOCK) as connection:
        if not store.find(connection, accession_number=f"A{number}"):
            store.add(connection, item_attributes(number), store.Change.now("writer"), origin="test")


def main() -> None:
    where, what, *rest = sys.argv[1:]
    database = connect(where)
    if what == "same":
        for number in range(int(rest[0])):
            add_if_new(database, number)
        return
    for number in itertools.count():
        add_if_new(database, number)
        print(number, flush=True)


if __name__ == "__main__":
    main()
