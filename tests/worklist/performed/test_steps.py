"""Procedure steps and the items that they are about: links, and statuses that follow."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway.database import Database
from tests.support.mpps import scheduled
from tests.worklist.performed.conftest import Department
from worklist import store
from worklist.expiry import expire
from worklist.items import Status
from worklist.performed import steps
from worklist.performed.expiry import expire_steps

STARTED, COMPLETED, DISCONTINUED = Status.STARTED, Status.COMPLETED, Status.DISCONTINUED


@pytest.mark.parametrize(
    ("first", "second", "after_first", "after_both"),
    [
        ("COMPLETED", "COMPLETED", STARTED, COMPLETED),
        ("COMPLETED", "DISCONTINUED", STARTED, COMPLETED),
        ("DISCONTINUED", "COMPLETED", STARTED, COMPLETED),
        ("DISCONTINUED", "DISCONTINUED", STARTED, DISCONTINUED),
    ],
)
def test_of_two_modalities_on_one_item_the_last_to_end_decides(
    department: Department, first: str, second: str, after_first: Status, after_both: Status
) -> None:
    item = department.item(1)
    ct = department.begin(scheduled(1), calling="CT1")
    us = department.begin(scheduled(1), calling="US1", Modality="US")
    assert department.statuses(item) == [STARTED]
    department.end(ct, first)
    assert department.statuses(item) == [after_first]
    department.end(us, second)
    assert department.statuses(item) == [after_both]


@pytest.mark.parametrize(
    ("first", "second", "after_both"),
    [("COMPLETED", "DISCONTINUED", COMPLETED), ("DISCONTINUED", "COMPLETED", COMPLETED)],
)
def test_steps_of_one_item_one_after_the_other(
    department: Department, first: str, second: str, after_both: Status
) -> None:
    item = department.item(1)
    department.end(department.begin(scheduled(1)), first)
    assert department.statuses(item) == [Status(first)]
    again = department.begin(scheduled(1))
    assert department.statuses(item) == [STARTED]
    department.end(again, second)
    assert department.statuses(item) == [after_both]


def test_a_step_for_several_items_of_several_orders(department: Department) -> None:
    items = [department.item(1), department.item(2, PatientID="P1"), department.item(3)]
    step = department.begin(scheduled(1), scheduled(2), scheduled(2), scheduled(77))
    assert department.numbers_of(step) == [items[0].id, items[1].id]
    assert department.statuses(*items) == [STARTED, STARTED, Status.SCHEDULED]
    department.end(step, "DISCONTINUED")
    assert department.statuses(*items) == [DISCONTINUED, DISCONTINUED, Status.SCHEDULED]


@pytest.mark.parametrize("named", [[], [scheduled()], [scheduled(77)]], ids=["none", "unscheduled", "unknown"])
def test_steps_without_items_are_kept(department: Department, database: Database, named: list[Dataset]) -> None:
    item = department.item(1)
    step = department.end(department.begin(*named)).step
    with database.read() as connection:
        assert steps.get(connection, step.id) == step
        assert steps.latest(connection, 10) == [step]
        assert steps.of_item(connection, item.id) == []
    assert department.statuses(item) == [Status.SCHEDULED]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({}, True),
        # A modality with a Study Instance UID of its own.
        ({"StudyInstanceUID": "2.25.9", "RequestedProcedureID": ""}, True),
        ({"StudyInstanceUID": "2.25.9", "AccessionNumber": ""}, True),
        ({"StudyInstanceUID": "2.25.9", "AccessionNumber": "", "RequestedProcedureID": ""}, False),
        # Without Scheduled Procedure Step ID.
        ({"ScheduledProcedureStepID": ""}, True),
        ({"ScheduledProcedureStepID": None, "RequestedProcedureID": ""}, True),
        ({"ScheduledProcedureStepID": "", "StudyInstanceUID": "2.25.9"}, True),
        ({"ScheduledProcedureStepID": "", "StudyInstanceUID": "2.25.9", "RequestedProcedureID": ""}, True),
        ({"ScheduledProcedureStepID": "", "StudyInstanceUID": "2.25.9", "AccessionNumber": ""}, False),
        # Another one than that which is there: an unscheduled step of the same study.
        ({"ScheduledProcedureStepID": "S9"}, False),
    ],
)
def test_what_an_item_is_found_by(department: Department, values: dict[str, Any], found: bool) -> None:
    item = department.item(1)
    department.item(2)
    step = department.begin(scheduled(1, **values))
    assert department.numbers_of(step) == ([item.id] if found else [])


@pytest.mark.parametrize(("patient_id", "found"), [("P1", True), ("", True), ("P9", False)])
def test_what_is_unique_in_a_department_only_counts_for_the_same_patient(
    department: Department, patient_id: str, found: bool
) -> None:
    department.item(1)
    step = department.begin(scheduled(1, StudyInstanceUID="2.25.9"), PatientID=patient_id)
    assert bool(step.items) == found


def test_without_step_id_one_of_several_is_not_guessed(department: Department) -> None:
    department.item(1)
    department.item(1, ScheduledProcedureStepID="S2")
    assert department.begin(scheduled(1, ScheduledProcedureStepID="")).items == ()
    assert len(department.begin(scheduled(1)).items) == 1


def test_a_modality_reports_about_what_it_can_see(department: Department) -> None:
    item = department.item(1, WorklistLabel="WEST")
    assert department.begin(scheduled(1), partitions=("EAST", "")).items == ()
    assert department.numbers_of(department.begin(scheduled(1), partitions=("WEST", ""))) == [item.id]
    assert department.numbers_of(department.begin(scheduled(1))) == [item.id]


def test_an_order_that_comes_after_the_examination_began(department: Department) -> None:
    step = department.begin(scheduled(1))
    item = department.item(1)
    assert department.numbers_of(department.end(step)) == [item.id]
    assert department.statuses(item) == [COMPLETED]


@pytest.mark.parametrize("status", list(Status))
def test_what_a_modality_does_counts_whatever_the_item_was(department: Department, status: Status) -> None:
    item = department.item(1, status=status)
    step = department.begin(scheduled(1))
    assert department.statuses(item) == [STARTED]
    department.set_status(step.items[0], Status.CANCELED)
    department.end(step)
    assert department.statuses(item) == [COMPLETED]


def test_steps_are_kept_as_long_as_their_items(department: Department, database: Database) -> None:
    item = department.item(1)
    kept = department.end(department.begin(scheduled(1))).step
    unscheduled = department.end(department.begin()).step
    running = department.begin().step
    day = 24 * 3600
    later = 10 * day * 10**9
    assert expire_steps(database, {"COMPLETED": None, "STARTED": None}, later) == 0
    assert expire_steps(database, {"COMPLETED": 20 * day}, later) == 0
    assert expire_steps(database, {"COMPLETED": 7 * day, "STARTED": None}, later) == 1
    with database.read() as connection:
        there = [kept, running]
        assert [steps.get(connection, one.id) for one in (kept, unscheduled, running)] == [kept, None, running]
    with database.write(lock=store.LOCK) as connection:
        store.remove(connection, [item.id])
    assert expire_steps(database, {"COMPLETED": 7 * day, "STARTED": 7 * day}, later) == len(there)
    assert expire(database, {"COMPLETED": 1}, later) == 0
