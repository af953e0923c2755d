"""Orthanc's JSON of a DICOM file (its formats Full, Short and Human), compared with the plugin's in the tests."""

from __future__ import annotations

import base64
import json
import re
import struct
from dataclasses import dataclass
from typing import Any, Final

from pydicom._private_dict import private_dictionaries
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from gateway.dicom.character_sets import CharacterSet, declared
from gateway.matching.attributes import TEXT_VRS, is_private, is_private_creator
from gateway.matching.identifier import NUMBER_FORMATS
from gateway.script_host.api.dictionary import UNKNOWN_NAME, tag_name
from gateway.script_host.api.errors import PARAMETER_OUT_OF_RANGE, OrthancException
from gateway.script_host.api.files import PIXEL_DATA, DicomFile, little_endian

# DicomToJsonFormat
FULL: Final = 1
SHORT: Final = 2
HUMAN: Final = 3

# DicomToJsonFlags
INCLUDE_BINARY: Final = 1
INCLUDE_PRIVATE_TAGS: Final = 2
INCLUDE_UNKNOWN_TAGS: Final = 4
INCLUDE_PIXEL_DATA: Final = 8
CONVERT_BINARY_TO_ASCII: Final = 16
CONVERT_BINARY_TO_NULL: Final = 32
STOP_AFTER_PIXEL_DATA: Final = 64
SKIP_GROUP_LENGTHS: Final = 128

# What GetInstanceJson and GetInstanceSimplifiedJson do: longer values are null.
DEFAULT_FLAGS: Final = (
    INCLUDE_BINARY
    | INCLUDE_PRIVATE_TAGS
    | INCLUDE_UNKNOWN_TAGS
    | INCLUDE_PIXEL_DATA
    | CONVERT_BINARY_TO_NULL
    | STOP_AFTER_PIXEL_DATA
)
MAXIMUM_LENGTH: Final = 256

_UNDEFINED_LENGTH: Final = 0xFFFF_FFFF
_SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
_BINARY_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_LATIN_1: Final = CharacterSet(("ISO_IR 100",))


@dataclass(frozen=True)
class JsonOptions:
    """Format, flags, and how long a value may be, in bytes of UTF-8; 0 for any length."""

    format: int
    flags: int
    maximum_length: int

    @classmethod
    def default(cls, wanted: int) -> JsonOptions:
        """As GetInstanceJson and GetInstanceSimplifiedJson have it."""
        return cls(wanted, DEFAULT_FLAGS, MAXIMUM_LENGTH)

    @classmethod
    def of(cls, wanted: int, flags: int, maximum_length: int) -> JsonOptions:
        """What a script gives. Raises OrthancException."""
        if wanted not in (FULL, SHORT, HUMAN):
            raise OrthancException(*PARAMETER_OUT_OF_RANGE)
        return cls(wanted, flags, maximum_length)


def to_json(file: DicomFile, options: JsonOptions) -> str:
    """The tags of a file as JSON text."""
    found = _data_set(file.data_set, file.order, _LATIN_1, options)
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _data_set(data_set: Dataset, order: str, inherited: CharacterSet, options: JsonOptions) -> dict[str, Any]:
    character_set = _character_set(data_set, inherited)
    found: dict[str, Any] = {}
    for tag in sorted(data_set.keys()):
        if not _is_wanted(data_set, tag, options.flags):
            continue
        name, creator = _name(data_set, tag)
        value = _element(data_set, tag, order, character_set, options)
        if options.format == HUMAN:
            found[name] = value[1]
            continue
        key = f"{tag.group:04x},{tag.element:04x}"
        if options.format == SHORT:
            found[key] = value[1]
            continue
        found[key] = {"Name": name, "Type": value[0], "Value": value[1]}
        if creator:
            found[key]["PrivateCreator"] = creator
    return found


def _is_wanted(data_set: Dataset, tag: BaseTag, flags: int) -> bool:
    if flags & SKIP_GROUP_LENGTHS and tag.element == 0:
        return False
    if flags & STOP_AFTER_PIXEL_DATA and tag > PIXEL_DATA:
        return False
    if is_private(tag) and not flags & INCLUDE_PRIVATE_TAGS:
        return False
    if not flags & INCLUDE_UNKNOWN_TAGS and _name(data_set, tag)[0] == UNKNOWN_NAME:
        return False
    if tag == PIXEL_DATA:
        return bool(flags & INCLUDE_PIXEL_DATA)
    return bool(flags & INCLUDE_BINARY) or _vr(data_set, tag) not in _BINARY_VRS


