"""What a request about a procedure step must have, and what it must leave alone: PS3.4 table F.7.2-1.

Only what a step cannot do without is enforced: attributes of type 1 of N-CREATE. Those of type 2 may be missing, since
many modalities leave them out; what the final state lacks is told to the log, since an examination that is over
must not stay in progress for the lack of an end time.
"""

from enum import Enum, StrEnum, auto
from typing import Final

from pydicom.datadict import keyword_for_tag

from gateway.matching.attributes import Attributes, name_of
from worklist.items import MODALITY, STUDY_INSTANCE_UID, text_of

SCHEDULED_STEP_ATTRIBUTES_SEQUENCE: Final = 0x0040_0270
PERFORMED_STATION_AE_TITLE: Final = 0x0040_0241
START_DATE: Final = 0x0040_0244
START_TIME: Final = 0x0040_0245
END_DATE: Final = 0x0040_0250
END_TIME: Final = 0x0040_0251
STATUS: Final = 0x0040_0252
PERFORMED_PROCEDURE_STEP_ID: Final = 0x0040_0253
PERFORMED_SERIES_SEQUENCE: Final = 0x0040_0340

# N-CREATE, type 1.
_REQUIRED: Final = (
    STATUS,
    PERFORMED_PROCEDURE_STEP_ID,
    PERFORMED_STATION_AE_TITLE,
    START_DATE,
    START_TIME,
    MODALITY,
)
# The final state, type 1.
_REQUIRED_AT_THE_END: Final = (END_DATE, END_TIME, PERFORMED_SERIES_SEQUENCE)

# N-SET, "not allowed".
SET_BY_CREATE_ONLY: Final = frozenset(
    (
        MODALITY,
        0x0008_1120,  # Referenced Patient Sequence
        0x0010_0010,  # Patient's Name
        0x0010_0020,  # Patient ID
        0x0010_0021,  # Issuer of Patient ID
        0x0010_0024,  # Issuer of Patient ID Qualifiers Sequence
        0x0010_0030,  # Patient's Birth Date
        0x0010_0040,  # Patient's Sex
        0x0010_1002,  # Other Patient IDs Sequence
        0x0020_0010,  # Study ID
        0x0038_0010,  # Admission ID
        0x0038_0014,  # Issuer of Admission ID Sequence
        0x0038_0060,  # Service Episode ID
        0x0038_0062,  # Service Episode Description
        0x0038_0064,  # Issuer of Service Episode ID Sequence
        PERFORMED_STATION_AE_TITLE,
        0x0040_0242,  # Performed Station Name
        0x0040_0243,  # Performed Location
        START_DATE,
        START_TIME,
        PERFORMED_PROCEDURE_STEP_ID,
        SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
    )
)


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252): PS3.3 C.4.14."""

    IN_PROGRESS = "IN PROGRESS"
    DISCONTINUED = "DISCONTINUED"
    COMPLETED = "COMPLETED"


class Problem(Enum):
    """Why a request is refused (PS3.4 F.7.2, PS3.7 annex C)."""

    MISSING_ATTRIBUTE = auto()
    MISSING_VALUE = auto()
    INVALID_VALUE = auto()
    DUPLICATE = auto()
    UNKNOWN = auto()
    FINAL = auto()


class StepRefused(Exception):
    """A request about a step that cannot be carried out. The text is for the peer."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(text)
        self.problem = problem


def check_create(attributes: Attributes) -> None:
    """Raises StepRefused."""
    for tag in _REQUIRED:
        _require(attributes, tag)
    status = status_of(attributes)
    if status is not StepStatus.IN_PROGRESS:
        raise StepRefused(Problem.INVALID_VALUE, f"not IN PROGRESS: {_described(STATUS)}")
    sequence = attributes.get(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)
    if sequence is None:
        raise StepRefused(Problem.MISSING_ATTRIBUTE, f"missing {_described(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)}")
    if isinstance(sequence.value, str):
        raise StepRefused(Problem.INVALID_VALUE, f"no sequence: {_described(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)}")
    # The standard wants one item, with the Study Instance UID, for an unscheduled step too; some modalities send none.
    for item in sequence.value:
        _require(item, STUDY_INSTANCE_UID)


def check_change(before: Attributes, change: Attributes) -> None:
    """Raises StepRefused. What N-SET must not change may be there as it is, or empty: many modalities repeat it."""
    for tag in sorted(SET_BY_CREATE_ONLY & change.keys()):
        if change[tag].value and change[tag] != before.get(tag):
            raise StepRefused(Problem.INVALID_VALUE, f"only N-CREATE sets {_described(tag)}")
    if STATUS in change:
        _require(change, STATUS)
        if status_of(change) is None:
            raise StepRefused(Problem.INVALID_VALUE, f"no status of a step: {_described(STATUS)}")


def missing_at_the_end(attributes: Attributes) -> list[str]:
    """What a step in a final state should have and has not, for a log line."""
    return [keyword_for_tag(tag) for tag in _REQUIRED_AT_THE_END if not _has_value(attributes, tag)]


def status_of(attributes: Attributes) -> StepStatus | None:
    """Performed Procedure Step Status, if it is one."""
    text = text_of(attributes, STATUS)
    return StepStatus(text) if text in set(StepStatus) else None


def _require(attributes: Attributes, tag: int) -> None:
    if tag not in attributes:
        raise StepRefused(Problem.MISSING_ATTRIBUTE, f"missing {_described(tag)}")
    if not _has_value(attributes, tag):
        raise StepRefused(Problem.MISSING_VALUE, f"no value in {_described(tag)}")


def _has_value(attributes: Attributes, tag: int) -> bool:
    element = attributes.get(tag)
    if element is None:
        return False
    return bool(text_of(attributes, tag)) if isinstance(element.value, str) else bool(element.value)


def _described(tag: int) -> str:
    # An Error Comment has 64 characters (PS3.7 annex C).
    return f"{name_of(tag)} {keyword_for_tag(tag)}"
