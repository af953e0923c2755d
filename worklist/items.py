"""A worklist item: its attributes, its status, and the keys that it is found by. The keys are derived here only."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.matching import times
from gateway.matching.attributes import Attributes, Element
from gateway.matching.text import normal_name

# PS3.4 table K.6-1
ACCESSION_NUMBER: Final = 0x0008_0050
MODALITY: Final = 0x0008_0060
PATIENT_NAME: Final = 0x0010_0010
PATIENT_ID: Final = 0x0010_0020
ISSUER_OF_PATIENT_ID: Final = 0x0010_0021
STUDY_INSTANCE_UID: Final = 0x0020_000D
SCHEDULED_STATION_AE_TITLE: Final = 0x0040_0001
SCHEDULED_DATE: Final = 0x0040_0002
SCHEDULED_TIME: Final = 0x0040_0003
SCHEDULED_PROCEDURE_STEP_ID: Final = 0x0040_0009
SCHEDULED_PROCEDURE_STEP_STATUS: Final = 0x0040_0020
ORDER_PLACER_IDENTIFIER_SEQUENCE: Final = 0x0040_0026
ORDER_FILLER_IDENTIFIER_SEQUENCE: Final = 0x0040_0027
LOCAL_NAMESPACE_ENTITY_ID: Final = 0x0040_0031
UNIVERSAL_ENTITY_ID: Final = 0x0040_0032
SCHEDULED_PROCEDURE_STEP_SEQUENCE: Final = 0x0040_0100
REQUESTED_PROCEDURE_ID: Final = 0x0040_1001
PLACER_ORDER_NUMBER: Final = 0x0040_2016
FILLER_ORDER_NUMBER: Final = 0x0040_2017
WORKLIST_LABEL: Final = 0x0074_1202

# What a peer sends may be longer than its VR allows; keys are compared up to here.
MAXIMUM_KEY_CHARACTERS: Final = 255


class Status(StrEnum):
    """Scheduled Procedure Step Status (0040,0020): PS3.3 C.4.10, and COMPLETED for what is done."""

    SCHEDULED = "SCHEDULED"
    ARRIVED = "ARRIVED"
    READY = "READY"
    STARTED = "STARTED"
    DEPARTED = "DEPARTED"
    CANCELED = "CANCELED"
    DISCONTINUED = "DISCONTINUED"
    COMPLETED = "COMPLETED"


# Of the others a modality is not told, unless it asks for them.
UNFINISHED: Final = (Status.SCHEDULED, Status.ARRIVED, Status.READY)


class OrderNumber(NamedTuple):
    """A placer or filler order number: HL7 EI.1, and EI.2 or EI.3 as far as they are known."""

    number: str
    namespace: str = ""


class Patient(NamedTuple):
    """Patient ID and Issuer of Patient ID; an empty issuer is one that nobody named."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """What an item is found by; "" for what it does not have."""

    partition: str
    placer: OrderNumber
    filler: OrderNumber
    accession_number: str
    study_instance_uid: str
    scheduled_procedure_step_id: str
    requested_procedure_id: str
    patient: Patient
    modality: str
    scheduled_date: str
    scheduled_time: str
    # Scheduled Station AE Title may have several values.
    stations: tuple[str, ...]
    # The component groups of Patient's Name, as gateway.matching compares them.
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One Scheduled Procedure Step with its order and its patient, as it stands in the store.

    `attributes` have one item in Scheduled Procedure Step Sequence, which says `status`. Times are nanoseconds
    since 1970.
    """

    id: int
    attributes: Attributes
    status: Status
    # Who brought it: "hl7 APPLICATION|FACILITY", "file NAME", "command line".
    origin: str
    created_at: int
    changed_at: int

    @property
    def keys(self) -> Keys:
        """What it is found by."""
        return keys_of(self.attributes)

    @property
    def patient_name(self) -> str:
        """Patient's Name."""
        return text_of(self.attributes, PATIENT_NAME)

    @property
    def step(self) -> Attributes:
        """The item of its Scheduled Procedure Step Sequence."""
        return step_of(self.attributes)


