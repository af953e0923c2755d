"""Where Orthanc has an attribute: in its index, to be computed, or in the stored file. Tables for Orthanc 1.10.1."""

from __future__ import annotations

from enum import Enum
from typing import Final

from gateway.archive.interface import Level

QUERY_RETRIEVE_LEVEL: Final = 0x0008_0052
RETRIEVE_AE_TITLE: Final = 0x0008_0054
INSTANCE_AVAILABILITY: Final = 0x0008_0056
TIMEZONE_OFFSET_FROM_UTC: Final = 0x0008_0201
MODALITY: Final = 0x0008_0060
MODALITIES_IN_STUDY: Final = 0x0008_0061
SOP_CLASSES_IN_STUDY: Final = 0x0008_0062
SOP_CLASS_UID: Final = 0x0008_0016
AVAILABLE_TRANSFER_SYNTAX_UID: Final = 0x0008_3002
NUMBER_OF_PATIENT_RELATED_STUDIES: Final = 0x0020_1200
NUMBER_OF_PATIENT_RELATED_SERIES: Final = 0x0020_1202
NUMBER_OF_PATIENT_RELATED_INSTANCES: Final = 0x0020_1204
NUMBER_OF_STUDY_RELATED_SERIES: Final = 0x0020_1206
NUMBER_OF_STUDY_RELATED_INSTANCES: Final = 0x0020_1208
NUMBER_OF_SERIES_RELATED_INSTANCES: Final = 0x0020_1209

# DicomMap.cpp of Orthanc 1.10.1: what its index holds of each level ("main DICOM tags").
MAIN_TAGS: Final[dict[Level, frozenset[int]]] = {
    Level.PATIENT: frozenset((0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101000)),
    Level.STUDY: frozenset(
        (
            *(0x00080020, 0x00080030, 0x00080050, 0x00080080, 0x00080090, 0x00081030),
            *(0x0020000D, 0x00200010, 0x00321032, 0x00321060),
        )
    ),
    Level.SERIES: frozenset(
        (
            *(0x00080021, 0x00080031, 0x00080060, 0x00080070, 0x00081010, 0x0008103E, 0x00081070),
            *(0x00180010, 0x00180015, 0x00180024, 0x00181030, 0x00181090, 0x00181400),
            *(0x0020000E, 0x00200011, 0x00200037, 0x00200105, 0x00201002),
            *(0x00400254, 0x00540081, 0x00540101, 0x00541000),
        )
    ),
    Level.IMAGE: frozenset(
        (
            *(0x00080012, 0x00080013, 0x00080018, 0x00200012, 0x00200013, 0x00200032, 0x00200037, 0x00200100),
            *(0x00204000, 0x00280008, 0x00541330),
        )
    ),
}

COMPUTED_TAGS: Final[dict[Level, frozenset[int]]] = {
    Level.PATIENT: frozenset(
        (
            NUMBER_OF_PATIENT_RELATED_STUDIES,
            NUMBER_OF_PATIENT_RELATED_SERIES,
            NUMBER_OF_PATIENT_RELATED_INSTANCES,
        )
    ),
    Level.STUDY: frozenset(
        (
            NUMBER_OF_STUDY_RELATED_SERIES,
            NUMBER_OF_STUDY_RELATED_INSTANCES,
            MODALITIES_IN_STUDY,
            SOP_CLASSES_IN_STUDY,
        )
    ),
    Level.SERIES: frozenset((NUMBER_OF_SERIES_RELATED_INSTANCES,)),
    # Orthanc keeps these two as metadata of an instance.
    Level.IMAGE: frozenset((SOP_CLASS_UID, AVAILABLE_TRANSFER_SYNTAX_UID)),
}

# What the archive says itself, of every entity.
CONSTANT_TAGS: Final = frozenset((QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY))

# Attributes with several values: Orthanc compares them as one text, which finds too little.
_SEVERAL_VALUES: Final = frozenset((0x0010_1000, 0x0054_1000))


class Source(Enum):
    """Where an attribute comes from."""

    NONE = 0  # not an attribute of the entity: character set, groups below 0008, group lengths, private creators
    CONSTANT = 1
    MAIN = 2
    COMPUTED = 3
    FILE = 4


def source_of(tag: int, level: Level) -> Source:
    """Where the attribute `tag` of an entity of `level` comes from."""
    group, element = tag >> 16, tag & 0xFFFF
    if group < 0x0008 or tag == 0x0008_0005 or not element or (group & 1 and element <= 0xFF):
        return Source.NONE
    if tag in CONSTANT_TAGS:
        return Source.CONSTANT
    if level_of(tag, level) is not None:
        return Source.MAIN
    return Source.COMPUTED if tag in COMPUTED_TAGS[level] else Source.FILE


def level_of(tag: int, level: Level) -> Level | None:
    """The level in whose part of the index `tag` stands: `level` itself or one above it."""
    return next((one for one in reversed(Level) if one.value <= level.value and tag in MAIN_TAGS[one]), None)


def has_several_values(tag: int) -> bool:
    """Whether Orthanc's own comparison of this main tag is not to be asked."""
    return tag in _SEVERAL_VALUES
