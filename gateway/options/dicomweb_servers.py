"""Which DICOMweb servers there are: those of `DicomWebServers` and, if asked for, Orthanc's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.options.dicomweb import DicomWebServerSection, OrthancHttpClient
from gateway.options.section import is_ae_title

Servers = Mapping[str, DicomWebServerSection]


def with_orthancs(content: Mapping[str, Any], ours: Servers) -> Servers:
    """Ours, and those of Orthanc's configuration `content` that have another name. Raises pydantic.ValidationError.

    Names that no AE can have are left out: see `left_out`.
    """
    section = content.get("DicomWeb", {})
    servers = section.get("Servers", {}) if isinstance(section, Mapping) else {}
    if isinstance(servers, Mapping):
        callable_ones = {name: server for name, server in servers.items() if is_ae_title(name) and name not in ours}
        content = {**content, "DicomWeb": {**section, "Servers": callable_ones}}
    return OrthancHttpClient.model_validate(dict(content)).sections() | dict(ours)


def left_out(content: Mapping[str, Any]) -> list[str]:
    """The names of Orthanc's servers that are no AE titles."""
    servers = content.get("DicomWeb", {}).get("Servers", {})
    return [name for name in servers if not is_ae_title(name)]


def same_titles(servers: Servers, own: str, key: Callable[[str], str]) -> Iterator[str]:
    """A line for each server that nobody could tell from another one, or from the gateway itself."""
    seen = {key(own): "DicomAet"}
    for title in servers:
        if key(title) in seen:
            yield f"DicomGateway.DicomWebServers.{title}: the same AE title as {seen[key(title)]}"
        seen.setdefault(key(title), title)
