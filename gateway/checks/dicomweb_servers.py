"""What `dicom-gateway check` says of DICOMweb servers: each is asked what it can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.archive.set_up import dicomweb_clients
from gateway.checks.lines import Line
from gateway.dicomweb.client import DicomWebClient, Request
from gateway.dicomweb.errors import BadAnswer, DicomWebError, HttpStatusError
from gateway.dicomweb.json_model import data_sets
from gateway.dicomweb.qido import ACCEPT
from gateway.options.config import Configuration
from gateway.options.dicomweb_servers import left_out
from gateway.options.orthanc_json import ConfigurationError

# A probe has one match at most; a server that ignores the limit is not read to its end.
MAXIMUM_PROBE_BYTES: Final = 64 * 1024 * 1024
_PROBES: Final = {"/studies": "studies", "/series": "all series", "/instances": "all instances"}


def describe_servers(content: Mapping[str, Any], configuration: Configuration) -> Iterator[Line]:
    """Yield who the servers are, and what they answer."""
    section = configuration.gateway
    if section.use_orthanc_dicom_web_servers:
        for name in left_out(content):
            yield Line(f"DicomWeb.Servers.{name}: is no AE title, so nobody can call it")
    for title, driver in section.move_drivers.items():
        yield Line(f"called AE title {title}: C-MOVE and C-GET by {driver}")
    try:
        clients = dicomweb_clients(configuration)
    except ConfigurationError:
        return  # what must hold for a start is told elsewhere
    for title, client in clients.items():
        yield Line(f"called AE title {title}: {client.section.url}")
        yield from _describe(title, client)


def _describe(title: str, client: DicomWebClient) -> Iterator[Line]:
    if client.section.has_secrets and client.section.url.startswith("http://"):
        yield Line(f"{title}: WARNING: credentials are sent without encryption")
    if client.section.url.startswith("https://") and not client.section.verify_peer:
        yield Line(f"{title}: WARNING: whoever answers is believed to be this server: VerifyPeer is false")
    can = []
    for resource, name in _PROBES.items():
        try:
            _probe(client, resource)
            can.append(name)
        except DicomWebError as error:
            if resource == "/studies" or not isinstance(error, HttpStatusError):
                yield Line(f"{title}: {error}", ok=False)
                return
    yield Line(f"{title}: searches {', '.join(can)}")


def _probe(client: DicomWebClient, resource: str) -> None:
    request = Request("GET", client.qido(resource), [("limit", "1")], ACCEPT)
    with client.open(request, attempts=1) as answer:
        if answer.status == 204:
            return
        if answer.status != 200:
            raise answer.error()
        try:
            list(data_sets(iter((answer.read(MAXIMUM_PROBE_BYTES),))))
        except BadAnswer as error:
            raise BadAnswer(f"the answer to {request.what}: {error}") from error
