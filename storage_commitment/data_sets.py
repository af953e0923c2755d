"""The data sets of storage commitment: Action Information (PS3.4 J.3.2.1), Event Information (J.3.3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from gateway.dicom.character_sets import ASCII
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes, Element, name_of
from gateway.matching.identifier import read_attributes
from gateway.matching.keys import InvalidQuery, Key

STORAGE_COMMITMENT_PUSH_MODEL: Final = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"

# Less than the receiver of messages takes, so that what is too large gets a status. Some 150 bytes for each: 10,000
# instances have 1.5 MB.
MAXIMUM_DATA_SET_BYTES: Final = 8 * 1024 * 1024
MAXIMUM_REFERENCES: Final = 50_000
# Each reference has two; what else there is has a few.
MAXIMUM_ELEMENTS: Final = 3 * MAXIMUM_REFERENCES
MAXIMUM_UID_CHARACTERS: Final = 64

_TRANSACTION_UID: Final = 0x0008_1195
_REFERENCED_SOP_SEQUENCE: Final = 0x0008_1199
_FAILED_SOP_SEQUENCE: Final = 0x0008_1198
_REFERENCED_SOP_CLASS_UID: Final = 0x0008_1150
_REFERENCED_SOP_INSTANCE_UID: Final = 0x0008_1155
_FAILURE_REASON: Final = 0x0008_1197
_RETRIEVE_AE_TITLE: Final = 0x0008_0054


class Reference(NamedTuple):
    """An instance that is to be safe."""

    sop_class_uid: str
    sop_instance_uid: str


class FailureReason(Enum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    REFERENCED_SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


class Fault(Enum):
    """What is wrong with a data set; scp has the statuses."""

    UNREADABLE = 1
    MISSING_ATTRIBUTE = 2
    INVALID_VALUE = 3
    TOO_LARGE = 4


class InvalidDataSet(Exception):
    """The data set is not what its service demands; the text is for the peer."""

    def __init__(self, fault: Fault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What an N-ACTION asks for."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What an N-EVENT-REPORT says. Reasons are numbers: a peer may have others than FailureReason."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...]


def read_request(data: bytes, transfer_syntax_uid: str) -> CommitmentRequest:
    """Decode the Action Information. Each instance counts once. Raises InvalidDataSet."""
    attributes = _read(data, transfer_syntax_uid)
    transaction_uid = _uid(attributes, _TRANSACTION_UID)
    references = [_reference(item) for item in _items(attributes, _REFERENCED_SOP_SEQUENCE)]
    if not references:
        raise InvalidDataSet(Fault.INVALID_VALUE, f"{name_of(_REFERENCED_SOP_SEQUENCE)} has no item")
    return CommitmentRequest(transaction_uid, tuple(dict.fromkeys(references)))


def read_report(data: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Decode the Event Information. Raises InvalidDataSet."""
    attributes = _read(data, transfer_syntax_uid)
    committed = _items(attributes, _REFERENCED_SOP_SEQUENCE) if _REFERENCED_SOP_SEQUENCE in attributes else ()
    failed = _items(attributes, _FAILED_SOP_SEQUENCE) if _FAILED_SOP_SEQUENCE in attributes else ()
    return CommitmentReport(
        _uid(attributes, _TRANSACTION_UID),
        tuple(_reference(item) for item in committed),
        tuple((_reference(item), _reason(item)) for item in failed),
    )


def encode_report(
    request: CommitmentRequest,
    failures: Mapping[str, FailureReason],
    retrieve_ae_title: str,
    transfer_syntax_uid: str,
) -> bytes:
    """The Event Information; `failures` by SOP Instance UID."""
    committed = [one for one in request.references if one.sop_instance_uid not in failures]
    failed = [one for one in request.references if one.sop_instance_uid in failures]
    attributes: Attributes = {
        _TRANSACTION_UID: Element("UI", request.transaction_uid),
        _RETRIEVE_AE_TITLE: Element("AE", retrieve_ae_title),
    }
    if committed:
        attributes[_REFERENCED_SOP_SEQUENCE] = Element("SQ", tuple(map(_item, committed)))
    if failed:
        attributes[_FAILED_SOP_SEQUENCE] = Element("SQ", tuple(_failed_items(failed, failures)))
    keys = tuple(Key(tag, element.vr) for tag, element in attributes.items())
    return AnswerEncoder(keys, transfer_syntax_uid, ASCII, ()).encode(attributes)


def _failed_items(failed: Sequence[Reference], failures: Mapping[str, FailureReason]) -> Iterable[Attributes]:
    for one in failed:
        yield {**_item(one), _FAILURE_REASON: Element("US", str(failures[one.sop_instance_uid].value))}


def _item(reference: Reference) -> Attributes:
    return {
        _REFERENCED_SOP_CLASS_UID: Element("UI", reference.sop_class_uid),
        _REFERENCED_SOP_INSTANCE_UID: Element("UI", reference.sop_instance_uid),
    }


def _read(data: bytes, transfer_syntax_uid: str) -> Attributes:
    if len(data) > MAXIMUM_DATA_SET_BYTES:
        raise InvalidDataSet(Fault.TOO_LARGE, f"data set of more than {MAXIMUM_DATA_SET_BYTES} bytes")
    try:
        return read_attributes(
            data,
            transfer_syntax_uid,
            ASCII,
            maximum_bytes=MAXIMUM_DATA_SET_BYTES,
            maximum_attributes=MAXIMUM_ELEMENTS,
        )
    except InvalidQuery as error:
        raise InvalidDataSet(Fault.UNREADABLE, str(error)) from error


def _items(attributes: Attributes, tag: int) -> tuple[Attributes, ...]:
    element = attributes.get(tag)
    if element is None:
        raise InvalidDataSet(Fault.MISSING_ATTRIBUTE, f"{name_of(tag)} is missing")
    if isinstance(element.value, str):
        raise InvalidDataSet(Fault.INVALID_VALUE, f"{name_of(tag)} is no sequence")
    if len(element.value) > MAXIMUM_REFERENCES:
        raise InvalidDataSet(Fault.TOO_LARGE, f"more than {MAXIMUM_REFERENCES} instances")
    return element.value


def _reference(item: Attributes) -> Reference:
    return Reference(_uid(item, _REFERENCED_SOP_CLASS_UID), _uid(item, _REFERENCED_SOP_INSTANCE_UID))


def _uid(attributes: Attributes, tag: int) -> str:
    element = attributes.get(tag)
    if element is None:
        raise InvalidDataSet(Fault.MISSING_ATTRIBUTE, f"{name_of(tag)} is missing")
    value = element.value.strip(" \0") if isinstance(element.value, str) else ""
    if not is_uid(value):
        raise InvalidDataSet(Fault.INVALID_VALUE, f"{name_of(tag)} is no UID")
    return value


def is_uid(value: str) -> bool:
    """Whether `value` has the characters and the length of a UID (PS3.5 9.1). Leading zeros occur in the field."""
    components = value.split(".")
    return len(value) <= MAXIMUM_UID_CHARACTERS and value.isascii() and all(map(str.isdecimal, components))


def _reason(item: Attributes) -> int:
    element = item.get(_FAILURE_REASON)
    if element is None or not isinstance(element.value, str) or not element.value.isdecimal():
        return FailureReason.PROCESSING_FAILURE.value
    return int(element.value)
