"""ADT messages: what they change of items that are there. They make none."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.matching.attributes import Attributes, Element
from gateway.options.orders import PatientEffect
from worklist import items, store
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.items import Item, Patient, Status, text_of
from worklist.orders import timestamps
from worklist.orders.groups import merges
from worklist.orders.identity import OTHER_PATIENT_IDS_SEQUENCE, patients_of
from worklist.orders.mapping import Mapped
from worklist.orders.memory import Known, Moment, recall, remember
from worklist.orders.orders import without_empty
from worklist.orders.reader import Part, Value
from worklist.orders.statuses import change_status
from worklist.orders.task import Task
from worklist.orders.texts import fit

ADMISSION_ID: Final = 0x0038_0010
# Of one message, and identifiers that each gives up: a chain of merges writes each item again and again, and all
# others wait.
MAXIMUM_PATIENTS: Final = 20

# HL7 2.5.1 chapter 3, IHE RAD-1 and RAD-12. Every other event is acknowledged and changes nothing. docs/hl7.md shows
# this table. A03 and A11 end a visit, or say that there was none: they say nothing new of patients and places.
PATIENT_EVENTS: Final[dict[str, PatientEffect]] = {
    # Visits: the patient's data as they are then, and where he is.
    **dict.fromkeys(("A01", "A02", "A04", "A05", "A06", "A07", "A12", "A13", "A17"), "UPDATE"),
    # Data of the patient.
    **dict.fromkeys(("A08", "A28", "A31"), "UPDATE"),
    # A18, A34 and A36 are what A40 was before HL7 2.3.1, and what many still send.
    **dict.fromkeys(("A18", "A34", "A36", "A40", "A47"), "MERGE"),
    "A10": "ARRIVE",
}

_OPEN: Final = frozenset(Status) - {Status.CANCELED, Status.DISCONTINUED, Status.COMPLETED}


def apply_event(task: Task, event: str) -> None:
    """Do what an ADT event asks for. Raises MessageError."""
    events: Mapping[str, PatientEffect] = {**PATIENT_EVENTS, **task.rules.patient_events}
    effect = events.get(event, "IGNORE")
    if effect == "IGNORE":
        task.notes.remark(f"ADT^{event[:8]} changes nothing here" if event else "ADT without an event changes nothing")
        return
    parts = merges(task.segments)
    if not parts:
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "PID^1", "a patient needs PID")
    if len(parts) > MAXIMUM_PATIENTS:
        raise MessageError(ErrorCode.SEGMENT_SEQUENCE_ERROR, "", f"more than {MAXIMUM_PATIENTS} patients in a message")
    for part in parts:
        mapped = task.rules.field_map.read(part, task.context)
        patient = _patient(mapped, part)
        if effect == "UPDATE":
            _update(task, part, mapped, patient)
        elif effect == "MERGE":
            _merge(task, part, mapped)
        else:
            _arrive(task, part, mapped, patient)


def _patient(mapped: Mapped, part: Part) -> Patient:
    found = patients_of(mapped.patient)
    if not found or not text_of(mapped.patient, items.PATIENT_ID):
        segment = part.first("PID")
        number = segment.number if segment else 1
        raise MessageError(ErrorCode.REQUIRED_FIELD_MISSING, f"PID^{number}^3", "a patient needs an identifier")
    return found[0]


def _items_of(task: Task, patient: Patient, location: str) -> list[Item]:
    """The items of a patient. Raises MessageError where the identifier is two patients'."""
    found = store.find(task.connection, patient=patient)
    if len({item.keys.patient.issuer for item in found} - {""}) > 1:
        raise MessageError(
            ErrorCode.UNKNOWN_KEY_IDENTIFIER, location, "several issuers have given this identifier: name the issuer"
        )
    return found


def _update(task: Task, part: Part, mapped: Mapped, patient: Patient) -> None:
    moment = task.moment(part)
    for known in recall(task.connection, _items_of(task, patient, "PID^1^3")):
        if known.item.status in _OPEN:
            _write(task, known, mapped, moment, ())


