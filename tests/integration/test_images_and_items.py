"""Images of modalities without MPPS start and complete items, with a real Orthanc inside and outside of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway.database import SQLITE_NAME, connect_sqlite
from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import IMPATIENT, process_of, wait_until_drained
from tests.support.dcmtk import storescu
from tests.support.images import make_cts
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.worklist_queries import add_items, an_item
from worklist import store
from worklist.items import Item
from worklist.performed.announcements import SOCKET_NAME

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 60
STABLE_AGE_S: Final = 1
FOLLOWING: Final[dict[str, Any]] = {"StartOnFirstInstance": True, "CompleteOnStableStudy": True}


def statuses(server: Any, *items: Item) -> list[str]:
    database = connect_sqlite(server.state_directory / SQLITE_NAME)
    try:
        with database.read() as connection:
            found = [store.get(connection, item.id) for item in items]
            return [item.status.value for item in found if item is not None]
    finally:
        database.close()


def wait_for(server: Any, expected: list[str], *items: Item) -> None:
    wait_until(lambda: statuses(server, *items) == expected, DEADLINE_S, lambda: f"{statuses(server, *items)}")


def causes(server: Any, item: Item) -> list[tuple[str, str]]:
    database = connect_sqlite(server.state_directory / SQLITE_NAME)
    try:
        with database.read() as connection:
            return [(event.who, event.what) for event in store.history(connection, item.id)][1:]
    finally:
        database.close()


def study_of(files: list[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def matching(files: list[Path], number: int = 1, **values: Any) -> Dataset:
    """A worklist item that the images are of."""
    return an_item(number, StudyInstanceUID=study_of(files), **values)


def wait_for_listener(server: Any) -> None:
    """Waits until the worklist's process hears what workers tell."""
    wait_until((server.state_directory / SOCKET_NAME).exists, DEADLINE_S, "nobody listens")


def send(server: Any, files: list[Path], calling: str = "CT1") -> None:
    done = storescu(server.dicom_port, files, calling=calling)
    assert done.returncode == 0, done.stdout + done.stderr


def test_inside_orthanc_the_first_instance_starts_and_the_stable_study_completes(
    make_orthanc: MakeOrthanc, tmp_path: Path
) -> None:
    orthanc = make_orthanc(
        gateway=True,
        StableAge=STABLE_AGE_S,
        DicomGateway={"Workers": 1, "Worklist": FOLLOWING, "Forwarding": IMPATIENT},
    )
    orthanc.start()
    wait_for_listener(orthanc)
    first = make_cts(tmp_path / "first", 3)
    # By its Study Instance UID; by Accession Number and Patient ID; by the same of somebody else; not at all.
    of_first, of_station, by_accession, of_other, none = add_items(
        orthanc,
        matching(first, 1, ScheduledStationAETitle="CT1"),
        matching(first, 2, ScheduledStationAETitle="PET1", Modality="PT"),
        an_item(3, AccessionNumber="A1", PatientID="PHANTOM"),
        an_item(4, AccessionNumber="A1", PatientID="SOMEBODY"),
        an_item(5),
    )
    items = (of_first, of_station, by_accession, of_other, none)
    send(orthanc, first)
    wait_for(orthanc, ["COMPLETED", "SCHEDULED", "SCHEDULED", "SCHEDULED", "SCHEDULED"], *items)
    assert causes(orthanc, of_first) == [
        ("images CT1", "SCHEDULED to STARTED: first instance received"),
        ("images", "STARTED to COMPLETED: stable study"),
    ]
    send(orthanc, make_cts(tmp_path / "second", 1, series=7))
    wait_for(orthanc, ["COMPLETED", "SCHEDULED", "COMPLETED", "SCHEDULED", "SCHEDULED"], *items)


def test_without_the_plugin_and_after_kills_nothing_is_missed(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway, tmp_path: Path
) -> None:
    orthanc = make_orthanc(StableAge=STABLE_AGE_S)
    orthanc.start()
    gateway = make_gateway(
        DicomGateway={
            "Workers": 1,
            "Worklist": {"StartOnFirstInstance": True},
            "Orthanc": {"Url": orthanc.url},
            "Forwarding": IMPATIENT,
        }
    )
    gateway.start()
    wait_for_listener(gateway)
    told, untold = make_cts(tmp_path / "told", 1), make_cts(tmp_path / "untold", 1, series=1)
    one, other = add_items(gateway, matching(told, 1), matching(untold, 2))
    send(gateway, told)
    wait_for(gateway, ["STARTED", "SCHEDULED"], one, other)
    assert causes(gateway, one) == [("images CT1", "SCHEDULED to STARTED: first instance received")]
    wait_until(lambda: stable_studies(orthanc) == 1, DEADLINE_S, "the first study does not become stable")

    # Nobody hears that the second study arrives: a worker tells a halted process, which is killed.
    halted = process_of(gateway, "worklist")
    os.kill(halted, signal.SIGSTOP)
    send(gateway, untold)
    wait_until_drained(gateway)
    wait_until(lambda: stable_studies(orthanc) == 2, DEADLINE_S, "the second study does not become stable")
    os.kill(halted, signal.SIGKILL)
    wait_for(gateway, ["STARTED", "STARTED"], one, other)
    assert causes(gateway, other) == [("images", "SCHEDULED to STARTED: images are in Orthanc")]


def stable_studies(orthanc: Orthanc) -> int:
    changes = orthanc.get("/changes?limit=1000")["Changes"]
    return len({change["ID"] for change in changes if change["ChangeType"] == "StableStudy"})


def test_both_are_off_by_default(make_gateway: MakeGateway, tmp_path: Path) -> None:
    gateway = make_gateway(DicomGateway={"Workers": 1, "Worklist": {}, "Orthanc": {"Url": "http://127.0.0.1:9"}})
    gateway.start()
    files = make_cts(tmp_path / "files", 1)
    (item,) = add_items(gateway, matching(files))
    send(gateway, files)
    process_of(gateway, "worklist")
    assert not (gateway.state_directory / SOCKET_NAME).exists()
    assert statuses(gateway, item) == ["SCHEDULED"]
