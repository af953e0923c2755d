"""The worklist of a live gateway: folders of files, the process that keeps it, and the command."""

import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway import cli
from gateway.database import SQLITE_NAME, Database, connect_sqlite
from tests.conftest import MakeGateway
from tests.support.processes import descendants, wait_until
from tests.support.standalone import Gateway
from tests.support.worklists import dump, items_of, write_file

pytestmark = pytest.mark.integration

DEADLINE_S = 30


def worklist(gateway: Gateway, *arguments: str | Path, status: int = 0) -> str:
    """What `dicom-gateway worklist` prints."""
    done = CliRunner().invoke(cli.app, ["worklist", *map(str, arguments), "-c", str(gateway.file)])
    assert done.exit_code == status, done.output
    return done.output


def store_of(gateway: Gateway) -> Database:
    return connect_sqlite(gateway.state_directory / SQLITE_NAME)


def names(database: Database) -> list[str]:
    return sorted(item.patient_name for item in items_of(database))


def keeper(gateway: Gateway) -> int:
    """The process that keeps the worklist; 0 if there is none."""
    for pid in descendants(gateway.pid):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"worklist" in arguments:
            return pid
    return 0


def test_files_come_and_go_while_the_gateway_runs_and_its_process_dies(
    make_gateway: MakeGateway, tmp_path: Path
) -> None:
    ours, orthancs = tmp_path / "ours", tmp_path / "orthancs"
    ours.mkdir()
    orthancs.mkdir()
    gateway = make_gateway(
        Worklists={"Enable": True, "Database": str(orthancs)},
        DicomGateway={"Worklist": {"Folders": [str(ours)]}},
    )
    write_file(orthancs / "a.wl", dump(name="ONE"))
    gateway.start()
    database = store_of(gateway)
    wait_until(lambda: names(database) == ["ONE"], DEADLINE_S, "a file that was there is not served")
    (ours / "WEST").mkdir()
    write_file(ours / "WEST" / "b.wl", dump(name="TWO"))
    wait_until(lambda: names(database) == ["ONE", "TWO"], DEADLINE_S, "a new file is not served")
    killed = keeper(gateway)
    os.kill(killed, signal.SIGKILL)
    (orthancs / "a.wl").unlink()
    write_file(ours / "c.wl", dump(name="THREE"))
    wait_until(lambda: names(database) == ["THREE", "TWO"], DEADLINE_S, "what changed meanwhile is not noticed")
    assert keeper(gateway) not in (0, killed)
    assert gateway.terminate() == 0
    database.close()


def test_the_command_says_and_does_what_it_is_told(make_gateway: MakeGateway, tmp_path: Path) -> None:
    gateway = make_gateway(DicomGateway={"Worklist": {}})
    gateway.write_configuration()
    assert "start the gateway first" in worklist(gateway, "list", status=1)
    gateway.start()
    step = ("--station", "US1", "--modality", "US", "--date", "20261122", "--time", "1430")
    patient = ("--patient-id", "123", "--patient-name", "Müller^Eva", "--accession", "A77")
    assert worklist(gateway, "add", *patient, *step, "--description", "Abdomen") == "item 1: added\n"
    assert "missing: PatientName" in worklist(
        gateway, "add", "--patient-id", "5", *step, "--description", "x", status=1
    )

    listed = worklist(gateway, "list").splitlines()
    assert len(listed) == 2
    assert listed[1].split()[:8] == ["1", "SCHEDULED", "20261122", "1430", "US1", "US", "123", "Müller^Eva"]
    for selecting in (["--date", "20261122"], ["--station", "US1"], ["--patient", "mül"], ["--patient", "123"]):
        assert len(worklist(gateway, "list", *selecting).splitlines()) == 2, selecting
    for selecting in (["--date", "20261123"], ["--station", "US"], ["--patient", "12"], ["--status", "CANCELED"]):
        assert len(worklist(gateway, "list", *selecting).splitlines()) == 1, selecting
    assert "--date: expected" in worklist(gateway, "list", "--date", "soon", status=1)
    assert "--status: expected" in worklist(gateway, "list", "--status", "soon", status=1)

    assert worklist(gateway, "cancel", "1", "--reason", "did not come") == "item 1: canceled\n"
    assert len(worklist(gateway, "list").splitlines()) == 1
    assert len(worklist(gateway, "list", "--status", "all").splitlines()) == 2
    shown = worklist(gateway, "show", "1")
    assert "(0010,0010) PatientName: Müller^Eva\n" in shown
    assert "    (0040,0020) ScheduledProcedureStepStatus: CANCELED\n" in shown
    assert shown.splitlines()[-1].endswith(": SCHEDULED to CANCELED: did not come")
    assert "there is no item 9" in worklist(gateway, "cancel", "9", status=1)

    orthancs = {"Tags": {"PatientID": "7", "PatientName": "DOE^JIM", "0010,0030": "19700101"}}
    (tmp_path / "orthanc.json").write_text(json.dumps(orthancs))
    added = worklist(gateway, "add", tmp_path / "orthanc.json", *step, "--description", "x", "--label", "WEST")
    assert added == "item 2: added\n"
    assert "(0010,0030) PatientBirthDate: 19700101\n" in worklist(gateway, "show", "2")
    (tmp_path / "orthanc.json").write_text('{"PatientIDs": "7"}')
    assert "PatientIDs: no attribute" in worklist(gateway, "add", tmp_path / "orthanc.json", status=1)
    (tmp_path / "orthanc.json").write_text('{"a":' * 100_000)
    worklist(gateway, "add", tmp_path / "orthanc.json", status=1)

    folder = tmp_path / "files"
    folder.mkdir()
    write_file(folder / "a.wl")
    (folder / "b.wl").write_text("no DICOM")
    said = worklist(gateway, "import", folder, status=1)
    assert f"item 3: {folder / 'a.wl'}\n" in said
    assert f"PROBLEM: {folder / 'b.wl'}: cut off, or no DICOM" in said
    assert "1 of 2 files refused" in said
    write_file(folder / "a.wl", dump(name="DOE^JOAN"))
    assert worklist(gateway, "import", folder / "a.wl") == f"item 3: {folder / 'a.wl'}\n"
    assert "changed (0010,0010)" in worklist(gateway, "show", "3")


def test_without_a_worklist_there_is_no_process_and_no_database(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    gateway.start()
    assert keeper(gateway) == 0
    assert not (gateway.state_directory / SQLITE_NAME).exists()
    assert "the worklist is off" in worklist(gateway, "list", status=1)
