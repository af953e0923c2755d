"""Attributes, times and tables as a person reads them in a terminal."""

import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from pydicom.datadict import keyword_for_tag
from rich.console import Console
from rich.table import Table

from gateway.matching.attributes import Attributes, name_of
from gateway.printable import printable

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


def local_time(at: int) -> str:
    """Nanoseconds since 1970, in local time."""
    return datetime.fromtimestamp(at / 10**9).strftime("%Y-%m-%d %H:%M:%S")


def exact_local_time(at: int) -> str:
    """The same with milliseconds and the offset from UTC; "" for 0, which is never."""
    return datetime.fromtimestamp(at / 10**9).astimezone().isoformat(" ", "milliseconds") if at else ""


class Listing:
    """A table. Whatever peers wrote into it is neither markup nor a command to the terminal."""

    def __init__(self, *columns: str) -> None:
        self._table = Table(*columns, box=None)

    def add_row(self, *cells: str) -> None:
        """Add a row with a text for each column."""
        self._table.add_row(*map(printable, cells))

    def print(self) -> None:
        """Write it as wide as the terminal."""
        Console(width=None if sys.stdout.isatty() else COLUMNS, markup=False, emoji=False).print(self._table)
