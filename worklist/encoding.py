"""Attributes as JSON text: {"00100010": ["PN", "DOE^JOHN"], "00400100": ["SQ", [{...}]]}."""

import json
from typing import Any

from gateway.matching.attributes import Attributes, Element


def to_json(attributes: Attributes) -> str:
    """ASCII only: neither SQLite nor PostgreSQL takes every character of Unicode."""
    return json.dumps(_plain(attributes), separators=(",", ":"))


def from_json(text: str) -> Attributes:
    """What `to_json` was given."""
    return _attributes(json.loads(text))


def _plain(attributes: Attributes) -> dict[str, Any]:
    return {
        f"{tag:08X}": [vr, value if isinstance(value, str) else [_plain(item) for item in value]]
        for tag, (vr, value) in sorted(attributes.items())
    }


def _attributes(plain: dict[str, Any]) -> Attributes:
    return {
        int(tag, 16): Element(vr, value if isinstance(value, str) else tuple(_attributes(item) for item in value))
        for tag, (vr, value) in plain.items()
    }
