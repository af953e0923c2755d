"""What a script uses of the plugin's API, by looking at its text."""

from __future__ import annotations

import ast

from gateway.script_host.api.catalogue import CALLED_BY_ORTHANC, NOT_OFFERED, ONLY_IN_ORTHANC

MODULE_NAME = "orthanc"


def names_used(source: str) -> frozenset[str]:
    """The names of the module `orthanc` that occur. Raises SyntaxError."""
    tree = ast.parse(source)
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == MODULE_NAME
    }
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    }
    found |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == MODULE_NAME
        for alias in node.names
        if alias.name != "*"
    }
    return frozenset(found)


def remarks(names: frozenset[str], offered: frozenset[str], *, in_orthanc: bool) -> list[str]:
    """A line for each name that does not do here what it does in the plugin. `offered`: what the module has."""
    only_in_orthanc = ONLY_IN_ORTHANC | (CALLED_BY_ORTHANC if in_orthanc else {})
    found = []
    for name in sorted(names):
        if name in only_in_orthanc:
            found.append(f"orthanc.{name} is ignored: it {only_in_orthanc[name]} (DicomGateway.OrthancScripts)")
        elif name in NOT_OFFERED:
            found.append(f"orthanc.{name} is not offered; instead: {NOT_OFFERED[name]}")
        elif name not in offered:
            found.append(f"orthanc.{name} is not known")
    return found
