"""The instance that a filter is asked about, and those that scripts make with CreateDicomInstance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from gateway.script_host.api.dicom_json import FULL, HUMAN, MAXIMUM_LENGTH, JsonOptions, to_json
from gateway.script_host.api.errors import BAD_FILE_FORMAT, OrthancException
from gateway.script_host.api.files import DicomFile, read_file
from gateway.script_host.api.frames import Image, decoded_frame, frames_count, raw_frame

ORIGIN_DICOM_PROTOCOL: Final = 2
ORIGIN_PLUGIN: Final = 4


@dataclass(frozen=True)
class Origin:
    """Where an instance comes from. Of those that a script makes itself there is nothing to say."""

    value: int = ORIGIN_PLUGIN
    remote_aet: str = ""
    called_aet: str = ""
    remote_ip: str = ""


class DicomInstance:
    """One instance. That of a filter may be used during its call only, as in the plugin."""

    def __init__(self, content: Any, origin: Origin = Origin()) -> None:
        """`content` is a Part 10 file: bytes, or anything else with a buffer."""
        self._content: Any = content
        self._origin = origin

    def _end(self) -> None:
        """The call is over: what the script has kept of it is of no use any more."""
        self.__dict__.pop("_file", None)
        self._content = None

    @property
    def _bytes(self) -> Any:
        if self._content is None:
            raise RuntimeError("the instance of a filter cannot be used after the call of the filter")
        return self._content

    @cached_property
    def _file(self) -> DicomFile:
        return read_file(self._bytes)

    def GetInstanceRemoteAet(self) -> str:
        """The calling AE title."""
        return self._origin.remote_aet

    def GetInstanceCalledAet(self) -> str:
        """The called AE title (SDK of 2026)."""
        return self._origin.called_aet

    def GetInstanceRemoteIp(self) -> str:
        """The IP address of the peer (SDK of 2026)."""
        return self._origin.remote_ip

    def GetInstanceOrigin(self) -> int:
        """One of InstanceOrigin."""
        return self._origin.value

    def GetInstanceSize(self) -> int:
        """Bytes of the file."""
        return len(self._bytes)

    def GetInstanceData(self) -> bytes:
        """The file, copied."""
        return bytes(self._bytes[:])

    def SerializeDicomInstance(self) -> bytes:
        """The file. Orthanc writes it anew; here it is as it was received."""
        return self.GetInstanceData()

    def GetInstanceTransferSyntaxUid(self) -> str:
        """The UID of the transfer syntax."""
        return self._file.transfer_syntax_uid

    def GetInstanceJson(self) -> str:
        """All tags, in Orthanc's format Full."""
        return to_json(self._file, JsonOptions.default(FULL))

    def GetInstanceSimplifiedJson(self) -> str:
        """All tags, in Orthanc's format Human."""
        return to_json(self._file, JsonOptions.default(HUMAN))

    def GetInstanceAdvancedJson(self, format: int, flags: int, maxStringLength: int) -> str:
        """All tags, by DicomToJsonFormat and DicomToJsonFlags; 0 for values of any length."""
        return to_json(self._file, JsonOptions.of(format, flags, maxStringLength))

    def HasInstancePixelData(self) -> int:
        """1 if it has Pixel Data (7FE0,0010), else 0."""
        return int(self._file.has_pixel_data)

    def GetInstanceFramesCount(self) -> int:
        """Number of Frames, 1 if it is not said."""
        return frames_count(self._file)

    def GetInstanceRawFrame(self, frameIndex: int) -> bytes:
        """A frame as it is in the file, compressed if it is."""
        return raw_frame(self._file, frameIndex)

    def GetInstanceDecodedFrame(self, frameIndex: int) -> Image:
        """A frame, decompressed."""
        return decoded_frame(self._file, frameIndex)

    def HasInstanceMetadata(self, metadata: str) -> int:
        """0: what is not stored yet has none."""
        return 0

    def GetInstanceMetadata(self, metadata: str) -> str:
        """Raises OrthancException: there is none."""
        raise OrthancException(*BAD_FILE_FORMAT)


DicomInstance.__module__ = "orthanc"
MAXIMUM_JSON_LENGTH: Final = MAXIMUM_LENGTH
