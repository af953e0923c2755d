"""What received images say of items, for modalities that do not report procedure steps (MPPS)."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from worklist import store
from worklist.items import UNFINISHED, Item, Patient, Status
from worklist.performed.requirements import StepStatus
from worklist.performed.work import step_statuses
from worklist.store import Change


@dataclass(frozen=True, slots=True)
class Study:
    """What identifies a study; "" for what is not known."""

    study_instance_uid: str
    accession_number: str = ""
    patient_id: str = ""


def to_start(
    connection: Connection, study: Study, station: str, partitions: Collection[str] | None = None
) -> list[Item]:
    """The items that begin with the first instance of a study from a modality with the AE title `station`.

    Of several items those that are scheduled for it, if any is. `partitions`: see steps.create.
    """
    items = _of_study(connection, study, partitions)
    waiting = [item for item in items if item.status in UNFINISHED]
    return [item for item in waiting if station in item.keys.stations] or waiting


def to_start_late(connection: Connection, study: Study, modalities: Collection[str]) -> list[Item]:
    """The items that should have begun with a study that is complete: none if one of them did.

    `modalities`: those of the study's series.
    """
    items = _of_study(connection, study, None)
    if any(item.status not in UNFINISHED for item in items):
        return []
    return _of_modalities(items, modalities)


def to_complete(connection: Connection, study: Study, modalities: Collection[str]) -> list[Item]:
    """The items that a complete study completes: those that were begun, else those of its modalities.

    Not those that a modality reports about: it says itself when it is done.
    """
    items = [
        item
        for item in _of_study(connection, study, None)
        if item.status in (*UNFINISHED, Status.STARTED)
        and StepStatus.IN_PROGRESS not in step_statuses(connection, item.id)
    ]
    begun = [item for item in items if item.status is Status.STARTED]
    return begun or _of_modalities(items, modalities)


def set_all(connection: Connection, items: Collection[Item], status: Status, change: Change, reason: str) -> list[int]:
    """Give all of them a status; return their identifiers."""
    return [store.set_status(connection, item, status, change, reason).id for item in items]


def _of_study(connection: Connection, study: Study, partitions: Collection[str] | None) -> list[Item]:
    """The items with the Study Instance UID; if there is none, those with Accession Number and Patient ID."""
    found = store.find(connection, study_instance_uid=study.study_instance_uid) if study.study_instance_uid else []
    if not found and study.accession_number and study.patient_id:
        patient = Patient(study.patient_id)
        found = store.find(connection, accession_number=study.accession_number, patient=patient)
    return [item for item in found if partitions is None or item.keys.partition in partitions]


def _of_modalities(items: list[Item], modalities: Collection[str]) -> list[Item]:
    """Of several items those of one of the modalities; one alone is meant in any case."""
    return items if len(items) == 1 else [item for item in items if item.keys.modality in modalities]
