"""Fixtures: real servers, each with a directory of its own, ended with the test and shown if it fails."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.database import Database, connect_postgresql, connect_sqlite, migrate
from tests.support.images import unique_samples
from tests.support.orthanc import Orthanc
from tests.support.postgresql import PostgreSql, remove
from tests.support.server import Server
from tests.support.standalone import Gateway

MakeOrthanc = Callable[..., Orthanc]
MakeGateway = Callable[..., Gateway]

_servers: list[Server] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Adds the logs of the servers that are up to the report of a failed test."""
    report = yield
    if report.failed:
        for server in _servers:
            title = f"log of {type(server).__name__} in {server.directory}"
            report.sections.append((title, server.log_tail()))
    return report


def _closing(servers: list[Server]) -> None:
    for server in servers:
        _servers.remove(server)
        server.close()


@pytest.fixture
def make_orthanc(tmp_path: Path) -> Iterator[MakeOrthanc]:
    """Makes an Orthanc (arguments as Orthanc's, without the directory); the test starts it."""
    made: list[Server] = []

    def make(**arguments: Any) -> Orthanc:
        server = Orthanc(tmp_path / f"orthanc{len(made)}", **arguments)
        made.append(server)
        _servers.append(server)
        return server

    yield make
    _closing(made)


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[MakeGateway]:
    """Makes a standalone gateway (arguments: Orthanc's options); the test starts it."""
    made: list[Server] = []

    def make(**configuration: Any) -> Gateway:
        server = Gateway(tmp_path / f"gateway{len(made)}", **configuration)
        made.append(server)
        _servers.append(server)
        return server

    yield make
    _closing(made)


@pytest.fixture
def orthanc_gateway(make_orthanc: MakeOrthanc) -> Orthanc:
    """An empty Orthanc that is up with the gateway in it, for this test alone."""
    server = make_orthanc(gateway=True)
    server.start()
    return server


@pytest.fixture
def orthanc(make_orthanc: MakeOrthanc) -> Orthanc:
    """An empty Orthanc that is up without any DICOM server, for this test alone."""
    server = make_orthanc()
    server.start()
    return server


@pytest.fixture(scope="session")
def shared_orthanc_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc with the gateway for tests that leave it as it is but for more instances in it."""
    server = Orthanc(tmp_path_factory.mktemp("shared_orthanc_gateway"), gateway=True)
    _servers.append(server)
    try:
        server.start()
        yield server
    finally:
        _closing([server])


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """pydicom's sample files with unique SOP Instance UIDs, in every transfer syntax (images.SAMPLES)."""
    return unique_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    """A PostgreSQL server; each test makes a database of its own in it."""
    # Not in pytest's folders: the server runs as another user, to whom those are closed.
    directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
    directory.chmod(0o755)
    server = PostgreSql(directory / "server")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        remove(directory)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables."""
    if request.param == "sqlite":
        made = connect_sqlite(tmp_path / "gateway.sqlite")
    else:
        made = connect_postgresql(request.getfixturevalue("postgresql").database())
    migrate(made)
    yield made
    made.close()
