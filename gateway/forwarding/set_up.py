"""The destinations of one process, from the configuration."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.child import Settings
from gateway.dicomweb.client import DicomWebClient
from gateway.forwarding.destination import Destination, OnOutcome
from gateway.forwarding.endpoint import endpoint
from gateway.forwarding.forwarder import Forwarder, Sender
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.received import ReceivedInstances
from gateway.forwarding.stow import StowForwarder
from gateway.forwarding.transports import HttpTransport, PluginTransport, Transport
from gateway.options.config import Configuration
from gateway.spool import ORTHANC, Spool

# Transport "Plugin" is serial; a second thread prepares the next batch.
PLUGIN_SENDERS: Final = 2


@dataclass(frozen=True)
class Running:
    """A destination, the loops of its sender threads, and what asks at start for files of `delivered`."""

    destination: Destination
    loops: list[Callable[[], None]]
    check: Callable[[list[str]], None]


def destinations(
    settings: Settings,
    configuration: Configuration,
    spool: Spool,
    on_outcome: OnOutcome,
    kept: KeptDeliveries,
    received: ReceivedInstances,
) -> dict[str, Running]:
    """Orthanc, if there is one, and the DICOMweb servers by AE title. Raises ConfigurationError."""
    section = configuration.gateway.forwarding
    running: dict[str, Running] = {}
    if configuration.has_orthanc:
        orthanc = Forwarder(spool, section, on_outcome, kept, received, is_changed=settings.is_changed_on_arrival)
        senders = _senders(settings, configuration)
        transport = HttpTransport(endpoint(settings, configuration))
        running[ORTHANC] = Running(
            orthanc, [partial(orthanc.run, sender) for sender in senders], partial(orthanc.check_delivered, transport)
        )
    for title, options in configuration.dicom_web_servers.items():
        client = DicomWebClient(title, options, configuration.path)
        server = StowForwarder(client, spool, section, on_outcome, kept, received)
        running[title] = Running(server, [server.run] * section.connections, server.check_delivered)
    return running


def _senders(settings: Settings, configuration: Configuration) -> list[Sender]:
    section, where = configuration.gateway.forwarding, endpoint(settings, configuration)
    if section.transport == "Plugin" and settings.post_fd is not None:
        connection, lock = socket.socket(fileno=settings.post_fd), threading.Lock()
        plugin: list[Transport] = [PluginTransport(connection, lock, section.timeout) for _ in range(PLUGIN_SENDERS)]
        return [Sender(transport, HttpTransport(where)) for transport in plugin]
    transports = [HttpTransport(where) for _ in range(configuration.connections)]
    return [Sender(transport, transport) for transport in transports]
