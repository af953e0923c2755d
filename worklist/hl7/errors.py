"""What is wrong with a message, in HL7's terms (table 0357)."""

from enum import IntEnum
from typing import Final


class ErrorCode(IntEnum):
    """Table 0357 (HL7 2.5.1, 2.16.5.3)."""

    SEGMENT_SEQUENCE_ERROR = 100
    REQUIRED_FIELD_MISSING = 101
    DATA_TYPE_ERROR = 102
    TABLE_VALUE_NOT_FOUND = 103
    UNSUPPORTED_MESSAGE_TYPE = 200
    UNSUPPORTED_EVENT_CODE = 201
    UNSUPPORTED_PROCESSING_ID = 202
    UNSUPPORTED_VERSION_ID = 203
    UNKNOWN_KEY_IDENTIFIER = 204
    DUPLICATE_KEY_IDENTIFIER = 205
    APPLICATION_RECORD_LOCKED = 206
    APPLICATION_INTERNAL_ERROR = 207


# The table's own words.
MEANINGS: Final[dict[ErrorCode, str]] = {
    ErrorCode.SEGMENT_SEQUENCE_ERROR: "Segment sequence error",
    ErrorCode.REQUIRED_FIELD_MISSING: "Required field missing",
    ErrorCode.DATA_TYPE_ERROR: "Data type error",
    ErrorCode.TABLE_VALUE_NOT_FOUND: "Table value not found",
    ErrorCode.UNSUPPORTED_MESSAGE_TYPE: "Unsupported message type",
    ErrorCode.UNSUPPORTED_EVENT_CODE: "Unsupported event code",
    ErrorCode.UNSUPPORTED_PROCESSING_ID: "Unsupported processing id",
    ErrorCode.UNSUPPORTED_VERSION_ID: "Unsupported version id",
    ErrorCode.UNKNOWN_KEY_IDENTIFIER: "Unknown key identifier",
    ErrorCode.DUPLICATE_KEY_IDENTIFIER: "Duplicate key identifier",
    ErrorCode.APPLICATION_RECORD_LOCKED: "Application record locked",
    ErrorCode.APPLICATION_INTERNAL_ERROR: "Application internal error",
}


class Refusal(Exception):
    """A message that is not acted on. `text` is one line for the person who reads the acknowledgement.

    `location` is empty, or says where: segment, its number, field, repetition, component, sub-component, as far as
    they are known, as in `PID^1^5` (data type ERL, ERR-2).
    """

    def __init__(self, code: ErrorCode, location: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.location = location
        self.text = text


class MessageError(Refusal):
    """The message is wrong: AE. The same message will be refused again."""


class NotSupported(Refusal):
    """Messages of this type are not for us: AR."""

    def __init__(self, code: ErrorCode, text: str, location: str = "MSH^1^9") -> None:
        super().__init__(code, location, text)
