"""A gateway's associations in this process, with the archive and the drivers of a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.archive.interface import Archives
from gateway.deliveries import DeliveryClient
from gateway.moves.interface import MoveDrivers
from gateway.options import config
from gateway.spool import Spool, SpoolWriter
from scp.association import AcceptedAssociation
from scp.environment import Environment, configure_pynetdicom
from scp.policies import policies
from scp.storage import StorageService
from tests.support.archives import no_archives
from tests.support.processes import wait_until

TIMEOUT_S: Final = 30


class Serving:
    """Serves each connection to `port` on a thread of its own, as a worker does."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.associations: list[AcceptedAssociation] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, address = self._listener.accept()
            except OSError:
                return
            association = AcceptedAssociation(self.environment, connection, address, lambda: None)
            self.associations.append(association)
            association.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(TIMEOUT_S)
        self._listener.close()
        for association in self.associations:
            association.interrupt()
            association.join(TIMEOUT_S)
            assert not association.is_alive()


@contextmanager
def serving(
    directory: Path, *, archives: Archives | None = None, drivers: MoveDrivers | None = None, **options: Any
) -> Iterator[Serving]:
    """A gateway with these `options` of Orthanc."""
    configure_pynetdicom()
    section = {"StateDirectory": str(directory / "state")}
    permitted = {"DicomAlwaysAllowMove": True, "DicomAlwaysAllowGet": True}
    configuration = config.parse({"DicomGateway": section, **permitted, **options}, directory)
    spool = Spool(configuration.state_directory)
    spool.prepare()
    writer, deliveries = SpoolWriter(spool), DeliveryClient(configuration.state_directory)
    storage = StorageService(configuration, writer, deliveries, policies(configuration, None))
    served = Serving(Environment(configuration, storage, archives or no_archives(), drivers))
    try:
        yield served
    finally:
        served.close()
        deliveries.close()
        writer.close()


def until(condition: Callable[[], Any], otherwise: str) -> Any:
    """Waits for `condition`."""
    return wait_until(condition, TIMEOUT_S, otherwise)
