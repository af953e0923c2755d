"""CreateDicom: a DICOM file from Orthanc's JSON of tags by name."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import uuid
from typing import Any, Final

import pydicom
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from gateway import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dicom.character_sets import ORTHANC_ENCODINGS
from gateway.matching.attributes import creator_tag, is_private, is_private_creator
from gateway.script_host.api.dictionary import tag_of
from gateway.script_host.api.errors import NOT_IMPLEMENTED, OrthancException

DECODE_DATA_URI_SCHEME: Final = 1
GENERATE_IDENTIFIERS: Final = 2

_SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
_META_GROUP: Final = 0x0002
_PATIENT_ID: Final = 0x0010_0020
_UIDS: Final = (0x0020_000D, 0x0020_000E, 0x0008_0018)
_DATA_URI: Final = re.compile(r"data:([^;,]*);base64,(.*)", re.DOTALL)
_INTEGERS: Final = frozenset(("US", "SS", "UL", "SL", "UV", "SV"))
_FLOATS: Final = frozenset(("FL", "FD"))
_NUMBERS_AS_TEXT: Final = frozenset(("DS", "IS"))
_BINARY: Final = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))


def create_dicom(
    text: str, pixel_data: Any, flags: int, content: dict[str, Any], private_creator: str | None = None
) -> bytes:
    """The file. Raises ValueError for what cannot be made of `text`, as the plugin does.

    `content`: Orthanc's configuration, for DefaultEncoding and DefaultPrivateCreator.
    """
    if pixel_data is not None:
        raise OrthancException(
            NOT_IMPLEMENTED, "CreateDicom takes no image here: give PixelData by the data URI scheme"
        )
    try:
        tags = json.loads(text)
        creator = private_creator or content.get("DefaultPrivateCreator", "")
        data_set = _data_set(tags, bool(flags & DECODE_DATA_URI_SCHEME), creator)
        if _SPECIFIC_CHARACTER_SET not in data_set:
            encoding = ORTHANC_ENCODINGS[content.get("DefaultEncoding", "Latin1")]
            data_set.add_new(_SPECIFIC_CHARACTER_SET, "CS", encoding)
        if flags & GENERATE_IDENTIFIERS:
            _generate_identifiers(data_set)
        return _file(data_set)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, NotImplementedError, OSError) as error:
        # What pydicom says goes on with a traceback.
        raise ValueError(f"Cannot create the DICOM instance: {str(error).splitlines()[0]}") from error


def _data_set(tags: Any, decodes_uris: bool, creator: str) -> Dataset:
    if not isinstance(tags, dict):
        raise TypeError("an object of tags is expected")
    data_set = Dataset()
    for name, value in tags.items():
        tag = tag_of(name)
        if tag is None:
            raise ValueError(f"unknown DICOM tag: {name}")
        if tag >> 16 == _META_GROUP or tag & 0xFFFF == 0:
            continue  # file meta information and group lengths are written anew, as in the plugin
        data_set[tag] = _element(tag, value, decodes_uris, creator)
        reserved = creator_tag(tag)
        if is_private(tag) and not is_private_creator(tag) and creator and f"{reserved:08x}" not in _digits(tags):
            data_set.add_new(reserved, "LO", creator)
    return data_set


def _digits(tags: dict[str, Any]) -> set[str]:
    return {re.sub("[,-]", "", name).lower() for name in tags}


def _element(tag: int, value: Any, decodes_uris: bool, creator: str) -> DataElement | RawDataElement:
    vr = _vr(tag)
    if value is None:
        value = [] if vr == "SQ" else ""
    if isinstance(value, list):
        return DataElement(tag, "SQ", Sequence(_data_set(item, decodes_uris, creator) for item in value))
    if not isinstance(value, str):
        raise TypeError(f"only texts and sequences are supported: {BaseTag(tag)}")
    if vr == "SQ":
        raise TypeError(f"a sequence is expected: {BaseTag(tag)}")
    uri = _DATA_URI.fullmatch(value) if decodes_uris else None
    if uri is not None:
        return DataElement(tag, vr, _even(_decoded(uri[2]), b"\0"))
    if vr in _BINARY:
        return DataElement(tag, vr, _even(value.encode("utf-8"), b"\0"))
    if vr in _NUMBERS_AS_TEXT:
        # As it is given: a proxy hands on what others call a number.
        text = _even(value.encode("ascii", "replace"), b" ")
        return RawDataElement(BaseTag(tag), vr, len(text), text, 0, False, True)
    return DataElement(tag, vr, _converted(vr, value), validation_mode=IGNORE)


def _even(value: bytes, padding: bytes) -> bytes:
    return value + padding * (len(value) % 2)


def _vr(tag: int) -> str:
    if is_private_creator(tag):
        return "LO"
    if is_private(tag):
        return "UN"
    vr = str(dictionary_VR(tag))
    return {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}.get(vr, vr)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error


def _converted(vr: str, text: str) -> Any:
    if vr == "AT":
        return [int(re.sub("[,-]", "", value), 16) for value in text.split("\\") if value.strip()]
    if vr not in _INTEGERS | _FLOATS:
        return text
    convert = int if vr in _INTEGERS else float
    values = [convert(value) for value in text.split("\\") if value.strip()]
    return values[0] if len(values) == 1 else values


def _generate_identifiers(data_set: Dataset) -> None:
    if _PATIENT_ID not in data_set:
        data_set.add_new(_PATIENT_ID, "LO", str(uuid.uuid4()))
    for tag in _UIDS:
        if tag not in data_set:
            data_set.add_new(tag, "UI", generate_uid())


def _file(data_set: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(data_set.get("SOPClassUID") or "1.2.276.0.7230010.3.1.0.1")
    meta.MediaStorageSOPInstanceUID = UID(data_set.get("SOPInstanceUID") or generate_uid())
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = io.BytesIO()
    file = FileDataset(buffer, data_set, preamble=bytes(128), file_meta=meta)
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()
