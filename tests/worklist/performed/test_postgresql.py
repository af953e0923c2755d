"""Steps, notes and their end in PostgreSQL, where two gateways write at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.database import Database, connect_postgresql, migrate
from tests.support.mpps import scheduled
from tests.support.postgresql import PostgreSql
from tests.worklist.performed.conftest import Department
from worklist import store
from worklist.items import Status
from worklist.performed import shown, steps
from worklist.performed.expiry import expire_steps
from worklist.performed.images import Study, to_complete
from worklist.performed.requirements import Problem, StepRefused
from worklist.performed.shown import Shown


@pytest.fixture
def database(postgresql: PostgreSql) -> Iterator[Database]:
    made = connect_postgresql(postgresql.database())
    migrate(made)
    yield made
    made.close()


def test_a_step_from_its_begin_to_its_end(department: Department, database: Database) -> None:
    one, other = department.item(1), department.item(2)
    first = department.begin(scheduled(1), scheduled(2), PatientID="\u0130\U0001f600")
    second = department.begin(scheduled(2), calling="US1")
    department.end(first)
    assert department.statuses(one, other) == [Status.COMPLETED, Status.STARTED]
    with pytest.raises(StepRefused) as refused:
        department.end(first)
    assert refused.value.problem is Problem.FINAL
    with database.write(lock=store.LOCK) as connection:
        shown.write(connection, [(one.id, Shown("CT1", 1, 5)), (4711, Shown("CT1", 1, 5))])
        shown.write(connection, [(one.id, Shown("CT1", 2, 9)), (one.id, Shown("CT2", 1, 7))])
        assert shown.shown(connection, one.id) == [Shown("CT1", 3, 9), Shown("CT2", 1, 7)]
        assert to_complete(connection, Study("2.25.1002"), ["CT"]) == []
        assert [step.id for step in steps.of_item(connection, other.id)] == [first.step.id, second.step.id]
        store.remove(connection, [one.id, other.id])
    assert expire_steps(database, {"COMPLETED": 0, "STARTED": None}, 100) == 1


def test_two_modalities_that_end_at_the_same_time(department: Department) -> None:
    items = [department.item(number) for number in range(1, 11)]
    begun = [(department.begin(scheduled(n)), department.begin(scheduled(n), calling="US1")) for n in range(1, 11)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(department.end, [step for pair in begun for step in pair]))
    assert set(department.statuses(*items)) == {Status.COMPLETED}
