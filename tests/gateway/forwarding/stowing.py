"""A real forwarder towards DICOMweb servers, over a real spool."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway.dicomweb.client import DicomWebClient
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.received import ReceivedInstances
from gateway.forwarding.routes import Routes
from gateway.forwarding.stow import StowForwarder
from gateway.options.dicomweb import DicomWebServerSection
from gateway.options.gateway import ForwardingSection
from gateway.spool import Delivery, Spool
from tests.support.images import make_ct
from tests.support.processes import wait_until
from tests.support.spooled import Receiver

DEADLINE_S: Final = 30
CLOUD: Final = "CLOUD"


class Stowing:
    """Spool, destinations and their sender threads. Delays are short, so that a test sees several."""

    def __init__(self, directory: Path, servers: Mapping[str, Any], senders: int, section: Mapping[str, Any]) -> None:
        """`servers`: entries of DicomWebServers, by title. `section`: options of Forwarding."""
        self._images = directory / "images"
        self._images.mkdir(parents=True)
        self._seeds = iter(range(1_000_000))
        self.receiver = Receiver(directory / "state")
        self.spool: Spool = self.receiver.spool
        self.outcomes: dict[str, tuple[str, str]] = {}
        options = ForwardingSection.model_validate({"MinimumRetryDelay": 0.02, "MaximumRetryDelay": 0.3, **section})
        self._kept = KeptDeliveries(self.spool, options)
        self.servers = {
            title: StowForwarder(
                DicomWebClient(title, DicomWebServerSection.model_validate(entry), directory.joinpath),
                self.spool,
                options,
                self._on_outcome,
                self._kept,
                ReceivedInstances(self.spool, None),
            )
            for title, entry in servers.items()
        }
        titles = {title.upper(): title for title in servers}
        self.routes = Routes(self.spool, self.servers, lambda title: titles.get(title.upper()), self._on_outcome)
        self._threads = [
            threading.Thread(target=server.run, daemon=True) for server in self.servers.values() for _ in range(senders)
        ]

    def _on_outcome(self, path: Path, result: str, reason: str) -> None:
        self.outcomes[path.name] = (result, reason)

    def image(self, rows: int = 16, study: int = 0) -> Path:
        """A new synthetic instance, not in the spool."""
        seed = next(self._seeds)
        path = self._images / f"{seed}.dcm"
        make_ct(path, rows, rows, seed, study)
        return path

    def receive(self, count: int = 1, rows: int = 16, study: int = 0, title: str = CLOUD) -> list[Delivery]:
        """Put synthetic instances into `ready` and into the queue of a server."""
        deliveries = [self.receiver.ready(self.image(rows, study), title) for _ in range(count)]
        for delivery in deliveries:
            self.routes.add(delivery)
        return deliveries

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._kept.stop()
        for server in self.servers.values():
            server.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(DEADLINE_S)
                assert not thread.is_alive()

    def wait_until_delivered(self, deliveries: list[Delivery]) -> None:
        names = {delivery.path.name for delivery in deliveries}
        wait_until(
            lambda: names <= {name for name, outcome in self.outcomes.items() if outcome[0] == "delivered"},
            DEADLINE_S,
            lambda: f"not delivered: {names - self.outcomes.keys()}, outcomes {self.outcomes}",
        )

    def wait_for_outcome(self, delivery: Delivery) -> tuple[str, str]:
        name = delivery.path.name
        return wait_until(lambda: self.outcomes.get(name), DEADLINE_S, lambda: f"no outcome of {name}")
