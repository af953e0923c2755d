"""The field map: which fields of a message become which attributes. One line each, read top to bottom.

From IHE RAD TF-2x appendix B, and what senders do besides. docs/hl7.md shows this table.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from worklist.orders import conversions as c
from worklist.orders.conversions import Conversion

# To kilograms and metres. UCUM, HL7's ANS+ and ISO+ units, and what people write.
_KILOGRAMS: Final = {
    **dict.fromkeys(("kg", "kgs", "kilogram", "kilograms", "kilo"), 1.0),
    **dict.fromkeys(("g", "gm", "gr", "gram", "grams"), 0.001),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), 0.45359237),
    **dict.fromkeys(("oz", "ounce", "ounces"), 0.028349523125),
    **dict.fromkeys(("st", "stone", "stones"), 6.35029318),
}
_METRES: Final = {
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre", "centimeters", "centimetres"), 0.01),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 0.001),
    **dict.fromkeys(("in", "inch", "inches", '"'), 0.0254),
    **dict.fromkeys(("ft", "foot", "feet"), 0.3048),
}
# LOINC and the texts that are found in OBX-3.
_WEIGHT: Final = tuple(
    f"OBX[{code}]-5" for code in ("29463-7", "3141-9", "3142-7", "Body Weight", "Patient Weight", "Weight")
)
_HEIGHT: Final = tuple(
    f"OBX[{code}]-5" for code in ("8302-2", "3137-7", "3138-5", "Body Height", "Patient Height", "Height")
)
WEIGHT: Final = c.measured("kg from kg, g, lb, oz, st", _KILOGRAMS, "kg", 0.1, 1000)
HEIGHT: Final = c.measured("m from m, cm, mm, in, ft", _METRES, "m", 0.1, 3)

# PS3.3 C.7.1.1: M, F, O. Table 0001: A ambiguous, N not applicable, U unknown.
SEX: Final = c.table("M, F; A, N, O, X are O; others empty", {
    "M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "W": "F",
    "O": "O", "A": "O", "N": "O", "X": "O", "D": "O",
}, "CS", "")  # fmt: skip
# PS3.3 C.4.11, tables 0485 and 0027 of HL7.
PRIORITY: Final = c.table("STAT, HIGH, ROUTINE, MEDIUM, LOW", {
    "S": "STAT", "STAT": "STAT", "A": "HIGH", "ASAP": "HIGH", "P": "HIGH", "C": "HIGH", "U": "HIGH", "E": "HIGH",
    "R": "ROUTINE", "T": "MEDIUM", "L": "LOW", "PRN": "LOW",
    "HIGH": "HIGH", "ROUTINE": "ROUTINE", "MEDIUM": "MEDIUM", "LOW": "LOW",
}, "SH")  # fmt: skip
# PV1-15, table 0009: B6 is pregnant; PS3.3 C.4.18: 3 is definitely, 4 unknown.
PREGNANCY: Final = c.table("B6 is 3, definitely pregnant", {"B6": "3"}, "US")


class Level(Enum):
    """What an attribute is of. Messages that change an order leave patient and visit alone (IHE RAD TF-2, 4.13)."""

    PATIENT = "patient"
    VISIT = "visit"
    ORDER = "order"
    # In the item of Scheduled Procedure Step Sequence.
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute. The first of `sources` that says something counts."""

    attribute: str
    sources: tuple[str, ...]
    conversion: Conversion
    level: Level


def _row(level: Level, attribute: str, conversion: Conversion, *sources: str) -> Row:
    return Row(attribute, sources, conversion, level)


_P, _V, _O, _S = Level.PATIENT, Level.VISIT, Level.ORDER, Level.STEP
_START: Final = ("TQ1-7", "ORC-7.4", "OBR-27.4", "OBR-36", "AIS-4", "SCH-11.4")

