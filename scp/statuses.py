"""DIMSE statuses of the services, one table. docs/conformance.md is tested against it."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

# Where the statuses of C-MOVE and C-GET are defined.
_RETRIEVE: Final = "PS3.4 C.4.2.1.5, C.4.3.1.4"


@dataclass(frozen=True, slots=True)
class StatusText:
    """A status code, its name in the standard and where it is defined."""

    code: int
    name: str
    source: str


class Status(Enum):
    """What the gateway answers, by meaning."""

    SUCCESS = StatusText(0x0000, "Success", "PS3.7 C.1.1")
    INVALID_ATTRIBUTE_VALUE = StatusText(0x0106, "Invalid Attribute Value", "PS3.7 C.5")
    PROCESSING_FAILURE = StatusText(0x0110, "Processing Failure", "PS3.7 C.5")
    DUPLICATE_SOP_INSTANCE = StatusText(0x0111, "Duplicate SOP Instance", "PS3.7 C.5")
    NO_SUCH_SOP_INSTANCE = StatusText(0x0112, "No Such SOP Instance", "PS3.7 C.5")
    NO_SUCH_EVENT_TYPE = StatusText(0x0113, "No Such Event Type", "PS3.7 C.5")
    INVALID_ARGUMENT_VALUE = StatusText(0x0115, "Invalid Argument Value", "PS3.7 C.5")
    INVALID_SOP_INSTANCE = StatusText(0x0117, "Invalid SOP Instance", "PS3.7 C.5.12")
    NO_SUCH_SOP_CLASS = StatusText(0x0118, "No Such SOP Class", "PS3.7 C.5")
    CLASS_INSTANCE_CONFLICT = StatusText(0x0119, "Class-Instance Conflict", "PS3.7 C.5")
    MISSING_ATTRIBUTE = StatusText(0x0120, "Missing Attribute", "PS3.7 C.5")
    MISSING_ATTRIBUTE_VALUE = StatusText(0x0121, "Missing Attribute Value", "PS3.7 C.5")
    SOP_CLASS_NOT_SUPPORTED = StatusText(0x0122, "SOP Class Not Supported", "PS3.7 C.5.20")
    NO_SUCH_ACTION = StatusText(0x0123, "No Such Action", "PS3.7 C.5")
    NOT_AUTHORIZED = StatusText(0x0124, "Refused: Not Authorized", "PS3.7 C.5")
    UNRECOGNIZED_OPERATION = StatusText(0x0211, "Unrecognized Operation", "PS3.7 C.5")
    RESOURCE_LIMITATION = StatusText(0x0213, "Resource Limitation", "PS3.7 C.5")
    OUT_OF_RESOURCES = StatusText(0xA700, "Refused: Out of Resources", "PS3.4 B.2.3")
    DATA_SET_DOES_NOT_MATCH = StatusText(0xA900, "Error: Data Set does not match SOP Class", "PS3.4 B.2.3")
    CANNOT_UNDERSTAND = StatusText(0xC000, "Error: Cannot understand", "PS3.4 B.2.3")

    FIND_PENDING = StatusText(0xFF00, "Pending: Matches are continuing", "PS3.4 C.4.1.1.4")
    FIND_PENDING_WARNING = StatusText(
        0xFF01, "Pending: Matches are continuing, one or more Optional Keys were not supported", "PS3.4 K.4.1.1.4"
    )
    FIND_CANCELLED = StatusText(0xFE00, "Cancel: Matching terminated", "PS3.4 C.4.1.1.4")
    FIND_OUT_OF_RESOURCES = StatusText(0xA700, "Refused: Out of Resources", "PS3.4 C.4.1.1.4")
    FIND_DOES_NOT_MATCH = StatusText(0xA900, "Error: Identifier does not match SOP Class", "PS3.4 C.4.1.1.4")
    FIND_UNABLE = StatusText(0xC000, "Failed: Unable to process", "PS3.4 C.4.1.1.4")

    RETRIEVE_PENDING = StatusText(0xFF00, "Pending: Sub-operations are continuing", _RETRIEVE)
    RETRIEVE_CANCELLED = StatusText(0xFE00, "Cancel: Sub-operations terminated", _RETRIEVE)
    RETRIEVE_WARNING = StatusText(0xB000, "Warning: Sub-operations complete, one or more failures", _RETRIEVE)
    RETRIEVE_CANNOT_COUNT = StatusText(0xA701, "Refused: Unable to calculate number of matches", _RETRIEVE)
    RETRIEVE_CANNOT_PERFORM = StatusText(0xA702, "Refused: Unable to perform sub-operations", _RETRIEVE)
    RETRIEVE_DESTINATION_UNKNOWN = StatusText(0xA801, "Refused: Move Destination unknown", "PS3.4 C.4.2.1.5")
    RETRIEVE_DOES_NOT_MATCH = StatusText(0xA900, "Error: Identifier does not match SOP Class", _RETRIEVE)
    RETRIEVE_UNABLE = StatusText(0xC000, "Failed: Unable to process", _RETRIEVE)

    @property
    def code(self) -> int:
        """The value of Status (0000,0900)."""
        return self.value.code


@dataclass(frozen=True, slots=True)
class OtherStatus:
    """A status that a script has chosen."""

    code: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request: status, Error Comment (0000,0902), Offending Element (0000,0901), Error ID (0000,0903).

    `option` is for the log: which option would allow what is refused.
    """

    status: Status | OtherStatus
    comment: str = ""
    offending_element: int | None = None
    option: str = ""
    error_id: int | None = None


SUCCESS: Final = Answer(Status.SUCCESS)
