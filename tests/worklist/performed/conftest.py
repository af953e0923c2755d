"""Steps and items in a store, without a network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway.database import Database, connect_sqlite, migrate
from tests.support.mpps import begun, ended
from tests.support.worklist_queries import an_item, attributes_of
from tests.support.worklists import add
from worklist import store
from worklist.items import Item, Status
from worklist.performed import steps
from worklist.performed.steps import Peer, Reported


@dataclass
class Department:
    """A worklist, and modalities that report."""

    database: Database
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def item(self, number: int, status: Status = Status.SCHEDULED, **values: Any) -> Item:
        return add(self.database, attributes_of(an_item(number, **values)), status=status)

    def begin(
        self, *scheduled: Dataset, calling: str = "CT1", partitions: tuple[str, ...] | None = None, **values: Any
    ) -> Reported:
        number = next(self.numbers)
        attributes = attributes_of(begun(*scheduled, **values))
        with self.database.write(lock=store.LOCK) as connection:
            peer = Peer(calling, "ORTHANC", "127.0.0.1")
            return steps.create(connection, f"2.25.{number}", attributes, peer, number, partitions)

    def end(self, reported: Reported, status: str = "COMPLETED") -> Reported:
        modifications = attributes_of(ended(status))
        with self.database.write(lock=store.LOCK) as connection:
            return steps.change(connection, reported.step.sop_instance_uid, modifications, next(self.numbers))

    def statuses(self, *items: Item) -> list[Status]:
        with self.database.read() as connection:
            found = [store.get(connection, item.id) for item in items]
            return [item.status for item in found if item is not None]

    def set_status(self, item: Item, status: Status) -> None:
        with self.database.write(lock=store.LOCK) as connection:
            store.set_status(connection, item, status, store.Change.now("test"))

    def numbers_of(self, reported: Reported) -> list[int]:
        return [item.id for item in reported.items]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An SQLite with all tables; test_postgresql.py has the other one."""
    made = connect_sqlite(tmp_path / "gateway.sqlite")
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def department(database: Database) -> Department:
    return Department(database)