def _write(task: Task, known: Known, mapped: Mapped, moment: Moment, priors: tuple[Patient, ...]) -> None:
    item, memory = known
    if moment.is_older(memory.patient):
        task.notes.remark("older than what it would change: no effect")
        return
    said: Attributes = dict(mapped.patient)
    if _same_visit(item, mapped):
        said.update(mapped.visit)
    said[OTHER_PATIENT_IDS_SEQUENCE] = _other_identifiers(item.attributes, said, priors)
    attributes = without_empty({**item.attributes, **said})
    if not text_of(attributes, items.PATIENT_NAME):
        raise MessageError(ErrorCode.REQUIRED_FIELD_MISSING, "PID^1^5", "a patient with an item needs a name")
    changed = store.replace(task.connection, item, attributes, task.change)
    if changed is not item:
        task.notes.changed(item.id, "changed")
    remember(task.connection, known, replace(memory, patient=moment))


def _same_visit(item: Item, mapped: Mapped) -> bool:
    admission = text_of(mapped.visit, ADMISSION_ID)
    return bool(admission) and admission == text_of(item.attributes, ADMISSION_ID)


def _other_identifiers(before: Attributes, said: Attributes, priors: tuple[Patient, ...]) -> Element:
    """What PID-3 says, and the identifiers that a patient no longer has: orders that name them may be under way.

    Of those that an item has already, those of its own issuer are former ones: nobody gives a patient two.
    """
    now = {**before, **said}
    issuer = text_of(now, items.ISSUER_OF_PATIENT_ID)
    known = set(patients_of(now))
    added = []
    for patient in (*patients_of(before)[1:], *priors):
        if patient in known or (patient not in priors and patient.issuer not in ("", issuer)):
            continue
        known.add(patient)
        item = {items.PATIENT_ID: Element("LO", patient.patient_id), 0x0010_0022: Element("CS", "TEXT")}
        if patient.issuer:
            item[items.ISSUER_OF_PATIENT_ID] = Element("LO", patient.issuer)
        added.append(item)
    element = now.get(OTHER_PATIENT_IDS_SEQUENCE)
    others = element.value if element and not isinstance(element.value, str) else ()
    return Element("SQ", (*others, *added))


def _merge(task: Task, part: Part, mapped: Mapped) -> None:
    """A40, A47: what was MRG-1's is now PID-3's."""
    segment = part.first("MRG")
    values = segment.repetitions(1) if segment else []
    priors = tuple(_prior(value, task) for value in values if fit("LO", value.text(1)))
    if not priors or segment is None:
        raise MessageError(
            ErrorCode.REQUIRED_FIELD_MISSING,
            f"MRG^{segment.number if segment else 1}^1",
            "a merge needs the identifier that is given up",
        )
    if len(priors) > MAXIMUM_PATIENTS:
        raise MessageError(
            ErrorCode.DATA_TYPE_ERROR,
            f"MRG^{segment.number}^1",
            f"more than {MAXIMUM_PATIENTS} identifiers are given up",
        )
    moment = task.moment(part)
    found: dict[int, Item] = {}
    for prior in priors:
        found.update({item.id: item for item in _items_of(task, prior, f"MRG^{segment.number}^1")})
    for known in recall(task.connection, found.values()):
        _write(task, known, mapped, moment, priors)


def _prior(value: Value, task: Task) -> Patient:
    authority = value.part(4)
    issuer = authority.text(1) or authority.text(2) or task.rules.assigning_authority
    return Patient(fit("LO", value.text(1)), fit("LO", issuer))


def _arrive(task: Task, part: Part, mapped: Mapped, patient: Patient) -> None:
    """A10: the patient is there for what is scheduled for this day, or was for an earlier one."""
    recorded = timestamps.parse(part.text("EVN", 6) or part.text("EVN", 2))
    day = recorded.date if recorded and recorded.date else task.sent.date
    admission = text_of(mapped.visit, ADMISSION_ID)
    for known in recall(task.connection, _items_of(task, patient, "PID^1^3")):
        item = known.item
        other = text_of(item.attributes, ADMISSION_ID)
        if item.status is not Status.SCHEDULED or item.keys.scheduled_date > day:
            continue
        if admission and other and admission != other:
            continue
        change_status(task, known, Status.ARRIVED, task.moment(part), "the patient has arrived")
