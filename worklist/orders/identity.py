"""Which items a message means: by Study Instance UID, order numbers, Accession Number; the step by its ID."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from gateway.matching.attributes import Attributes
from worklist import items, store
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.items import Item, OrderNumber, Patient, keys_of, text_of
from worklist.orders.memory import Known, recall

OTHER_PATIENT_IDS_SEQUENCE: Final = 0x0010_1002
ISSUER_OF_ACCESSION_NUMBER_SEQUENCE: Final = 0x0008_0051
# What is read of a message that says nothing else of interest.
IDENTIFYING_TAGS: Final = frozenset(
    (
        items.PATIENT_ID,
        items.ISSUER_OF_PATIENT_ID,
        OTHER_PATIENT_IDS_SEQUENCE,
        items.ACCESSION_NUMBER,
        ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
        items.STUDY_INSTANCE_UID,
        items.REQUESTED_PROCEDURE_ID,
        items.PLACER_ORDER_NUMBER,
        items.ORDER_PLACER_IDENTIFIER_SEQUENCE,
        items.FILLER_ORDER_NUMBER,
        items.ORDER_FILLER_IDENTIFIER_SEQUENCE,
        items.SCHEDULED_PROCEDURE_STEP_ID,
    )
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a message says about which order it means; "" for what it does not say."""

    # "hl7 APPLICATION|FACILITY": others may use the same numbers.
    origin: str
    study_instance_uid: str
    placer: OrderNumber
    filler: OrderNumber
    accession_number: str
    requested_procedure_id: str
    patients: tuple[Patient, ...]

    @classmethod
    def of(cls, attributes: Attributes, origin: str) -> "Identity":
        """Of what a message says."""
        keys = keys_of(attributes)
        return cls(
            origin,
            keys.study_instance_uid,
            keys.placer,
            keys.filler,
            keys.accession_number,
            keys.requested_procedure_id,
            patients_of(attributes),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it means no order at all."""
        return not self.has_numbers and not self.requested_procedure_id

    @property
    def has_numbers(self) -> bool:
        """Whether it has more than a Requested Procedure ID, which may be unique within one order only."""
        return bool(self.study_instance_uid or self.placer.number or self.filler.number or self.accession_number)

    @property
    def number(self) -> str:
        """The order, for two groups of a message that are about the same one."""
        return "\n".join((*self.placer, *self.filler, self.accession_number, self.requested_procedure_id))

    def columns(self) -> dict[str, str]:
        """What an item of the order has one of, by column of worklist.tables.ITEMS."""
        named = {
            "study_instance_uid": self.study_instance_uid,
            "filler_order_number": self.filler.number,
            "placer_order_number": self.placer.number,
            "accession_number": self.accession_number,
            "requested_procedure_id": self.requested_procedure_id if not self.has_numbers else "",
        }
        return {column: text for column, text in named.items() if text}

    def keys(self) -> list[str]:
        """A key for each identifier, under which something can be kept for an order that is not there yet."""
        named = {
            "filler": "\n".join((self.origin, *self.filler)) if self.filler.number else "",
            "placer": "\n".join((self.origin, *self.placer)) if self.placer.number else "",
            "study": self.study_instance_uid,
            "accession": f"{self.origin}\n{self.accession_number}" if self.accession_number else "",
            "procedure": f"{self.origin}\n{self.requested_procedure_id}" if not self.has_numbers else "",
        }
        return [_digest(f"{name}\n{text}") for name, text in named.items() if text]

    def narrow_keys(self) -> list[str]:
        """The keys that no other order shares: its numbers, if it has any."""
        numbers = bool(self.filler.number) + bool(self.placer.number)
        return self.keys()[: numbers or 1]


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode("utf-8", "replace")).hexdigest()


def patients_of(attributes: Attributes) -> tuple[Patient, ...]:
    """All identifiers of the patient, Patient ID first."""
    element = attributes.get(OTHER_PATIENT_IDS_SEQUENCE)
    others = element.value if element and not isinstance(element.value, str) else ()
    found = (
        Patient(text_of(item, items.PATIENT_ID), text_of(item, items.ISSUER_OF_PATIENT_ID))
        for item in (attributes, *others)
    )
    return tuple(patient for patient in found if patient.patient_id)


def is_same_patient(these: Sequence[Patient], those: Sequence[Patient]) -> bool:
    """Whether they have an identifier in common; an issuer that nobody named is equal to every other."""
    return any(
        one.patient_id == other.patient_id and (not one.issuer or not other.issuer or one.issuer == other.issuer)
        for one in these
        for other in those
    )


def find_order(connection: Connection, identity: Identity) -> list[Known]:
    """The items of the order that a message means. Raises MessageError if they are another patient's."""
    # Most orders are new: one question instead of four.
    if not store.has_any(connection, identity.columns()):
        return []
    for criterion in _criteria(connection, identity):
        _check_patient(criterion, identity)
        found = [known for known in recall(connection, criterion) if _belongs(known, identity)]
        if found:
            return found
    return []


def check_study(connection: Connection, study_instance_uid: str, identity: Identity) -> None:
    """Raises MessageError if another patient has this study."""
    _check_patient(store.find(connection, study_instance_uid=study_instance_uid), identity)


def _criteria(connection: Connection, identity: Identity) -> Iterator[list[Item]]:
    if identity.study_instance_uid:
        yield store.find(connection, study_instance_uid=identity.study_instance_uid)
    if identity.filler.number:
        yield _ours(store.find(connection, filler=identity.filler), identity)
    if identity.placer.number:
        yield _ours(store.find(connection, placer=identity.placer), identity)
    if identity.accession_number:
        yield _ours(store.find(connection, accession_number=identity.accession_number), identity)
    elif not identity.has_numbers:
        yield _ours(store.find(connection, requested_procedure_id=identity.requested_procedure_id), identity)


def _ours(found: list[Item], identity: Identity) -> list[Item]:
    """Without items that have the same number by chance: they came from elsewhere, and are for another patient."""
    return [
        item
        for item in found
        if item.origin == identity.origin or is_same_patient(patients_of(item.attributes), identity.patients)
    ]


def _check_patient(found: Iterable[Item], identity: Identity) -> None:
    if not identity.patients:
        return
    for item in found:
        if not is_same_patient(patients_of(item.attributes), identity.patients):
            raise MessageError(
                ErrorCode.DUPLICATE_KEY_IDENTIFIER,
                "PID^1^3",
                f"item {item.id} with the same study or order number is another patient's",
            )


def _belongs(known: Known, identity: Identity) -> bool:
    """Whether nothing that both say is different."""
    item, memory = known
    keys = item.keys
    if _differ(keys.placer, identity.placer) or _differ(keys.filler, identity.filler):
        return False
    if identity.study_instance_uid and keys.study_instance_uid == identity.study_instance_uid:
        return True
    said = {
        items.STUDY_INSTANCE_UID: (keys.study_instance_uid, identity.study_instance_uid),
        items.REQUESTED_PROCEDURE_ID: (keys.requested_procedure_id, identity.requested_procedure_id),
    }
    return all(not one or not other or one == other or tag in memory.derived for tag, (one, other) in said.items())


def _differ(one: OrderNumber, other: OrderNumber) -> bool:
    if not one.number or not other.number:
        return False
    return one.number != other.number or bool(one.namespace and other.namespace and one.namespace != other.namespace)
