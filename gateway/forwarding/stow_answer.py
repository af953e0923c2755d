"""What a STOW-RS answer says of each instance (PS3.18 10.5.3, I.2), in DICOM JSON or Native DICOM XML."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser

REFERENCED_SOP_INSTANCE_UID: Final = "00081155"
FAILURE_REASON: Final = "00081197"
FAILED_SOP_SEQUENCE: Final = "00081198"
REFERENCED_SOP_SEQUENCE: Final = "00081199"

# Nested deeper than any answer is: data set, sequence, item, attribute, value.
MAXIMUM_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class StowAnswer:
    """`stored`: SOP Instance UIDs, with warnings or without. `failed`: Failure Reason by SOP Instance UID."""

    stored: frozenset[str] = frozenset()
    failed: Mapping[str, int | None] = field(default_factory=dict)


def parse_answer(body: bytes) -> StowAnswer:
    """Read an answer, whatever its Content-Type: some servers send none with errors. What is unknown says nothing.

    An instance that is in both sequences has failed.
    """
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    data_sets = _from_xml(text) if text.startswith(b"<") else _from_json(text)
    stored: set[str] = set()
    failed: dict[str, int | None] = {}
    for data_set in data_sets:
        for item in _items(data_set, REFERENCED_SOP_SEQUENCE):
            stored.add(_uid(item))
        for item in _items(data_set, FAILED_SOP_SEQUENCE):
            failed[_uid(item)] = _number(_first(item, FAILURE_REASON))
    return StowAnswer(frozenset(stored - failed.keys() - {""}), failed)


def _from_json(text: bytes) -> list[Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return content if isinstance(content, list) else [content]


def _items(data_set: Any, tag: str) -> Iterator[Any]:
    attribute = data_set.get(tag) if isinstance(data_set, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    yield from values if isinstance(values, list) else []


def _first(item: Any, tag: str) -> Any:
    return next(_items(item, tag), None)


def _uid(item: Any) -> str:
    value = _first(item, REFERENCED_SOP_INSTANCE_UID)
    return value.strip(" \0\r\n\t") if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = value.strip()[:9]
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


class _Refused(Exception):
    """XML that is no answer."""


class _Builder(TreeBuilder):
    """Elements without their namespaces, not nested without end, and no entities of the sender's own."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        raise _Refused("a document type declaration")

    def start(self, tag: str, attributes: dict[str, str], /) -> Any:
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            raise _Refused("elements that are nested too deeply")
        return super().start(tag.rpartition("}")[2], attributes)

    def end(self, tag: str, /) -> Any:
        self._depth -= 1
        return super().end(tag.rpartition("}")[2])


def _from_xml(text: bytes) -> list[Any]:
    """The Native DICOM Model (PS3.19 A.1) in the shape of the JSON model."""
    parser = XMLParser(target=_Builder())
    try:
        parser.feed(text)
        root = parser.close()
    except (ParseError, LookupError, ValueError, _Refused):
        return []
    return [_attributes(root)]


def _attributes(element: Any) -> dict[str, Any]:
    return {
        attribute.get("tag", "").upper(): {
            "Value": [
                _attributes(value) if value.tag == "Item" else value.text
                for value in attribute
                if value.tag in ("Item", "Value")
            ]
        }
        for attribute in element
        if attribute.tag == "DicomAttribute"
    }
