"""A real forwarder over a real spool, towards a server that the test commands."""

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.forwarding.forwarder import Forwarder, Sender
from gateway.forwarding.kept import KeptDeliveries
from gateway.forwarding.received import ReceivedInstances
from gateway.forwarding.routes import Routes
from gateway.forwarding.transports import Endpoint, HttpTransport
from gateway.options.gateway import ForwardingSection
from gateway.spool import ORTHANC, Delivery, Spool
from tests.gateway.forwarding.stowing import CLOUD, Stowing
from tests.support.hostile_http import HostileHttp, Request
from tests.support.images import make_ct
from tests.support.processes import wait_until
from tests.support.spooled import Receiver
from tests.support.stow_origin import StowOrigin

DEADLINE_S = 30


class Forwarding:
    """Spool, forwarder and its sender threads. Delays are short, so that a test sees several."""

    def __init__(
        self, directory: Path, server: HostileHttp, senders: int, timeout_s: float, http_url: str, section: Any
    ) -> None:
        self._images = directory / "images"
        self._images.mkdir(parents=True)
        self._seeds = iter(range(1_000_000))
        self.receiver = Receiver(directory / "state")
        self.spool: Spool = self.receiver.spool
        self.server = server
        self.outcomes: dict[str, tuple[str, str]] = {}
        options = {"MinimumRetryDelay": 0.02, "MaximumRetryDelay": 0.5, **section}
        validated = ForwardingSection.model_validate(options)
        self._kept = KeptDeliveries(self.spool, validated)
        self.forwarder = Forwarder(
            self.spool, validated, self._on_outcome, self._kept, ReceivedInstances(self.spool, None)
        )
        self.routes = Routes(self.spool, {ORTHANC: self.forwarder}, lambda _title: None, self._on_outcome)
        where = Endpoint(server.url, timeout_s=timeout_s)
        self.transport = HttpTransport(where)
        self._threads = []
        for _ in range(senders):
            transport = HttpTransport(where)
            sender = Sender(transport, HttpTransport(Endpoint(http_url)) if http_url else transport)
            self._threads.append(threading.Thread(target=self.forwarder.run, args=(sender,), daemon=True))

    def _on_outcome(self, path: Path, result: str, reason: str) -> None:
        self.outcomes[path.name] = (result, reason)

    def receive(self, count: int = 1, rows: int = 16) -> list[Delivery]:
        """Put synthetic instances into `ready` and into the queue."""
        deliveries = [self.receiver.ready(self.image(rows)) for _ in range(count)]
        for delivery in deliveries:
            self.forwarder.queue.add(delivery)
        return deliveries

    def image(self, rows: int = 16) -> Path:
        """A new synthetic instance, not in the spool."""
        seed = next(self._seeds)
        path = self._images / f"{seed}.dcm"
        make_ct(path, rows, rows, seed)
        return path

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._kept.stop()
        self.forwarder.stop()
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


MakeForwarding = Callable[..., Forwarding]
MakeStowing = Callable[..., Stowing]


def events(log: list[Any], event: str) -> list[Any]:
    return [entry for entry in log if entry["event"] == event]


def gaps(requests: list[Request]) -> list[float]:
    return [later.at - earlier.at for earlier, later in pairwise(requests)]


@pytest.fixture
def hostile() -> Iterator[HostileHttp]:
    server = HostileHttp()
    yield server
    server.close()


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """The log entries of this process, in order."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def make_forwarding(tmp_path: Path, hostile: HostileHttp) -> Iterator[MakeForwarding]:
    """Makes a forwarder that is not started yet; arguments: `senders`, `timeout_s`, options of Forwarding.

    `http_url`: where the second way of a sender leads, if not to the same server.
    """
    made: list[Forwarding] = []

    def make(senders: int = 1, timeout_s: float = 20, http_url: str = "", **section: Any) -> Forwarding:
        forwarding = Forwarding(tmp_path / str(len(made)), hostile, senders, timeout_s, http_url, section)
        made.append(forwarding)
        return forwarding

    yield make
    hostile.close()
    for forwarding in made:
        forwarding.stop()


@pytest.fixture
def origin() -> Iterator[StowOrigin]:
    """A DICOMweb server that the test commands."""
    server = StowOrigin()
    yield server
    server.close()


@pytest.fixture
def make_stowing(tmp_path: Path, origin: StowOrigin) -> Iterator[MakeStowing]:
    """Makes forwarders to DICOMweb servers that are not started yet; arguments: `senders`, `servers` (entries beside
    CLOUD, which is `origin`), `entry` (options of CLOUD), options of Forwarding."""
    made: list[Stowing] = []

    def make(senders: int = 1, servers: Any = (), entry: Any = (), **section: Any) -> Stowing:
        cloud = {"Url": origin.url, "Timeout": 20.0, **dict(entry)}
        stowing = Stowing(tmp_path / f"stow{len(made)}", {CLOUD: cloud, **dict(servers)}, senders, section)
        made.append(stowing)
        return stowing

    yield make
    origin.close()
    for stowing in made:
        stowing.stop()
