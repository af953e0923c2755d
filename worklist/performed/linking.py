"""Which items a procedure step is about: those that its Scheduled Step Attributes Sequence names."""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from sqlalchemy import Connection, insert, select

from gateway.matching.attributes import Attributes
from worklist import store
from worklist.items import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    REQUESTED_PROCEDURE_ID,
    SCHEDULED_PROCEDURE_STEP_ID,
    STUDY_INSTANCE_UID,
    Item,
    text_of,
)
from worklist.performed.requirements import SCHEDULED_STEP_ATTRIBUTES_SEQUENCE
from worklist.performed.tables import STEP_ITEMS
from worklist.store import ITEM_COLUMNS, item_of
from worklist.tables import ITEMS

# More than any modality schedules together (PS3.17 annex J: group cases have a few).
MAXIMUM_SCHEDULED_STEPS: Final = 100

Find = Callable[[Connection, Attributes], list[Item]]


def items_of_step(connection: Connection, attributes: Attributes, partitions: Collection[str] | None) -> list[Item]:
    """The items that a step names and that whoever reports it may see. `partitions`: see steps.create."""
    sequence = attributes.get(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)
    named = sequence.value if sequence is not None and not isinstance(sequence.value, str) else ()
    patient_id = text_of(attributes, PATIENT_ID)
    found = {
        item.id: item
        for scheduled in named[:MAXIMUM_SCHEDULED_STEPS]
        for item in _named(connection, scheduled, patient_id, partitions)
    }
    return list(found.values())


def link(connection: Connection, step: int, items: Iterable[Item]) -> None:
    """Write down that a step is about these items, too."""
    there = set(connection.scalars(select(STEP_ITEMS.c.item).where(STEP_ITEMS.c.step == step)))
    new = [{"step": step, "item": item.id} for item in items if item.id not in there]
    if new:
        connection.execute(insert(STEP_ITEMS), new)


def linked_items(connection: Connection, step: int) -> list[Item]:
    """The items that a step is about, the oldest first."""
    query = select(*ITEM_COLUMNS).join(STEP_ITEMS, STEP_ITEMS.c.item == ITEMS.c.id).where(STEP_ITEMS.c.step == step)
    return [item_of(row) for row in connection.execute(query.order_by(ITEMS.c.id))]


def _named(
    connection: Connection, scheduled: Attributes, patient_id: str, partitions: Collection[str] | None
) -> list[Item]:
    """What the first of the rules finds that finds anything."""
    for of_patient_only, find in _BY_STEP_ID if text_of(scheduled, SCHEDULED_PROCEDURE_STEP_ID) else _WITHOUT_STEP_ID:
        found = [
            item
            for item in find(connection, scheduled)
            if (partitions is None or item.keys.partition in partitions)
            and (not of_patient_only or _may_be_of(item, patient_id))
        ]
        if found:
            return found
    return []


def _may_be_of(item: Item, patient_id: str) -> bool:
    known = item.keys.patient.patient_id
    return not patient_id or not known or known == patient_id


def _by(*tags: int, only_one: bool = False) -> Find:
    """Finds the items that agree in all of `tags`, none if one of these has no value in the step.

    `only_one`: and none if there are several, since it is not known which of them is meant.
    """

    def find(connection: Connection, scheduled: Attributes) -> list[Item]:
        values = {_ARGUMENTS[tag]: text_of(scheduled, tag) for tag in tags}
        if not all(values.values()):
            return []
        found = store.find(connection, **values)  # type: ignore[arg-type]
        return [] if only_one and len(found) > 1 else found

    return find


_ARGUMENTS: Final = {
    ACCESSION_NUMBER: "accession_number",
    STUDY_INSTANCE_UID: "study_instance_uid",
    SCHEDULED_PROCEDURE_STEP_ID: "scheduled_procedure_step_id",
    REQUESTED_PROCEDURE_ID: "requested_procedure_id",
}

# Each from the surest to the vaguest; whether the item must be of the same patient. A modality that makes Study
# Instance UIDs of its own repeats the other identifiers, but those are unique within a department only.
_BY_STEP_ID: Final[tuple[tuple[bool, Find], ...]] = (
    (False, _by(STUDY_INSTANCE_UID, SCHEDULED_PROCEDURE_STEP_ID)),
    (True, _by(ACCESSION_NUMBER, SCHEDULED_PROCEDURE_STEP_ID)),
    (True, _by(REQUESTED_PROCEDURE_ID, SCHEDULED_PROCEDURE_STEP_ID)),
)
_WITHOUT_STEP_ID: Final[tuple[tuple[bool, Find], ...]] = (
    (False, _by(STUDY_INSTANCE_UID, REQUESTED_PROCEDURE_ID, only_one=True)),
    (False, _by(STUDY_INSTANCE_UID, only_one=True)),
    (True, _by(ACCESSION_NUMBER, REQUESTED_PROCEDURE_ID, only_one=True)),
    (True, _by(ACCESSION_NUMBER, only_one=True)),
)
