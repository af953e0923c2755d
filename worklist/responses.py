"""What of an item a response has: the attributes that were asked for, sequences without items in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.matching.attributes import Attributes, Element, is_private, is_private_creator, vr_of
from gateway.matching.keys import Key
from worklist import matching_keys
from worklist.matching_keys import Attribute

_CODE_VALUES: Final = (matching_keys.CODE_VALUE, matching_keys.LONG_CODE_VALUE, matching_keys.URN_CODE_VALUE)
_REFERENCE: Final = (matching_keys.REFERENCED_SOP_CLASS_UID, matching_keys.REFERENCED_SOP_INSTANCE_UID)
_NO_ITEMS: Final = Element("SQ", ())
# No attribute has this tag.
_NOWHERE: Final = 0


def response(keys: tuple[Key, ...], attributes: Attributes, known: Mapping[int, Attribute]) -> Attributes:
    """The attributes that `keys` ask for; what is missing is left out here and empty in the answer."""
    answered: Attributes = {}
    for key in keys:
        element = attributes.get(_tag_of(key, attributes))
        if element is not None:
            answered[key.tag] = _sequence(key, element, known) if key.vr == "SQ" else element
    return answered


def _sequence(key: Key, element: Element, known: Mapping[int, Attribute]) -> Element:
    """The items of a sequence; one without content is none (PS3.4 table K.6-1: 1C if a sequence item is present)."""
    if isinstance(element.value, str):
        return _NO_ITEMS
    attribute = known.get(key.tag)
    inner = attribute.items if attribute is not None else {}
    stored = [item for item in element.value if _has_content(item)]
    if key.items:
        return Element("SQ", tuple(response(key.items, item, inner) for item in stored))
    return Element("SQ", tuple(_in_full(item, inner) for item in stored))


def _in_full(item: Attributes, known: Mapping[int, Attribute]) -> Attributes:
    """All that an item has, and empty what it could have (PS3.4 K.2.2.1.2, C.2.2.2.6)."""
    full = {tag: _NO_ITEMS if matching_keys.is_sequence(tag) else Element(vr_of(tag), "") for tag in known}
    for tag, element in item.items():
        full[tag] = _sequence(Key(tag, "SQ"), element, known) if element.vr == "SQ" else element
    return full


def _has_content(item: Attributes) -> bool:
    """Whether an item is more than a template: a code needs a value, a reference its UIDs, others anything at all."""
    if matching_keys.CODE_MEANING in item or matching_keys.CODE_VALUE in item:
        return any(_has_value(item, tag) for tag in _CODE_VALUES)
    if any(tag in item for tag in _REFERENCE):
        return all(_has_value(item, tag) for tag in _REFERENCE)
    return any(_has_value(item, tag) for tag in item)


def _has_value(item: Attributes, tag: int) -> bool:
    element = item.get(tag)
    if element is None:
        return False
    if isinstance(element.value, str):
        return bool(element.value.strip(" \0"))
    return any(_has_content(inner) for inner in element.value)


def _tag_of(key: Key, attributes: Attributes) -> int:
    """Where the item has the attribute: a private creator may have another block there (PS3.5 7.8.1)."""
    if not key.creator or not is_private(key.tag) or is_private_creator(key.tag):
        return key.tag
    for tag, element in attributes.items():
        if tag >> 16 == key.tag >> 16 and is_private_creator(tag) and element.value == key.creator:
            return key.tag & 0xFFFF_00FF | (tag & 0xFF) << 8
    return _NOWHERE