FIELD_MAP: Final[tuple[Row, ...]] = (
    _row(_P, "PatientName", c.XPN_NAME, "PID-5"),
    _row(_P, "PatientID", c.PATIENT_ID, "PID-3", "PID-2"),
    _row(_P, "IssuerOfPatientID", c.PATIENT_ISSUER, "PID-3"),
    _row(_P, "IssuerOfPatientIDQualifiersSequence", c.PATIENT_ISSUER_QUALIFIERS, "PID-3"),
    _row(_P, "OtherPatientIDsSequence", c.OTHER_PATIENT_IDS, "PID-3"),
    _row(_P, "PatientBirthDate", c.BIRTH_DATE, "PID-7"),
    _row(_P, "PatientSex", SEX, "PID-8"),
    _row(_P, "OtherPatientNames", c.XPN_NAME, "PID-9"),
    _row(_P, "PatientMotherBirthName", c.XPN_NAME, "PID-6"),
    _row(_P, "PatientAddress", c.joined("LO", (1, 2, 5, 3, 4, 6), ", "), "PID-11"),
    _row(_P, "PatientTelephoneNumbers", c.text("SH", several=True), "PID-13", "PID-14"),
    _row(_P, "PatientWeight", WEIGHT, *_WEIGHT),
    _row(_P, "PatientSize", HEIGHT, *_HEIGHT),
    _row(_P, "Allergies", c.text("LO", several=True), "AL1-3.2", "AL1-3.1"),
    _row(_P, "PatientComments", c.text("LT"), "PID/NTE-3"),
    _row(_V, "PregnancyStatus", PREGNANCY, "PV1-15"),
    _row(_V, "ConfidentialityConstraintOnPatientDataDescription", c.text("LO"), "PV1-16"),
    _row(_V, "AdmissionID", c.text("LO"), "PV1-19", "PID-18"),
    _row(_V, "IssuerOfAdmissionIDSequence", c.ISSUER, "PV1-19.4", "PID-18.4"),
    _row(_V, "CurrentPatientLocation", c.joined("LO", (1, 2, 3, 4), " "), "PV1-3"),
    _row(_V, "AdmittingDate", c.DATE, "PV1-44"),
    _row(_V, "AdmittingTime", c.TIME, "PV1-44"),
    _row(_V, "ReferringPhysicianName", c.XCN_NAME, "PV1-8"),
    _row(_V, "AdmittingDiagnosesDescription", c.text("LO", several=True), "DG1-3.2", "DG1-4"),
    _row(_O, "AccessionNumber", c.IDENTIFIER, "IPC-1.1", "OBR-18.1"),
    _row(_O, "IssuerOfAccessionNumberSequence", c.ISSUER, "IPC-1.2-4"),
    _row(_O, "StudyInstanceUID", c.STUDY_UID, "IPC-3.1", "ZDS-1.1", "OBX[113014]-5", "OBX[Study Instance UID]-5"),
    _row(_O, "RequestedProcedureID", c.IDENTIFIER, "IPC-2.1", "OBR-19.1"),
    _row(
        _O,
        "RequestedProcedureDescription",
        c.text("LO"),
        *("OBR-44.2", "OBR-4.2", "OBR-4.5", "OBR-44.1", "OBR-4.1", "AIS-3.2", "AIS-3.1", "SCH-7.2"),
    ),
    _row(_O, "RequestedProcedureCodeSequence", c.CODE, "OBR-44", "OBR-4", "AIS-3"),
    _row(_O, "RequestedProcedurePriority", PRIORITY, "TQ1-9", "OBR-27.6", "ORC-7.6", "OBR-5", "SCH-11.6"),
    _row(_O, "RequestedProcedureComments", c.text("LT"), "OBR/NTE-3", "ORC/NTE-3", "TQ1/NTE-3", "SCH/NTE-3"),
    _row(
        _O,
        "ReasonForTheRequestedProcedure",
        c.text("LO"),
        *("OBR-31.2", "OBR-31.5", "OBR-31.1", "ORC-16.2", "DG1-3.2", "DG1-4", "SCH-7.2"),
    ),
    _row(_O, "ReasonForRequestedProcedureCodeSequence", c.CODE, "OBR-31", "DG1-3"),
    _row(_O, "RequestingPhysician", c.XCN_NAME, "OBR-16", "ORC-12", "SCH-16"),
    _row(_O, "RequestingService", c.text("LO"), "ORC-17.2", "ORC-17.1", "ORC-13.1"),
    _row(_O, "PatientTransportArrangements", c.text("LO"), "OBR-30.2", "OBR-30.1"),
    _row(_O, "NamesOfIntendedRecipientsOfResults", c.XCN_NAMES, "OBR-28"),
    _row(_O, "OrderCallbackPhoneNumber", c.text("SH"), "OBR-17", "ORC-14"),
    _row(_O, "ConfidentialityCode", c.text("LO"), "ORC-28.2", "ORC-28.1"),
    _row(_O, "PatientState", c.text("LO"), "OBR-12.2", "OBR-12.1"),
    _row(_O, "MedicalAlerts", c.text("LO", several=True), "OBR-13"),
    _row(_O, "InstitutionName", c.text("LO"), "ORC-21.1", "MSH-4.1"),
    _row(_O, "InstitutionalDepartmentName", c.text("LO"), "ORC-13.9"),
    _row(_O, "PlacerOrderNumberImagingServiceRequest", c.text("LO"), "ORC-2.1", "OBR-2.1", "SCH-26.1", "SCH-1.1"),
    _row(_O, "OrderPlacerIdentifierSequence", c.ISSUER, "ORC-2.2-4", "OBR-2.2-4", "SCH-26.2-4", "SCH-1.2-4"),
    _row(_O, "FillerOrderNumberImagingServiceRequest", c.text("LO"), "ORC-3.1", "OBR-3.1", "SCH-27.1", "SCH-2.1"),
    _row(_O, "OrderFillerIdentifierSequence", c.ISSUER, "ORC-3.2-4", "OBR-3.2-4", "SCH-27.2-4", "SCH-2.2-4"),
    _row(_O, "TimezoneOffsetFromUTC", c.START_OFFSET, *_START),
    _row(_S, "Modality", c.MODALITY, "IPC-5.1", "OBR-24"),
    _row(_S, "ScheduledStationAETitle", c.text("AE", several=True), "IPC-9"),
    _row(_S, "ScheduledStationName", c.text("SH", several=True), "IPC-7.1"),
    _row(_S, "ScheduledProcedureStepLocation", c.text("SH"), "IPC-8.2", "IPC-8.1", "AIL-3.1"),
    _row(_S, "ScheduledProcedureStepStartDate", c.START_DATE, *_START),
    _row(_S, "ScheduledProcedureStepStartTime", c.START_TIME, *_START),
    _row(_S, "ScheduledPerformingPhysicianName", c.PERFORMER, "OBR-34", "AIP-3"),
    _row(
        _S,
        "ScheduledProcedureStepDescription",
        c.text("LO"),
        *("IPC-6.2", "IPC-6.1", "AIS-3.2", "AIS-3.1", "OBR-4.5", "OBR-4.2", "OBR-44.2", "OBR-4.1", "SCH-7.2"),
    ),
    _row(_S, "ScheduledProtocolCodeSequence", c.CODE, "IPC-6", "AIS-3", "OBR-4.4-6", "OBR-4", "OBR-44"),
    _row(_S, "ScheduledProcedureStepID", c.IDENTIFIER, "IPC-4.1", "OBR-20.1"),
)
