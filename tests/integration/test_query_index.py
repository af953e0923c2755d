"""The query index in a gateway with two workers: queries are right at once after everything that happens to Orthanc."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from gateway.archive.index.file import FILE_NAME
from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import WORKER, processes_of, section
from tests.support.processes import kill, wait_until
from tests.support.querying import Querier, keys
from tests.support.rawdicom import RawPeer, image

pytestmark = pytest.mark.integration

FILL_TIMEOUT_S = 20
ROUNDS = 12


def is_filled(server: Any) -> bool:
    path = server.state_directory / FILE_NAME
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT is_certain FROM filled").fetchone() == (1,)
    except sqlite3.Error:  # it is being made
        return False


def count(server: Any, patient_id: str) -> int:
    with Querier(server.dicom_port) as peer:
        found = peer.open().find(keys("STUDY", PatientID=patient_id))
        assert found.status == 0
        peer.release()
    return len(found.answers)


def store(server: Any, number: int) -> None:
    uid = f"1.9.{number}"
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        data = image(f"{uid}.1.1", study=uid, series=f"{uid}.1", patient_id=f"P{number}")
        assert peer.store(f"{uid}.1.1", data).status == 0
        peer.release()


def wait_until_filled(server: Any) -> None:
    def ask() -> bool:
        count(server, "nobody")
        return is_filled(server)

    wait_until(ask, FILL_TIMEOUT_S, "the index is not filled")


def test_each_change_is_seen_by_the_next_query(make_orthanc: MakeOrthanc) -> None:
    """Stored, stored once more, deleted: with each association served by another of two workers."""
    orthanc = make_orthanc(gateway=True, DicomAlwaysAllowFind=True, DicomGateway={"Workers": 2})
    orthanc.start()
    store(orthanc, 0)
    wait_until_filled(orthanc)
    for number in range(1, ROUNDS):
        store(orthanc, number)
        assert count(orthanc, f"P{number}") == 1
        (patient,) = orthanc.post("/tools/find", json={"Level": "Patient", "Query": {"PatientID": f"P{number}"}})
        orthanc.delete(f"/patients/{patient}")
        assert count(orthanc, f"P{number}") == 0
        if number % 2:
            store(orthanc, number)
            assert count(orthanc, f"P{number}") == 1
    assert count(orthanc, "P*") == 1 + ROUNDS // 2
    assert is_filled(orthanc), "inside Orthanc deletions are no reason to doubt"


def test_a_worker_that_is_killed_leaves_the_index_usable(make_orthanc: MakeOrthanc, make_gateway: MakeGateway) -> None:
    orthanc = make_orthanc()
    orthanc.start()
    gateway = make_gateway(DicomAlwaysAllowFind=True, DicomGateway=section(orthanc, Workers=2))
    gateway.start()
    store(gateway, 1)
    wait_until_filled(gateway)
    first = processes_of(gateway, WORKER)[0]
    kill(first)
    wait_until(
        lambda: len([pid for pid in processes_of(gateway, WORKER) if pid != first]) == 2,
        20,
        "no other worker is started",
    )
    for number in range(1, 5):
        store(gateway, number)
        assert count(gateway, f"P{number}") == 1
    assert is_filled(gateway)


def test_the_index_begins_anew_with_the_gateway(make_orthanc: MakeOrthanc, make_gateway: MakeGateway) -> None:
    orthanc = make_orthanc()
    orthanc.start()
    gateway = make_gateway(DicomAlwaysAllowFind=True, DicomGateway=section(orthanc))
    gateway.start()
    store(gateway, 1)
    wait_until_filled(gateway)
    path = gateway.state_directory / FILE_NAME
    before = path.stat().st_ino
    with path.open("rb"):  # so that its inode is not taken again
        gateway.stop()
        gateway.start()
        wait_until_filled(gateway)
        assert path.stat().st_ino != before
    assert count(gateway, "P1") == 1


def test_without_the_option_there_is_none(make_orthanc: MakeOrthanc, make_gateway: MakeGateway) -> None:
    orthanc = make_orthanc()
    orthanc.start()
    gateway = make_gateway(DicomAlwaysAllowFind=True, DicomGateway=section(orthanc, QueryIndex=False))
    gateway.start()
    store(gateway, 1)
    assert count(gateway, "P1") == 1
    assert not (gateway.state_directory / FILE_NAME).exists()


def test_an_orthanc_that_hangs_while_the_index_is_filled_stops_no_store(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway
) -> None:
    orthanc = make_orthanc()
    orthanc.start()
    os.kill(orthanc.pid, signal.SIGSTOP)
    try:
        gateway = make_gateway(DicomGateway=section(orthanc))
        gateway.start()
        store(gateway, 1)
    finally:
        os.kill(orthanc.pid, signal.SIGCONT)
    orthanc.wait_for_count(1)
