"""One Orthanc with gateways in front of it whose modalities ask for storage commitment, each on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner

from gateway import cli
from tests import conftest as root
from tests.support.commitments import PUSH_MODEL, Requester
from tests.support.data_sets import EXPLICIT
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.rawdicom import Context, RawPeer
from tests.support.standalone import Gateway

TITLES: Final = [f"MODALITY{number}" for number in range(12)]
STAYS: Final = [f"STAYS{number}" for number in range(8)]
REPORTER: Final = "scp.commitment_reporter"

# Presentation context IDs.
STORE, COMMIT = 1, 3
CONTEXTS: Final = (Context(STORE), Context(COMMIT, PUSH_MODEL, (EXPLICIT,)))
SECTION: Final[dict[str, Any]] = {"GracePeriod": "0s", "RetryDelay": "0s", "SameAssociation": STAYS}


class Site:
    """A gateway, and who may ask it."""

    def __init__(self, gateway: Gateway, orthanc: Orthanc, ports: dict[str, int]) -> None:
        self.gateway = gateway
        self.orthanc = orthanc
        self._ports = ports

    def requester(self, title: str, *statuses: int | str, roles: bool = True) -> Requester:
        """Listens where the reports of this AE title are sent."""
        return Requester(*statuses, port=self._ports[title], roles=roles)

    @contextmanager
    def associated(self, title: str) -> Iterator[RawPeer]:
        """An association for storage and commitment."""
        with RawPeer(self.gateway.dicom_port) as peer:
            peer.associate(CONTEXTS, calling=title)
            yield peer

    def store(self, title: str, *uids: str) -> None:
        """Stores CT images on an association of their own."""
        with self.associated(title) as peer:
            for uid in uids:
                assert peer.store(uid, context_id=STORE).status == 0
            peer.release()

    def command(self, *arguments: str) -> str:
        """What `dicom-gateway commitment` prints."""
        done = CliRunner().invoke(cli.app, ["commitment", *arguments, "-c", str(self.gateway.file)])
        assert done.exit_code == 0, done.output
        return done.output

    def row(self, title: str) -> list[str]:
        """The line of the only request of this AE title."""
        (line,) = (line for line in self.command("list", "--requester", title).splitlines()[1:] if title in line)
        return line.split()


@contextmanager
def site(directory: Path, orthanc: Orthanc, options: dict[str, Any] | None = None, **more: Any) -> Iterator[Site]:
    """A gateway in front of `orthanc`; `options`: of StorageCommitment; `more`: of DicomGateway."""
    ports = {title: free_port() for title in (*TITLES, *STAYS)}
    modalities = {
        title.lower(): {"AET": title, "Host": "127.0.0.1", "Port": port, "Timeout": 2} for title, port in ports.items()
    }
    section = {"Workers": 1, "Orthanc": {"Url": orthanc.url}, "StorageCommitment": SECTION | (options or {}), **more}
    gateway = Gateway(directory, DicomModalities=modalities, DicomGateway=section)
    root._servers.append(gateway)
    try:
        gateway.start()
        yield Site(gateway, orthanc, ports)
    finally:
        root._closing([gateway])


def stored_file(orthanc: Orthanc, sop_instance_uid: str) -> Path:
    """Where Orthanc keeps an instance."""
    folder = Path(orthanc.configuration["StorageDirectory"])
    wanted = sop_instance_uid.encode()
    (path,) = (path for path in folder.glob("??/??/*") if wanted in path.read_bytes())
    return path
