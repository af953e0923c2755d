"""Encoding of answers: what was asked for, in the peer's transfer syntax, in one character set (PS3.4 C.4.1.1.3.2)."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import Final

from gateway.character_sets import ASCII, UTF_8, CharacterSet
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


class _CannotHold(Exception):
    """The character set lacks a character."""


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
        self._keys = sorted(keys, key=lambda key: key.tag)
        self._implicit = transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
        self._order = ">" if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
        (*self._preferred, self._last) = character_set, *alternatives
        # Values in which characters were replaced.
        self.replaced = 0

    def encode(self, attributes: Attributes) -> bytes:
        """One answer. Its Specific Character Set is said here, whatever `attributes` say."""
        for character_set in self._preferred:
            with contextlib.suppress(_CannotHold):
                return self._data_set(self._keys, attributes, character_set, outermost=True)
        return self._data_set(self._keys, attributes, self._last, outermost=True)

    def _data_set(
        self, keys: list[Key], attributes: Attributes, character_set: CharacterSet, *, outermost: bool = False
    ) -> bytes:
        parts = []
        # PS3.4 C.2.2.2: Specific Character Set never has zero length
        if outermost and character_set != ASCII:
            parts.append(self._element(SPECIFIC_CHARACTER_SET, "CS", "\\".join(character_set.terms).encode("ascii")))
        for key in keys:
            if key.tag == SPECIFIC_CHARACTER_SET or not key.tag & 0xFFFF:
                continue
            element = attributes.get(key.tag)
            vr = key.vr if key.vr != "UN" or element is None else element.vr
            if key.vr == "SQ":
                value = self._items(key, element, character_set)
            else:
                value = self._value(vr, element, character_set)
            parts.append(self._element(key.tag, vr, value))
        return b"".join(parts)

    def _items(self, key: Key, element: Element | None, character_set: CharacterSet) -> bytes:
        """PS3.4 C.2.2.2.6: of each item what was asked for; all of it when the key has no items."""
        if element is None or isinstance(element.value, str):
            return b""
        parts = []
        for item in element.value:
            keys = sorted(key.items, key=lambda one: one.tag) or _all_of(item)
            data = self._data_set(keys, item, character_set)
            parts.append(struct.pack(self._order + "HHL", _ITEM >> 16, _ITEM & 0xFFFF, len(data)) + data)
        return b"".join(parts)

    def _value(self, vr: str, element: Element | None, character_set: CharacterSet) -> bytes:
        if element is None or not isinstance(element.value, str):
            return b""
        text = element.value
        if vr in NUMBER_FORMATS:
            return _numbers(text, self._order + NUMBER_FORMATS[vr])
        if vr == "AT":
            return _numbers(_halves(text), self._order + "H")
        if vr in TEXT_VRS:
            data = character_set.encode(text)
            if data is None:
                data = self._replace(text, vr, character_set)
        else:
            data = text.encode("latin-1", "replace")
        return data + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(data) % 2)

    def _replace(self, text: str, vr: str, character_set: CharacterSet) -> bytes:
        if character_set is not self._last:
            raise _CannotHold
        self.replaced += 1
        return character_set.encode_lossy(text, vr)

    def _element(self, tag: int, vr: str, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        head = struct.pack(self._order + "HH", tag >> 16, tag & 0xFFFF)
        if self._implicit:
            return head + struct.pack(self._order + "L", len(value)) + value
        if vr in _LONG_VRS:
            return head + vr.encode("ascii") + struct.pack(self._order + "HL", 0, len(value)) + value
        if len(value) > MAXIMUM_SHORT_VALUE_BYTES:
            value = b""
        return head + vr.encode("ascii") + struct.pack(self._order + "H", len(value)) + value


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
