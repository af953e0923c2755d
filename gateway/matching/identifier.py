"""Decoding of identifiers (PS3.4 C.4.1.1.3) and of small data sets: bounded, by hand, nothing in them is believed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.dicom.character_sets import CharacterSet, declared
from gateway.matching.attributes import (
    TEXT_VRS,
    Attributes,
    Element,
    creator_tag,
    is_private,
    is_private_creator,
    vr_of,
)
from gateway.matching.keys import InvalidQuery, Key

MAXIMUM_IDENTIFIER_BYTES: Final = 1024 * 1024
MAXIMUM_DEPTH: Final = 8
MAXIMUM_KEYS: Final = 4096
# Of all keys but UIDs, for which alone PS3.4 C.2.2.2.2 has lists: each is compared with each candidate.
MAXIMUM_VALUES: Final = 4096

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
_ITEM: Final = 0xFFFE_E000
_ITEM_DELIMITATION: Final = 0xFFFE_E00D
_SEQUENCE_DELIMITATION: Final = 0xFFFE_E0DD
_UNDEFINED: Final = 0xFFFF_FFFF
# PS3.5 table 7.1-1
_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_WITHOUT_TEXT: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"))
# PS3.5 6.1.2.2, 6.1.2.3: text of one kind or the other.
_STRING_VRS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
# PS3.5 table 6.2-1: how values of binary VRs are read
NUMBER_FORMATS: Final = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}


class _Raw(NamedTuple):
    tag: int
    vr: str
    value: bytes
    items: tuple[tuple[_Raw, ...], ...]


def read_keys(data: bytes, transfer_syntax_uid: str, default: CharacterSet) -> tuple[Key, ...]:
    """Return the keys of an encoded identifier, text decoded by its Specific Character Set or `default`.

    Raises InvalidQuery.
    """
    if len(data) > MAXIMUM_IDENTIFIER_BYTES:
        raise InvalidQuery(f"identifier of more than {MAXIMUM_IDENTIFIER_BYTES} bytes")
    reader = _Reader(data, transfer_syntax_uid)
    elements, _position = reader.elements(0, len(data), 0)
    keys = _keys(elements, default, reader.order)
    if _count_values(keys) > MAXIMUM_VALUES:
        raise InvalidQuery(f"more than {MAXIMUM_VALUES} values besides UIDs")
    return keys


def read_attributes(
    data: bytes,
    transfer_syntax_uid: str,
    default: CharacterSet,
    *,
    maximum_bytes: int = MAXIMUM_IDENTIFIER_BYTES,
    maximum_attributes: int = MAXIMUM_KEYS,
) -> Attributes:
    """Return the attributes of an encoded data set, text decoded by its Specific Character Set or `default`.

    Without Specific Character Set, group lengths and what is no text (PS3.5 6.2: OB, OW, ... and UN). Raises
    InvalidQuery, as for an identifier.
    """
    if len(data) > maximum_bytes:
        raise InvalidQuery(f"data set of more than {maximum_bytes} bytes")
    reader = _Reader(data, transfer_syntax_uid, maximum_attributes)
    elements, _position = reader.elements(0, len(data), 0)
    return _attributes(elements, default, reader.order)


def _count_values(keys: tuple[Key, ...]) -> int:
    return sum(_count_values(key.items) + (len(key.values) if key.vr != "UI" else 0) for key in keys)


class _Reader:
    """The elements of a data set of some hundred bytes, by recursion of bounded depth."""

    def __init__(self, data: bytes, transfer_syntax_uid: str, maximum_attributes: int = MAXIMUM_KEYS) -> None:
        self._data = data
        self._maximum_attributes = maximum_attributes
        self._implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        self.order = ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
        self._count = 0

    def elements(self, position: int, end: int, depth: int) -> tuple[tuple[_Raw, ...], int]:
        """Elements up to `end` or an item's delimiter; return them and where to go on."""
        found: list[_Raw] = []
        while position < end:
            tag = self._tag(position, end)
            if tag == _ITEM_DELIMITATION:
                return tuple(found), position + 8
            self._count += 1
            if self._count > self._maximum_attributes:
                raise InvalidQuery(f"more than {self._maximum_attributes} attributes")
            vr, length, position = self._header(tag, position, end)
            if vr == "SQ" or length == _UNDEFINED:
                items, position = self._items(tag, position, end, length, depth)
                found.append(_Raw(tag, "SQ", b"", items))
                continue
            if length > end - position:
                raise InvalidQuery("exceeds the identifier", tag)
            found.append(_Raw(tag, vr, self._data[position : position + length], ()))
            position += length
        return tuple(found), position

    def _tag(self, position: int, end: int) -> int:
        if end - position < 8:
            raise InvalidQuery("the identifier is cut off")
        group, element = struct.unpack_from(self.order + "HH", self._data, position)
        return int(group << 16 | element)

    def _header(self, tag: int, position: int, end: int) -> tuple[str, int, int]:
        """VR, length of the value and its position (PS3.5 7.1)."""
        if self._implicit or tag >> 16 == 0xFFFE:
            (length,) = struct.unpack_from(self.order + "L", self._data, position + 4)
            return vr_of(tag), length, position + 8
        code = self._data[position + 4 : position + 6]
        if not (code.isalpha() and code.isupper()):
            raise InvalidQuery("no value representation", tag)
        vr = code.decode("ascii")
        if code not in _LONG_VRS:
            (length,) = struct.unpack_from(self.order + "H", self._data, position + 6)
            return vr, length, position + 8
        if end - position < 12:
            raise InvalidQuery("the identifier is cut off")
        (length,) = struct.unpack_from(self.order + "L", self._data, position + 8)
        return vr, length, position + 12

    def _items(
        self, tag: int, position: int, end: int, length: int, depth: int
    ) -> tuple[tuple[tuple[_Raw, ...], ...], int]:
        if depth == MAXIMUM_DEPTH:
            raise InvalidQuery(f"more than {MAXIMUM_DEPTH} nested sequences", tag)
        if length != _UNDEFINED:
            if length > end - position:
                raise InvalidQuery("exceeds the identifier", tag)
            end = position + length
        items: list[tuple[_Raw, ...]] = []
        while position < end:
            item_tag = self._tag(position, end)
            (item_length,) = struct.unpack_from(self.order + "L", self._data, position + 4)
            position += 8
            if item_tag == _SEQUENCE_DELIMITATION:
                return tuple(items), position
            if item_tag != _ITEM:
                raise InvalidQuery("no item where one must be", tag)
            if item_length != _UNDEFINED and item_length > end - position:
                raise InvalidQuery("exceeds the identifier", tag)
            item_end = end if item_length == _UNDEFINED else position + item_length
            item, position = self.elements(position, item_end, depth + 1)
            items.append(item)
        return tuple(items), position


