"""Attributes and times as a person reads them in a terminal."""

from collections.abc import Iterator
from datetime import datetime

from pydicom.datadict import keyword_for_tag

from gateway.matching.attributes import Attributes, name_of


def attribute_lines(attributes: Attributes, indent: str = "") -> Iterator[str]:
    """One line for each attribute: tag, keyword, value."""
    for tag, element in sorted(attributes.items()):
        name = f"{indent}{name_of(tag)} {keyword_for_tag(tag)}".rstrip()
        if isinstance(element.value, str):
            yield f"{name}: {printable(element.value)}"
            continue
        yield f"{name}:"
        for number, item in enumerate(element.value, start=1):
            yield f"{indent}  item {number}"
            yield from attribute_lines(item, indent + "    ")


def printable(text: str) -> str:
    """Without what a peer could do to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def local_time(at: int) -> str:
    """Nanoseconds since 1970, in local time."""
    return datetime.fromtimestamp(at / 10**9).strftime("%Y-%m-%d %H:%M:%S")
