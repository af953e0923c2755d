"""An empty worklist for each test."""

from collections.abc import Iterator

import pytest

from gateway.database import Database, connect_sqlite, migrate
from tests.worklist.orders.messages import Worklist


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The tables, in SQLite."""
    database = connect_sqlite(tmp_path_factory.mktemp("worklist") / "gateway.sqlite")
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def worklist(tables: Database) -> Worklist:
    """Without items, with the rules of messages.RULES."""
    worklist = Worklist(tables)
    worklist.clear()
    return worklist
