"""What find and worklist callbacks are given: the query, where their answers go, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.dicom.character_sets import CharacterSet
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import read_attributes
from gateway.matching.keys import InvalidQuery, Key
from gateway.script_host.api.dictionary import tag_name
from gateway.script_host.api.errors import (
    BAD_FILE_FORMAT,
    NOT_ENOUGH_MEMORY,
    PARAMETER_OUT_OF_RANGE,
    OrthancException,
)
from gateway.script_host.api.files import encoded_data_set, part10
from gateway.script_host.api.find_matcher import FindMatcher

MAXIMUM_ANSWERS: Final = 100_000
MAXIMUM_ANSWER_BYTES: Final = 48 * 1024 * 1024


@dataclass(frozen=True)
class DicomConnection:
    """The association of a request (plugin 7.0)."""

    _remote_aet: str
    _remote_ip: str
    _called_aet: str

    def GetConnectionRemoteAet(self) -> str:
        """The calling AE title."""
        return self._remote_aet

    def GetConnectionRemoteIp(self) -> str:
        """The IP address of the peer."""
        return self._remote_ip

    def GetConnectionCalledAet(self) -> str:
        """The called AE title."""
        return self._called_aet


class FindQuery:
    """The keys of a query; of a sequence only that it is there, as in the plugin."""

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self._keys = keys

    def _key(self, index: int) -> Key:
        if not isinstance(index, int) or not 0 <= index < len(self._keys):
            raise OrthancException(*PARAMETER_OUT_OF_RANGE)
        return self._keys[index]

    def GetFindQuerySize(self) -> int:
        """Number of keys."""
        return len(self._keys)

    def GetFindQueryTagName(self, index: int) -> str:
        """What Orthanc calls the tag of a key."""
        return tag_name(self._key(index).tag)

    def GetFindQueryTagGroup(self, index: int) -> int:
        """The group of the tag of a key."""
        return self._key(index).tag >> 16

    def GetFindQueryTagElement(self, index: int) -> int:
        """The element of the tag of a key."""
        return self._key(index).tag & 0xFFFF

    def GetFindQueryValue(self, index: int) -> str:
        """The value of a key, in Unicode, without padding."""
        return self._key(index).value.strip(" \0")


class _Answers:
    """Answers as they are added; they count only when the callback has returned."""

    def __init__(self, default: CharacterSet) -> None:
        self._default = default
        self._found: list[Attributes] = []
        self._bytes = 0
        self._is_complete = True

    def _add(self, dicom: bytes) -> Attributes:
        """Decode and count. Raises OrthancException."""
        attributes = read_answer(dicom, self._default)
        self._bytes += len(dicom)
        if len(self._found) >= MAXIMUM_ANSWERS or self._bytes > MAXIMUM_ANSWER_BYTES:
            raise OrthancException(*NOT_ENOUGH_MEMORY)
        return attributes


class FindAnswers(_Answers):
    """The answers to a query that is not of the worklist."""

    def FindAddAnswer(self, dicom: bytes) -> None:
        """Add an answer, a DICOM file as CreateDicom makes it. All that it has is sent."""
        self._found.append(self._add(dicom))

    def FindMarkIncomplete(self) -> None:
        """There are more answers than were added: the last status is 0xFE00."""
        self._is_complete = False


class WorklistQuery:
    """A query of the worklist."""

    def __init__(self, identifier: bytes, transfer_syntax_uid: str, matcher: FindMatcher) -> None:
        self._identifier = identifier
        self._transfer_syntax_uid = transfer_syntax_uid
        self._matcher = matcher

    def WorklistGetDicomQuery(self) -> bytes:
        """The query as a DICOM file."""
        return part10(self._identifier, self._transfer_syntax_uid)

    def WorklistIsMatch(self, dicom: bytes) -> int:
        """1 if an item, a DICOM file, matches the query, else 0."""
        return self._matcher.FindMatcherIsMatch(dicom)


class WorklistAnswers(_Answers):
    """The answers to a query of the worklist."""

    def WorklistAddAnswer(self, query: WorklistQuery, dicom: bytes) -> None:
        """Add an item, a DICOM file: what the query asks for is sent of it."""
        self._found.append(query._matcher.extract(self._add(dicom)))

    def WorklistMarkIncomplete(self) -> None:
        """There are more items than were added: the last status is 0xFE00."""
        self._is_complete = False


def read_answer(dicom: Any, default: CharacterSet) -> Attributes:
    """The attributes of a small DICOM file. Raises OrthancException."""
    if not isinstance(dicom, bytes | bytearray):
        raise TypeError("Bad types for the arguments: the DICOM file must be bytes")
    data_set, transfer_syntax_uid = encoded_data_set(bytes(dicom))
    try:
        return read_attributes(data_set, transfer_syntax_uid, default)
    except InvalidQuery as error:
        raise OrthancException(BAD_FILE_FORMAT[0], f"{BAD_FILE_FORMAT[1]}: {error}") from error


for _class in (DicomConnection, FindQuery, FindAnswers, WorklistQuery, WorklistAnswers):
    _class.__module__ = "orthanc"
