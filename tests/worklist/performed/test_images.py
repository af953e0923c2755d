"""What received images say of items."""

from __future__ import annotations

import pytest

from gateway.database import Database
from tests.support.mpps import scheduled
from tests.worklist.performed.conftest import Department
from worklist.items import Item, Status
from worklist.performed.images import Study, to_complete, to_start, to_start_late

STUDY = Study("2.25.1001", "A1", "P1")


def started(database: Database, study: Study = STUDY, station: str = "CT1", **options: tuple[str, ...]) -> list[int]:
    with database.read() as connection:
        return numbers(to_start(connection, study, station, **options))


def completed(database: Database, *modalities: str, study: Study = STUDY) -> list[int]:
    with database.read() as connection:
        return numbers(to_complete(connection, study, modalities))


def numbers(items: list[Item]) -> list[int]:
    return [item.id for item in items]


@pytest.mark.parametrize(
    ("study", "found"),
    [
        (STUDY, True),
        (Study("2.25.1001"), True),
        (Study("2.25.9", "A1", "P1"), True),
        (Study("2.25.9", "A1", "P2"), False),
        (Study("2.25.9", "A1"), False),
        (Study("2.25.9", "A2", "P1"), False),
        (Study(""), False),
        (Study("", "", "P1"), False),
    ],
)
def test_what_an_item_is_found_by(department: Department, database: Database, study: Study, found: bool) -> None:
    item = department.item(1)
    assert started(database, study) == ([item.id] if found else [])
    assert completed(database, "MR", study=study) == ([item.id] if found else [])


@pytest.mark.parametrize("status", list(Status))
def test_what_is_over_or_begun_is_not_started_again(department: Department, database: Database, status: Status) -> None:
    item = department.item(1, status=status)
    waiting = status in (Status.SCHEDULED, Status.ARRIVED, Status.READY)
    assert started(database) == ([item.id] if waiting else [])
    assert completed(database, "CT") == ([item.id] if waiting or status is Status.STARTED else [])


def test_of_several_items_of_a_study_those_of_the_station_start(department: Department, database: Database) -> None:
    ct = department.item(1)
    pet = department.item(1, ScheduledStationAETitle="PET1", Modality="PT", ScheduledProcedureStepID="S2")
    assert started(database, station="PET1") == [pet.id]
    assert started(database, station="GATEWAY") == [ct.id, pet.id]


def test_of_several_items_of_a_study_those_that_were_begun_are_completed(
    department: Department, database: Database
) -> None:
    ct = department.item(1)
    pet = department.item(1, ScheduledStationAETitle="PET1", Modality="PT", ScheduledProcedureStepID="S2")
    assert completed(database, "CT", "SR") == [ct.id]
    assert completed(database, "OT") == []
    department.set_status(pet, Status.STARTED)
    assert completed(database, "CT", "SR") == [pet.id]


def test_the_images_of_a_partition_start_its_items(department: Department, database: Database) -> None:
    west = department.item(1, WorklistLabel="WEST")
    assert started(database, partitions=("EAST", "")) == []
    assert started(database, partitions=("WEST", "")) == [west.id]


def test_what_a_modality_reports_about_is_its_own_to_complete(department: Department, database: Database) -> None:
    item = department.item(1)
    step = department.begin(scheduled(1))
    assert completed(database, "CT") == []
    department.end(step, "DISCONTINUED")
    department.set_status(item, Status.STARTED)
    assert completed(database, "CT") == [item.id]


def test_a_start_that_was_missed_is_made_up_for_once(department: Department, database: Database) -> None:
    def late(*modalities: str) -> list[int]:
        with database.read() as connection:
            return numbers(to_start_late(connection, STUDY, modalities))

    ct = department.item(1)
    pet = department.item(1, Modality="PT", ScheduledProcedureStepID="S2")
    assert late("PT") == [pet.id]
    department.set_status(ct, Status.COMPLETED)
    assert late("PT") == []
