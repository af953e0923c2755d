"""The attributes of the Modality Worklist (PS3.4 table K.6-1): which are matched, and what belongs to a sequence.

Every attribute is returned if an item has it, listed here or not. docs/conformance.md is tested against this table.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway.matching.attributes import vr_of
from worklist import items

CODE_VALUE: Final = 0x0008_0100
LONG_CODE_VALUE: Final = 0x0008_0119
URN_CODE_VALUE: Final = 0x0008_0120
CODE_MEANING: Final = 0x0008_0104
REFERENCED_SOP_CLASS_UID: Final = 0x0008_1150
REFERENCED_SOP_INSTANCE_UID: Final = 0x0008_1155


class Attribute(NamedTuple):
    """One attribute. `items` are those of a sequence's items."""

    tag: int
    is_matched: bool
    items: Mapping[int, "Attribute"]


Attributes = Mapping[int, Attribute]


def _sequence(tag: int, *attributes: Attribute) -> Attribute:
    return Attribute(tag, True, _by_tag(attributes))


def _matched(*tags: int) -> tuple[Attribute, ...]:
    return tuple(Attribute(tag, True, {}) for tag in tags)


def _returned(*tags: int) -> tuple[Attribute, ...]:
    """Attributes whose values in a query are not compared: prose and measurements."""
    return tuple(Attribute(tag, False, {}) for tag in tags)


def _by_tag(attributes: Iterable[Attribute]) -> Attributes:
    return MappingProxyType({attribute.tag: attribute for attribute in attributes})


def _codes(tag: int) -> Attribute:
    """PS3.3 table 8.8-1: Code Value, Coding Scheme Designator and Version, Code Meaning."""
    return _sequence(tag, *_matched(CODE_VALUE, 0x0008_0102, 0x0008_0103, CODE_MEANING))


def _references(tag: int) -> Attribute:
    """PS3.3 table 10-11."""
    return _sequence(tag, *_matched(REFERENCED_SOP_CLASS_UID, REFERENCED_SOP_INSTANCE_UID))


def _issuer(tag: int) -> Attribute:
    """PS3.3 table 10-17, HL7v2 Hierarchic Designator."""
    return _sequence(tag, *_matched(items.LOCAL_NAMESPACE_ENTITY_ID, items.UNIVERSAL_ENTITY_ID, 0x0040_0033))


_STEP: Final = _sequence(
    items.SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    *_matched(
        items.SCHEDULED_STATION_AE_TITLE,
        items.SCHEDULED_DATE,
        items.SCHEDULED_TIME,
        items.MODALITY,
        0x0040_0006,  # Scheduled Performing Physician's Name
        0x0040_0007,  # Scheduled Procedure Step Description
        0x0040_0010,  # Scheduled Station Name
        0x0040_0011,  # Scheduled Procedure Step Location
        items.SCHEDULED_PROCEDURE_STEP_ID,
        items.SCHEDULED_PROCEDURE_STEP_STATUS,
        0x0032_1070,  # Requested Contrast Agent
    ),
    _codes(0x0040_0008),  # Scheduled Protocol Code Sequence
    _references(0x0018_990C),  # Referenced Defined Protocol Sequence
    _references(0x0018_990D),  # Referenced Performed Protocol Sequence
    *_returned(
        0x0040_0004,  # Scheduled Procedure Step End Date
        0x0040_0005,  # Scheduled Procedure Step End Time
        0x0040_0012,  # Pre-Medication
        0x0040_0400,  # Comments on the Scheduled Procedure Step
    ),
)

ATTRIBUTES: Final[Attributes] = _by_tag(
    (
        _STEP,
        _sequence(
            0x0040_0500,  # Scheduled Specimen Sequence
            *_matched(0x0040_0512),  # Container Identifier
            _codes(0x0040_0518),  # Container Type Code Sequence
            _sequence(
                0x0040_0560,  # Specimen Description Sequence
                *_matched(0x0040_0551, 0x0040_0554),  # Specimen Identifier, Specimen UID
            ),
        ),
        # the Requested Procedure
        *_matched(
            items.REQUESTED_PROCEDURE_ID,
            0x0032_1060,  # Requested Procedure Description
            items.STUDY_INSTANCE_UID,
            0x0008_0020,  # Study Date
            0x0008_0030,  # Study Time
            0x0040_1003,  # Requested Procedure Priority
            0x0040_1004,  # Patient Transport Arrangements
            items.WORKLIST_LABEL,
        ),
        _codes(0x0032_1064),  # Requested Procedure Code Sequence
        _references(0x0008_1110),  # Referenced Study Sequence
        *_returned(
            0x0040_1002,  # Reason for the Requested Procedure
            0x0040_1400,  # Requested Procedure Comments
        ),
        _codes(0x0040_100A),  # Reason for Requested Procedure Code Sequence
        # the Imaging Service Request
        *_matched(
            items.ACCESSION_NUMBER,
            0x0032_1032,  # Requesting Physician
            0x0008_0090,  # Referring Physician's Name
            0x0032_1033,  # Requesting Service
            items.PLACER_ORDER_NUMBER,
            items.FILLER_ORDER_NUMBER,
        ),
        _issuer(0x0008_0051),  # Issuer of Accession Number Sequence
        _issuer(items.ORDER_PLACER_IDENTIFIER_SEQUENCE),
        _issuer(items.ORDER_FILLER_IDENTIFIER_SEQUENCE),
        *_returned(0x0040_2400),  # Imaging Service Request Comments
        # the Visit
        *_matched(
            0x0038_0010,  # Admission ID
            0x0038_0300,  # Current Patient Location
            0x0008_0080,  # Institution Name
            0x0008_1040,  # Institutional Department Name
        ),
        _issuer(0x0038_0014),  # Issuer of Admission ID Sequence
        _references(0x0008_1120),  # Referenced Patient Sequence
        *_returned(
            0x0008_0081,  # Institution Address
            0x0008_1080,  # Admitting Diagnoses Description
        ),
        # the Patient
        *_matched(
            items.PATIENT_NAME,
            items.PATIENT_ID,
            items.ISSUER_OF_PATIENT_ID,
            0x0010_0030,  # Patient's Birth Date
            0x0010_0040,  # Patient's Sex
            0x0010_2297,  # Responsible Person
            0x0010_2298,  # Responsible Person Role
            0x0040_3001,  # Confidentiality Constraint on Patient Data Description
            0x0038_0500,  # Patient State
            0x0010_21C0,  # Pregnancy Status
        ),
        _sequence(
            0x0010_1002,  # Other Patient IDs Sequence
            *_matched(items.PATIENT_ID, items.ISSUER_OF_PATIENT_ID),
        ),
        *_returned(
            0x0010_1020,  # Patient's Size
            0x0010_1030,  # Patient's Weight
            0x0010_1040,  # Patient's Address
            0x0010_2000,  # Medical Alerts
            0x0010_2110,  # Allergies
            0x0010_2160,  # Ethnic Group
            0x0010_21A0,  # Smoking Status
            0x0010_21B0,  # Additional Patient History
            0x0010_4000,  # Patient Comments
            0x0038_0050,  # Special Needs
        ),
    )
)


def is_sequence(tag: int) -> bool:
    """Whether PS3.6 gives this attribute items."""
    return vr_of(tag) == "SQ"
