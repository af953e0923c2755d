"""DCMTK's storescp as a server under test."""

from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import listeners
from tests.support.server import Server


class StoreScp(Server):
    """One storescp that writes each data set to `received` exactly as it came, without file meta information."""

    def __init__(self, directory: Path, *options: str) -> None:
        super().__init__(directory)
        self.options = options
        self.port = free_port()
        self.received = directory / "received"
        self.received.mkdir(exist_ok=True)

    def command(self) -> list[str]:
        writing = ["+B", "-F", "-od", str(self.received)]
        return ["/usr/bin/storescp", "-v", "-aet", "STORESCP", *writing, *self.options, str(self.port)]

    def ready(self) -> bool:
        # Not by a connection: storescp reports each one that becomes no association.
        return listeners(self.port) > 0

    def data_set(self, uid: str) -> bytes:
        """What was received under this SOP Instance UID."""
        (path,) = self.received.glob(f"*.{uid}")
        return path.read_bytes()