def _element(data_set: Dataset, tag: BaseTag, order: str, character_set: CharacterSet, options: JsonOptions) -> Any:
    """Type and value of an element."""
    vr = _vr(data_set, tag)
    if vr == "SQ":
        items = data_set[tag].value or []
        return "Sequence", [_data_set(item, order, character_set, options) for item in items]
    value = _bytes(data_set, tag)
    if vr in _BINARY_VRS:
        if tag == PIXEL_DATA and _is_encapsulated(data_set.get_item(tag)):
            return "Null", None
        return _binary(little_endian(value or b"", vr, order), options)
    text = _converted(data_set, tag) if value is None else _text(value, vr, order, character_set)
    if not text and (vr in NUMBER_FORMATS or vr == "AT"):
        return "Null", None
    if options.maximum_length and len(text.encode()) > options.maximum_length:
        return "TooLong", None
    return "String", text


def _is_encapsulated(element: Any) -> bool:
    """Of an undefined length (PS3.5 A.4), read or decoded."""
    return getattr(element, "length", 0) == _UNDEFINED_LENGTH or bool(getattr(element, "is_undefined_length", False))


def _binary(value: bytes, options: JsonOptions) -> tuple[str, str | None]:
    if options.flags & CONVERT_BINARY_TO_NULL:
        return "Null", None
    if options.flags & CONVERT_BINARY_TO_ASCII:
        return "Binary", "".join(chr(byte) for byte in value if 32 <= byte < 127)
    return "Binary", "data:application/octet-stream;base64," + base64.b64encode(value).decode()


def _text(value: bytes, vr: str, order: str, character_set: CharacterSet) -> str:
    if vr in NUMBER_FORMATS:
        code = order + NUMBER_FORMATS[vr]
        whole = len(value) // struct.calcsize(code) * struct.calcsize(code)
        return "\\".join(_number(number, vr) for (number,) in struct.iter_unpack(code, value[:whole]))
    if vr == "AT":
        halves = [half for (half,) in struct.iter_unpack(order + "H", value[: len(value) // 4 * 4])]
        return "\\".join(f"{group:04x},{number:04x}" for group, number in zip(halves[::2], halves[1::2], strict=True))
    text = character_set.decode(value, vr) if vr in TEXT_VRS else value.decode("latin-1")
    text = text.split("\0", 1)[0] if vr != "UI" else text
    return text.rstrip(" \0")


def _number(number: float, vr: str) -> str:
    if vr == "FL":
        return f"{number:.9g}"
    return f"{number:.17g}" if vr == "FD" else str(number)


def _bytes(data_set: Dataset, tag: BaseTag) -> bytes | None:
    """The value as it is encoded; None of the few that pydicom has decoded to decode others."""
    element = data_set.get_item(tag)
    if isinstance(element, RawDataElement) or isinstance(element.value, bytes):
        return element.value or b""
    return None


def _converted(data_set: Dataset, tag: BaseTag) -> str:
    value = data_set[tag].value
    values = [value] if isinstance(value, str | int) else value or []
    return "\\".join(map(str, values))


def _vr(data_set: Dataset, tag: BaseTag) -> str:
    element = data_set.get_item(tag)
    vr = str(element.VR or "")
    if vr in ("", "UN"):
        return _dictionary_vr(data_set, tag)
    return vr


def _dictionary_vr(data_set: Dataset, tag: BaseTag) -> str:
    if tag.element == 0:
        return "UL"
    if is_private_creator(tag):
        return "LO"
    if is_private(tag):
        entry = _private_entry(data_set, tag)
        return str(entry[0]) if entry else "UN"
    try:
        vr = str(dictionary_VR(tag))
    except KeyError:
        return "UN"
    return {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}.get(vr, vr)


def _private_entry(data_set: Dataset, tag: BaseTag) -> tuple[str, ...] | None:
    creator = private_creator(data_set, tag)
    entries = private_dictionaries.get(creator, {})
    known = f"{tag.group:04x}xx{tag.element & 0xFF:02x}"
    return entries.get(known) or entries.get(known.upper())


def private_creator(data_set: Dataset, tag: BaseTag) -> str:
    """The private creator that a private element belongs to (PS3.5 7.8.1), empty if it is not there."""
    reserved = BaseTag(tag & 0xFFFF_0000 | (tag.element >> 8))
    if reserved not in data_set:
        return ""
    return (_bytes(data_set, reserved) or b"").decode("latin-1").strip(" \0")


def _name(data_set: Dataset, tag: BaseTag) -> tuple[str, str]:
    """What Orthanc calls a tag, and its private creator."""
    if not is_private(tag) or is_private_creator(tag) or not tag.element:
        return tag_name(tag), ""
    entry = _private_entry(data_set, tag)
    name = re.sub("[^A-Za-z0-9]", "", entry[2]) if entry else UNKNOWN_NAME
    return name, private_creator(data_set, tag)


def _character_set(data_set: Dataset, inherited: CharacterSet) -> CharacterSet:
    if _SPECIFIC_CHARACTER_SET not in data_set:
        return inherited
    value = _bytes(data_set, tag := BaseTag(_SPECIFIC_CHARACTER_SET))
    return declared(_converted(data_set, tag) if value is None else value.decode("latin-1"), inherited)
