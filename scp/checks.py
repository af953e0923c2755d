"""Policies that look at the instance alone: its command, its structure, its identifiers."""

import re
from typing import TYPE_CHECKING, Final

from gateway.dicom.structure import Limits, StructureError, check_structure
from scp.policy import Policy
from scp.statuses import Answer, Status

if TYPE_CHECKING:
    from scp.storage import IncomingInstance

MAXIMUM_UID_CHARACTERS: Final = 64
# PS3.5 9.1 allows digits and periods. Letters, hyphens and underscores are wrong but harmless and do
# occur; anything else (slashes, backslashes, control characters, spaces) is no identifier.
HARMLESS_UID: Final = re.compile(r"[0-9A-Za-z._-]+")

_REQUIRED: Final[tuple[tuple[str, str, int], ...]] = (
    ("sop_class_uid", "SOP Class UID", 0x00080016),
    ("sop_instance_uid", "SOP Instance UID", 0x00080018),
    ("study_instance_uid", "Study Instance UID", 0x0020000D),
    ("series_instance_uid", "Series Instance UID", 0x0020000E),
)


class CommandIsValid(Policy):
    """PS3.7 9.1.1.1: the Affected SOP Instance UID must be one, or no file could carry it."""

    def on_command(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy."""
        command = instance.command
        uid = command.affected_sop_instance_uid
        if len(uid) > MAXIMUM_UID_CHARACTERS:
            return Answer(
                Status.INVALID_SOP_INSTANCE, f"SOP Instance UID of more than {MAXIMUM_UID_CHARACTERS} characters"
            )
        if not HARMLESS_UID.fullmatch(uid):
            return Answer(Status.INVALID_SOP_INSTANCE, "SOP Instance UID is no UID")
        if not HARMLESS_UID.fullmatch(command.affected_sop_class_uid):
            return Answer(Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class UID is no UID")
        return None


class StructureIsSound(Policy):
    """Whether Orthanc can parse it without harm (gateway.dicom.structure); leaves the header for those who follow."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def on_data_set(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy. Raises OSError."""
        file = instance.file
        try:
            instance.header = check_structure(
                file.fd, file.data_set_offset, file.data_set_length, file.meta.transfer_syntax_uid, self._limits
            )
        except StructureError as error:
            return Answer(Status.CANNOT_UNDERSTAND, error.reason, error.tag)
        return None


class HeaderMatchesCommand(Policy):
    """The identifiers that Orthanc needs are there, and those of the command are the data set's."""

    def on_data_set(self, instance: "IncomingInstance") -> Answer | None:
        """See Policy."""
        header, command = instance.header, instance.command
        for attribute, name, tag in _REQUIRED:
            if not getattr(header, attribute):
                return Answer(Status.CANNOT_UNDERSTAND, f"{name} is missing or empty", tag)
        if header.sop_class_uid != command.affected_sop_class_uid:
            return Answer(Status.DATA_SET_DOES_NOT_MATCH, "SOP Class UID differs from the request's", 0x00080016)
        if header.sop_instance_uid != command.affected_sop_instance_uid:
            return Answer(Status.DATA_SET_DOES_NOT_MATCH, "SOP Instance UID differs from the request's", 0x00080018)
        return None
