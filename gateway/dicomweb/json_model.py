"""The DICOM JSON model (PS3.18 annex F), read: an array of data sets, one after the other as it comes, as attributes.

Servers write it in many ways: values as numbers or as text, empty ones left out or null, bulk data by reference.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.dicomweb.errors import BadAnswer
from gateway.matching.attributes import Attributes, Element, vr_of

# One data set, as text: all of a study's attributes that anybody asks for are a hundredth of it.
MAXIMUM_DATA_SET_CHARACTERS: Final = 4 * 1024 * 1024
# What is longer is left empty, as in the answers of Orthanc's archive.
MAXIMUM_BINARY_BYTES: Final = 64 * 1024

_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
_VR: Final = re.compile(r"[A-Z]{2}")
_BETWEEN: Final = re.compile(r"[\s,]*")
# PS3.5 6.2: values whose bytes are in no byte order.
_BYTES_VRS: Final = frozenset(("OB", "UN"))
# PS3.5 6.2, VR DS: 16 characters.
_DECIMAL_STRING_CHARACTERS: Final = 16
_DECODER: Final = json.JSONDecoder()


def data_sets(pieces: Iterable[bytes]) -> Iterator[Attributes]:
    """Yield the data sets of an answer, which may come in pieces of any size. Raises BadAnswer.

    What is empty, or null, has none; some servers answer one data set without an array.
    """
    text = ""
    begun = False
    # Parsing anew with each piece would cost the square of what drips in.
    wanted = 0
    for piece, is_last in _decoded(pieces):
        text += piece
        if len(text) < wanted and not is_last:
            continue
        if not begun:
            text = text.lstrip("\ufeff \t\r\n")
            if not text:
                continue
            begun = True
            text = text.removeprefix("[")
        found, text = _parse(text)
        yield from found
        if len(text) > MAXIMUM_DATA_SET_CHARACTERS:
            raise BadAnswer("a data set that is too large, or no JSON")
        wanted = len(text) * 2
    rest = text.strip(" \t\r\n,")
    if rest and not rest.startswith("]") and rest != "null":
        raise BadAnswer("JSON that breaks off, or no JSON")


def attributes_of(data_set: dict[str, Any]) -> Attributes:
    """The attributes of one data set. Names that are no tags are passed over."""
    attributes: Attributes = {}
    for name, member in data_set.items():
        if _TAG.fullmatch(name) and isinstance(member, dict):
            tag = int(name, 16)
            attributes[tag] = _element(tag, member)
    return attributes


def _decoded(pieces: Iterable[bytes]) -> Iterator[tuple[str, bool]]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        yield decoder.decode(piece), False
    yield decoder.decode(b"", True), True


def _parse(text: str) -> tuple[list[Attributes], str]:
    """The data sets that are complete, and what follows them."""
    found: list[Attributes] = []
    position = 0
    while True:
        start = _end_of(_BETWEEN, text, position)
        if start >= len(text) or text[start] != "{":
            return found, text[start:]
        try:
            value, position = _DECODER.raw_decode(text, start)
            found.append(attributes_of(value))
        except json.JSONDecodeError:
            return found, text[start:]
        except ValueError as error:  # Python does not read numbers of more than 4300 digits
            raise BadAnswer("a number of too many digits") from error
        except RecursionError as error:
            raise BadAnswer("a data set that is nested too deeply") from error


def _end_of(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _element(tag: int, member: dict[str, Any]) -> Element:
    told = member.get("vr")
    vr = told if isinstance(told, str) and _VR.fullmatch(told) else vr_of(tag)
    values = member.get("Value")
    if vr == "SQ":
        items = values if isinstance(values, list) else []
        return Element(vr, tuple(attributes_of(item) for item in items if isinstance(item, dict)))
    if isinstance(values, list):
        return Element(vr, "\\".join(_text(vr, value) for value in values).rstrip("\\"))
    if values is not None and not isinstance(values, dict):
        return Element(vr, _text(vr, values))
    return Element(vr, _binary(member.get("InlineBinary")) if vr in _BYTES_VRS else "")


def _text(vr: str, value: Any) -> str:
    if isinstance(value, str):
        return value.rstrip("\0")
    if isinstance(value, dict):
        return _person_name(value) if vr == "PN" else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if isinstance(value, float):
        return _decimal(vr, value)
    return str(value)


def _decimal(vr: str, value: float) -> str:
    if not math.isfinite(value):
        return ""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = repr(value)
    if vr == "DS" and len(text) > _DECIMAL_STRING_CHARACTERS:
        return f"{value:.9g}"
    return text


def _person_name(value: dict[str, Any]) -> str:
    """PS3.18 F.2.2: three groups, of which the last ones may be missing."""
    groups = (value.get(name) for name in ("Alphabetic", "Ideographic", "Phonetic"))
    return "=".join(group if isinstance(group, str) else "" for group in groups).rstrip("=")


def _binary(value: Any) -> str:
    """Bytes, as Latin-1."""
    if not isinstance(value, str) or len(value) > MAXIMUM_BINARY_BYTES * 4 // 3 + 4:
        return ""
    try:
        return base64.b64decode(value).decode("latin-1")
    except (binascii.Error, ValueError):
        return ""