def keys_of(attributes: Attributes) -> Keys:
    """The keys of an item with these attributes."""
    step = step_of(attributes)
    day = times.parse_range("DA", text_of(step, SCHEDULED_DATE))
    return Keys(
        partition=text_of(attributes, WORKLIST_LABEL),
        placer=_order_number(attributes, PLACER_ORDER_NUMBER, ORDER_PLACER_IDENTIFIER_SEQUENCE),
        filler=_order_number(attributes, FILLER_ORDER_NUMBER, ORDER_FILLER_IDENTIFIER_SEQUENCE),
        accession_number=text_of(attributes, ACCESSION_NUMBER),
        study_instance_uid=text_of(attributes, STUDY_INSTANCE_UID),
        scheduled_procedure_step_id=text_of(step, SCHEDULED_PROCEDURE_STEP_ID),
        requested_procedure_id=text_of(attributes, REQUESTED_PROCEDURE_ID),
        patient=Patient(text_of(attributes, PATIENT_ID), text_of(attributes, ISSUER_OF_PATIENT_ID)),
        modality=text_of(step, MODALITY),
        scheduled_date=times.days(day)[0] if day else "",
        scheduled_time=text_of(step, SCHEDULED_TIME),
        stations=values_of(step, SCHEDULED_STATION_AE_TITLE),
        names=_names(attributes.get(PATIENT_NAME)),
    )


def step_of(attributes: Attributes) -> Attributes:
    """The first item of Scheduled Procedure Step Sequence; nothing if there is none."""
    return first_item(attributes, SCHEDULED_PROCEDURE_STEP_SEQUENCE)


def status_of(attributes: Attributes) -> Status | None:
    """The Scheduled Procedure Step Status that they say, if they say one."""
    text = text_of(step_of(attributes), SCHEDULED_PROCEDURE_STEP_STATUS)
    return Status(text) if text in Status.__members__ else None


def first_item(attributes: Attributes, tag: int) -> Attributes:
    """The first item of a sequence; nothing if there is none."""
    element = attributes.get(tag)
    return element.value[0] if element and not isinstance(element.value, str) and element.value else {}


def text_of(attributes: Attributes, tag: int) -> str:
    """The text of an attribute without padding, cut as keys are; "" if it is missing or empty."""
    element = attributes.get(tag)
    return clean_key(element.value) if element and isinstance(element.value, str) else ""


def values_of(attributes: Attributes, tag: int) -> tuple[str, ...]:
    """The values of an attribute, without padding and without empty ones."""
    element = attributes.get(tag)
    values = element.value.split("\\") if element and isinstance(element.value, str) else ()
    return tuple(dict.fromkeys(cleaned for value in values if (cleaned := clean_key(value))))


def with_status(attributes: Attributes, status: Status) -> Attributes:
    """The attributes, saying `status` in their Scheduled Procedure Step Sequence."""
    said = Element("CS", status.value)
    step = {**step_of(attributes), SCHEDULED_PROCEDURE_STEP_STATUS: said}
    return {**attributes, SCHEDULED_PROCEDURE_STEP_SEQUENCE: Element("SQ", (step,))}


def _order_number(attributes: Attributes, tag: int, sequence: int) -> OrderNumber:
    namespace = first_item(attributes, sequence)
    return OrderNumber(
        text_of(attributes, tag),
        text_of(namespace, LOCAL_NAMESPACE_ENTITY_ID) or text_of(namespace, UNIVERSAL_ENTITY_ID),
    )


def _names(element: Element | None) -> tuple[str, ...]:
    """The component groups of a person name, as a query's are compared with them."""
    text = element.value if element and isinstance(element.value, str) else ""
    groups = [group for value in text.split("\\") for group in value.split("=")]
    names = (clean_key(normal_name(group, case_sensitive=False)) for group in groups)
    return tuple(dict.fromkeys(name for name in names if name))


def clean_key(text: str) -> str:
    """A text as it is kept in a key's column. PostgreSQL takes neither NUL nor half a surrogate pair."""
    text = text.replace("\0", "").strip(" ")[:MAXIMUM_KEY_CHARACTERS]
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
