"""Classes of a site that perform C-MOVE and C-GET (`MoveDrivers`): for a server, for the gateway itself without any
Orthanc, for any other title; and files that hold no such class."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.hostile_dicomweb import CT, EXPLICIT, STUDY, HostileDicomWeb
from tests.support.processes import wait_until
from tests.support.querying import keys
from tests.support.rawdicom import Context, Rejected
from tests.support.rawscp import Message
from tests.support.retrieving import GET, MOVE, Retriever, Told
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30
UNABLE: Final = 0xC000
DRIVERS: Final = '''
from pathlib import Path

from gateway.moves.archive_driver import ArchiveDriver
from gateway.moves.interface import Outcome, SubOperation

JOURNAL = Path(__file__).with_suffix(".journal")


def note(line):
    with JOURNAL.open("a") as journal:
        journal.write(line + "\\n")


class Archived(ArchiveDriver):
    """What the archive has."""

    def __init__(self, request, target, archive):
        asked = request.as_dictionary()
        note(f"create {asked['SourceAET']} {asked['TargetAET']} {asked['Level']} {asked['StudyInstanceUID']}")
        super().__init__(archive, request.selection(), target)

    def size(self):
        note("size")
        return super().size()

    def apply(self):
        note("apply")
        return super().apply()

    def free(self):
        note("free")
        super().free()


class Alone:
    """Sends nothing, and says what it likes."""

    fails_in = ""

    def __init__(self, request, target, archive):
        asked = request.as_dictionary()
        self.call(f"create {asked['SourceAET']} {asked['TargetAET']} {asked['Level']} {asked['StudyInstanceUID']}")

    def call(self, line):
        note(line)
        if line.partition(" ")[0] == self.fails_in:
            raise ValueError("out of order")

    def size(self):
        self.call("size")
        return 2

    def apply(self):
        self.call("apply")
        return SubOperation(Outcome.COMPLETED, "1.2")

    def free(self):
        self.call("free")


class FailsInCreate(Alone):
    fails_in = "create"


class FailsInSize(Alone):
    fails_in = "size"


class FailsInApply(Alone):
    fails_in = "apply"


class FailsInFree(Alone):
    fails_in = "free"


class WithoutApply:
    def size(self):
        return 0

    def free(self):
        pass
'''


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drivers")
    (folder / "drivers.py").write_text(DRIVERS)
    return folder


@pytest.fixture(scope="module")
def storescp(directory: Path) -> Iterator[StoreScp]:
    receiver = StoreScp(directory / "storescp")
    try:
        receiver.start()
        yield receiver
    finally:
        receiver.close()


@pytest.fixture(scope="module")
def gateway(directory: Path, storescp: StoreScp) -> Iterator[Gateway]:
    classes = {
        "SERVER": "Archived",
        "PROXY": "Alone",
        "OTHER": "Alone",
        "CREATE": "FailsInCreate",
        "SIZE": "FailsInSize",
        "APPLY": "FailsInApply",
        "FREE": "FailsInFree",
    }
    with HostileDicomWeb(instances=3) as server:
        ours = Gateway(
            directory / "gateway",
            DicomAet="PROXY",
            DicomCheckCalledAet=True,
            DicomModalities={
                "storescp": ["STORESCP", "127.0.0.1", storescp.port],
                "silent": {"AET": "SILENT", "Host": "127.0.0.1", "Port": 104, "AllowMove": False},
            },
            DicomGateway={
                "Workers": 1,
                "DicomWebServers": {"SERVER": {"Url": server.url}},
                "MoveDrivers": {title: f"{directory}/drivers.py:{name}" for title, name in classes.items()},
            },
        )
        try:
            ours.start()
            yield ours
        finally:
            ours.close()


@pytest.fixture
def journal(directory: Path) -> Path:
    file = directory / "drivers.journal"
    file.write_text("")
    return file


def lines(journal: Path) -> list[str]:
    wait_until(lambda: "free" in journal.read_text(), TIMEOUT_S, "the driver is not freed")
    return journal.read_text().splitlines()


def move(gateway: Gateway, called: str, calling: str = "STORESCP") -> Told:
    with Retriever(gateway.dicom_port) as peer:
        peer.open(MOVE, calling=calling, called=called)
        return peer.move("STORESCP", "STUDY", StudyInstanceUID=STUDY)


def get(gateway: Gateway, called: str) -> Told:
    with Retriever(gateway.dicom_port) as peer:
        peer.open(GET, [Context(3, CT, [EXPLICIT])], calling="STORESCP", called=called)
        peer.ask(keys("STUDY", StudyInstanceUID=STUDY))
        while True:
            told = peer.next()
            if isinstance(told, Message):
                peer.answer(told)
            elif told.status != 0xFF00:
                return told


def test_a_class_drives_moves_and_gets_of_a_server(gateway: Gateway, journal: Path, storescp: StoreScp) -> None:
    once = ["size", "apply", "apply", "apply", "free"]
    told = move(gateway, "SERVER")
    assert (told.status, told.completed) == (0, 3)
    assert lines(journal) == [f"create SERVER STORESCP STUDY {STUDY}", *once]
    assert len(list(storescp.received.iterdir())) == 3
    journal.write_text("")
    told = get(gateway, "SERVER")
    assert (told.status, told.completed) == (0, 3)
    assert lines(journal) == [f"create SERVER  STUDY {STUDY}", *once]


@pytest.mark.parametrize("called", ["PROXY", "OTHER"])
def test_a_class_drives_them_where_there_is_no_archive(gateway: Gateway, journal: Path, called: str) -> None:
    for retrieve, target in ((move, "STORESCP"), (get, "")):
        journal.write_text("")
        told = retrieve(gateway, called)
        assert (told.status, told.completed) == (0, 2)
        assert lines(journal) == [f"create {called} {target} STUDY {STUDY}", "size", "apply", "apply", "free"]


@pytest.mark.parametrize("called", ["CREATE", "SIZE", "APPLY", "FREE"])
def test_an_exception_ends_the_retrieval_and_nothing_else(gateway: Gateway, journal: Path, called: str) -> None:
    for retrieve in (move, get):
        journal.write_text("")
        log = len(gateway.log_text())
        told = retrieve(gateway, called)
        assert told.status == UNABLE
        if called != "CREATE":
            assert lines(journal).count("free") == 1
        assert "out of order" in gateway.log_text()[log:]


def test_permissions_are_those_of_the_modality(gateway: Gateway) -> None:
    with Retriever(gateway.dicom_port) as peer:
        contexts = [Context(1, MOVE, [EXPLICIT]), Context(3, GET, [EXPLICIT]), Context(5, CT, [EXPLICIT])]
        assert peer.associate(contexts, calling="SILENT", called="OTHER").results == {1: 1, 3: 0, 5: 1}
    with Retriever(gateway.dicom_port) as peer, pytest.raises(Rejected):
        peer.associate([Context(1, MOVE, [EXPLICIT])], calling="STORESCP", called="NOBODY")


@pytest.mark.parametrize(
    ("source", "name", "reason"),
    [
        ("def x(:", "X", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)", "X", "SystemExit: 3"),
        ("import absent_module", "X", "ModuleNotFoundError: No module named 'absent_module'"),
        ("1 / 0", "X", "ZeroDivisionError"),
        (DRIVERS, "Absent", "is not there"),
        (DRIVERS, "WithoutApply", "has no apply"),
        (None, "X", "FileNotFoundError"),
    ],
    ids=["syntax", "exit", "import", "exception", "no class", "no method", "no file"],
)
def test_what_is_no_driver_is_told_at_check_and_at_start(
    tmp_path: Path, source: str | None, name: str, reason: str
) -> None:
    if source is not None:
        (tmp_path / "broken.py").write_text(source)
    servers = {"ARCHIVE": {"Url": "http://127.0.0.1:1", "ConnectTimeout": 1}}
    section: dict[str, Any] = {"DicomWebServers": servers, "MoveDrivers": {"ARCHIVE": f"broken.py:{name}"}}
    gateway = Gateway(tmp_path, DicomGateway=section)
    gateway.write_configuration()
    for verb in ("check", "serve"):
        command = [*gateway.command()[:-2], verb, str(gateway.file)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert ended.returncode != 0
        told = next(line for line in (ended.stdout + ended.stderr).splitlines() if "MoveDrivers.ARCHIVE" in line)
        assert "broken.py" in told and name in told and reason in told
