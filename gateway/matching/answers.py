"""Encoding of answers: what was asked for, in the peer's transfer syntax, in one character set (PS3.4 C.4.1.1.3.2)."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gateway.dicom.character_sets import ASCII, UTF_8, CharacterSet
from gateway.matching.attributes import TEXT_VRS, Attributes, Element, creator_tag
from gateway.matching.identifier import (
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    NUMBER_FORMATS,
    SPECIFIC_CHARACTER_SET,
)
from gateway.matching.keys import Key

_ITEM: Final = 0xFFFE_E000
# PS3.5 table 7.1-1; others have 16 bits for their length.
_LONG_VRS: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
MAXIMUM_SHORT_VALUE_BYTES: Final = 0xFFFF
_UNLIMITED: Final = 0xFFFF_FFFE


class _CannotHold(Exception):
    """The character set lacks a character."""


class _Field(NamedTuple):
    """One key, made ready. `begin`: what stands before the length; `length`: its format."""

    key: Key
    tag: int
    # The element without a value.
    empty: bytes
    begin: bytes
    length: struct.Struct
    maximum_bytes: int
    padding: bytes
    is_text: bool
    # Neither sequence nor number, and of the VR of the key: text that is encoded as it is.
    is_plain: bool
    # Of a sequence, what its key asks for of the items.
    fields: list[_Field]


class AnswerEncoder:
    """Encodes the answers to one query: its keys in the order of their tags, missing ones without a value."""

    def __init__(
        self,
        keys: tuple[Key, ...],
        transfer_syntax_uid: str,
        character_set: CharacterSet,
        alternatives: Sequence[CharacterSet] = (UTF_8,),
    ) -> None:
        """Answers are in `character_set`, those that it cannot hold in the first alternative that can.

        What the last one cannot hold either is replaced (CharacterSet.encode_lossy).
        """
        # Encoders with the same form make the same bytes of the same attributes.
        self.form = (keys, transfer_syntax_uid, character_set, tuple(alternatives))
        self._implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        self._order = ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
        (*self._preferred, self._last) = character_set, *alternatives
        # Values in which characters were replaced.
        self.replaced = 0
        self._declaration = self._field(Key(SPECIFIC_CHARACTER_SET, "CS"))
        self._fields = self._made_ready(keys)

    def encode(self, attributes: Attributes) -> bytes:
        """One answer. Its Specific Character Set is said here, whatever `attributes` say."""
        for character_set in self._preferred:
            with contextlib.suppress(_CannotHold):
                return self._answer(attributes, character_set)
        return self._answer(attributes, self._last)

    def _answer(self, attributes: Attributes, character_set: CharacterSet) -> bytes:
        data_set = self._data_set(self._fields, attributes, character_set)
        # PS3.4 C.2.2.2: Specific Character Set never has zero length
        if character_set == ASCII:
            return data_set
        return _encoded(self._declaration, "\\".join(character_set.terms).encode("ascii")) + data_set

    def _made_ready(self, keys: Iterable[Key]) -> list[_Field]:
        in_order = sorted(keys, key=lambda key: key.tag)
        return [self._field(key) for key in in_order if key.tag != SPECIFIC_CHARACTER_SET and _is_attribute(key.tag)]

    def _field(self, key: Key) -> _Field:
        vr = key.vr
        begin = struct.pack(self._order + "HH", key.tag >> 16, key.tag & 0xFFFF)
        length = struct.Struct(self._order + "L")
        maximum_bytes = _UNLIMITED
        if not self._implicit:
            begin += vr.encode("ascii")
            if vr in _LONG_VRS:
                begin += bytes(2)
            else:
                length, maximum_bytes = struct.Struct(self._order + "H"), MAXIMUM_SHORT_VALUE_BYTES
        return _Field(
            key,
            key.tag,
            begin + length.pack(0),
            begin,
            length,
            maximum_bytes,
            padding=b"\0" if vr in ("UI", "OB", "UN") else b" ",
            is_text=vr in TEXT_VRS,
            is_plain=vr not in NUMBER_FORMATS and vr not in ("AT", "SQ", "UN"),
            fields=self._made_ready(key.items),
        )

    def _data_set(self, fields: list[_Field], attributes: Attributes, character_set: CharacterSet) -> bytes:
        parts = []
        for field in fields:
            element = attributes.get(field.tag)
            if element is None or not (text := element.value):
                parts.append(field.empty)
            elif field.is_plain:
                if character_set.has_ascii and isinstance(text, str) and text.isascii() and "\x1b" not in text:
                    value = text.encode("ascii")  # what most values are; the same as below, without the calls
                else:
                    value = self._text(field, element, character_set)
                parts.append(_encoded(field, value))
            elif field.key.vr == "SQ":
                parts.append(_encoded(field, self._items(field, element, character_set)))
            else:
                # what a key of VR UN asks for has a VR of its own
                own = self._field(Key(field.key.tag, element.vr)) if field.key.vr == "UN" else field
                parts.append(_encoded(own, self._value(own, element, character_set)))
        return b"".join(parts)

    def _items(self, field: _Field, element: Element, character_set: CharacterSet) -> bytes:
        """PS3.4 C.2.2.2.6: of each item what was asked for; all of it when the key has no items."""
        if isinstance(element.value, str):
            return b""
        parts = []
        for item in element.value:
            fields = field.fields if field.key.items else self._made_ready(_all_of(item))
            data = self._data_set(fields, item, character_set)
            parts.append(struct.pack(self._order + "HHL", _ITEM >> 16, _ITEM & 0xFFFF, len(data)) + data)
        return b"".join(parts)

    def _value(self, field: _Field, element: Element, character_set: CharacterSet) -> bytes:
        vr, text = field.key.vr, element.value
        if not isinstance(text, str):
            return b""
        if vr in NUMBER_FORMATS:
            return _numbers(text, self._order + NUMBER_FORMATS[vr])
        if vr == "AT":
            return _numbers(_halves(text), self._order + "H")
        return self._text(field, element, character_set)

    def _text(self, field: _Field, element: Element, character_set: CharacterSet) -> bytes:
        if not isinstance(element.value, str):
            return b""
        if not field.is_text:
            return element.value.encode("latin-1", "replace")
        data = character_set.encode(element.value)
        return data if data is not None else self._replace(element.value, field.key.vr, character_set)

    def _replace(self, text: str, vr: str, character_set: CharacterSet) -> bytes:
        if character_set is not self._last:
            raise _CannotHold
        self.replaced += 1
        return character_set.encode_lossy(text, vr)


def _is_attribute(tag: int) -> bool:
    """Not a group length, nor of the groups of PS3.5 7.1 that data sets do not have, nor padding (fffc,fffc)."""
    return bool(tag & 0xFFFF) and 0x0008 <= tag >> 16 < 0xFFFC


def _encoded(field: _Field, value: bytes) -> bytes:
    """One element (PS3.5 7.1)."""
    if len(value) & 1:
        value += field.padding
    if len(value) > field.maximum_bytes:
        value = b""
    return field.begin + field.length.pack(len(value)) + value


def _all_of(item: Attributes) -> list[Key]:
    return [Key(tag, element.vr) for tag, element in sorted(item.items())]


def _halves(text: str) -> str:
    """Tags, as eight hexadecimal digits each or written gggg,eeee, as the numbers that AT consists of."""
    digits = [value.replace(",", "") for value in text.split("\\")]
    try:
        return "\\".join(f"{int(tag[:4], 16)}\\{int(tag[4:], 16)}" for tag in digits if tag)
    except ValueError:
        return ""


def _numbers(text: str, code: str) -> bytes:
    """Binary values from decimal text; nothing if it is none."""
    convert = float if code[-1] in "fd" else int
    try:
        return b"".join(struct.pack(code, convert(value)) for value in text.split("\\") if value)
    except (ValueError, OverflowError, struct.error):
        return b""


def private_creators(keys: tuple[Key, ...]) -> Attributes:
    """The private creators that the keys name: they are returned as asked for (PS3.5 7.8.1)."""
    return {creator_tag(key.tag): Element("LO", key.creator) for key in keys if key.creator}
