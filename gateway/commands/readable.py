"""Attributes, times and tables as a person reads them in a terminal."""

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from pydicom.datadict import keyword_for_tag
from rich.console import Console
from rich.table import Table

from gateway.matching.attributes import Attributes, name_of

# Of a table that goes into a file or a pipe.
COLUMNS: Final = 240


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


def exact_local_time(at: int) -> str:
    """The same with milliseconds and the offset from UTC; "" for 0, which is never."""
    return datetime.fromtimestamp(at / 10**9).astimezone().isoformat(" ", "milliseconds") if at else ""


def print_table(table: Table) -> None:
    """Write it as wide as the terminal. What peers wrote is no markup."""
    Console(width=None if sys.stdout.isatty() else COLUMNS, markup=False, emoji=False).print(table)