def _attributes(elements: tuple[_Raw, ...], default: CharacterSet, order: str) -> Attributes:
    character_set = _character_set(elements, default)
    found: Attributes = {}
    for element in elements:
        tag, vr = element.tag, element.vr
        if is_private_creator(tag):
            vr = "LO"
        elif vr == "UN":
            vr = vr_of(tag)
        if vr == "SQ" and element.vr == "SQ":
            found[tag] = Element("SQ", tuple(_attributes(item, character_set, order) for item in element.items))
        elif tag != SPECIFIC_CHARACTER_SET and tag & 0xFFFF and vr not in _WITHOUT_TEXT:
            found[tag] = Element(vr, _text(element, vr, character_set, order).rstrip(" \0"))
    return found


def _character_set(elements: tuple[_Raw, ...], default: CharacterSet) -> CharacterSet:
    for element in elements:
        if element.tag == SPECIFIC_CHARACTER_SET:
            return declared(element.value.decode("latin-1"), default)
    return default


def _keys(elements: tuple[_Raw, ...], default: CharacterSet, order: str) -> tuple[Key, ...]:
    character_set = _character_set(elements, default)
    creators = {
        element.tag: character_set.decode(element.value, "LO").strip(" \0")
        for element in elements
        if is_private_creator(element.tag)
    }
    return tuple(_key(element, character_set, order, creators) for element in elements)


def _key(element: _Raw, character_set: CharacterSet, order: str, creators: dict[int, str]) -> Key:
    tag, vr = element.tag, element.vr
    if is_private_creator(tag):
        vr = "LO"
    elif vr == "UN" or (vr in _STRING_VRS and vr_of(tag) in _STRING_VRS):
        # some peers have all keys as LO: dates and names are compared as what they are
        vr = vr_of(tag)
    creator = creators.get(creator_tag(tag), "") if is_private(tag) else ""
    if vr == "SQ":
        if len(element.items) > 1:
            raise InvalidQuery("more than one item in a sequence of keys", tag, mismatch=True)
        items = _keys(element.items[0], character_set, order) if element.items else ()
        return Key(tag, vr, "", items, creator)
    return Key(tag, vr, _text(element, vr, character_set, order), (), creator)


def _text(element: _Raw, vr: str, character_set: CharacterSet, order: str) -> str:
    if vr in NUMBER_FORMATS:
        return "\\".join(map(str, _numbers(element, NUMBER_FORMATS[vr], order)))
    if vr == "AT":
        halves = list(_numbers(element, "H", order))
        return "\\".join(f"{group:04X}{number:04X}" for group, number in zip(halves[::2], halves[1::2], strict=False))
    if vr in TEXT_VRS:
        return character_set.decode(element.value, vr)
    return element.value.decode("latin-1")


def _numbers(element: _Raw, code: str, order: str) -> Iterator[int | float]:
    size = struct.calcsize(order + code)
    if len(element.value) % size:
        raise InvalidQuery(f"{len(element.value)} bytes are no value of VR {element.vr}", element.tag)
    return (value for (value,) in struct.iter_unpack(order + code, element.value))


def key_of(keys: tuple[Key, ...], tag: int) -> Key | None:
    """The key with this tag."""
    return next((key for key in keys if key.tag == tag), None)
