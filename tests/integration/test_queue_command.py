"""The command `dicom-gateway` on a live gateway: queue, check, serve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import assert_stored, ct, held, section, spool_of, wait_until_drained
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.rawdicom import A_ABORT, RawPeer
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration


def _command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _store(gateway: Gateway, uid: str, size: int) -> None:
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        assert peer.store(uid, ct(uid, size)).status == 0
        peer.release()


@pytest.fixture
def pair(make_orthanc: MakeOrthanc, make_gateway: MakeGateway) -> tuple[Orthanc, Gateway]:
    orthanc = make_orthanc()
    orthanc.start()
    gateway = make_gateway(DicomGateway=section(orthanc))
    gateway.start()
    return orthanc, gateway


def test_identical_instance_sent_again_is_delivered(pair: tuple[Orthanc, Gateway]) -> None:
    orthanc, gateway = pair
    for _ in range(2):
        _store(gateway, "1.2.3.1", 1000)
    wait_until_drained(gateway)
    assert_stored(orthanc, {"1.2.3.1": ct("1.2.3.1", 1000)})


def test_other_data_under_a_known_uid_is_kept_in_failed(pair: tuple[Orthanc, Gateway]) -> None:
    orthanc, gateway = pair
    _store(gateway, "1.2.3.1", 1000)
    orthanc.wait_for_count(1)
    _store(gateway, "1.2.3.1", 2000)
    _store(gateway, "1.2.3.2", 1000)
    wait_until(lambda: held(gateway)["failed"], 30, "nothing has failed")
    orthanc.wait_for_count(2)
    (name,) = held(gateway)["failed"]
    note = spool_of(gateway).note(name)
    assert note["reason"] == "differs from the stored instance"
    shown = _command("queue", "show", name, "-c", gateway.file)
    assert shown.returncode == 0
    assert "differs from the stored instance" in shown.stdout
    assert "calling AE title: RAW" in shown.stdout
    listed = _command("queue", "list", "-c", gateway.file)
    assert name in listed.stdout
    assert "failed" in listed.stdout


def test_failed_instance_is_delivered_again_by_retry_and_gone_by_delete(pair: tuple[Orthanc, Gateway]) -> None:
    orthanc, gateway = pair
    _store(gateway, "1.2.3.1", 1000)
    orthanc.wait_for_count(1)
    _store(gateway, "1.2.3.1", 2000)
    wait_until(lambda: held(gateway)["failed"], 30, "nothing has failed")
    (name,) = held(gateway)["failed"]
    identifier = orthanc.lookup("1.2.3.1")
    orthanc.delete(f"/instances/{identifier}")
    assert _command("queue", "retry", name, "-c", gateway.file).returncode == 0
    wait_until(lambda: orthanc.count() == 1, 30, "it is not delivered again")
    assert_stored(orthanc, {"1.2.3.1": ct("1.2.3.1", 2000)})
    _store(gateway, "1.2.3.1", 3000)
    wait_until(lambda: held(gateway)["failed"], 30, "nothing has failed")
    assert _command("queue", "delete", "all", "-c", gateway.file).returncode == 0
    assert held(gateway)["failed"] == []
    assert list(spool_of(gateway).failed.iterdir()) == []


def test_queue_refuses_names_that_are_not_in_failed(pair: tuple[Orthanc, Gateway]) -> None:
    _orthanc, gateway = pair
    for verb in ("show", "retry", "delete"):
        answer = _command("queue", verb, "../../lock", "-c", gateway.file)
        assert answer.returncode == 1
        assert "Traceback" not in answer.stderr


def test_file_that_is_no_instance_does_not_block_the_queue(pair: tuple[Orthanc, Gateway]) -> None:
    orthanc, gateway = pair
    gateway.stop()
    (spool_of(gateway).ready / "00000000000000000001-1-000000.dcm").write_bytes(b"no DICOM" * 100)
    gateway.start()
    _store(gateway, "1.2.3.1", 1000)
    orthanc.wait_for_count(1)
    (name,) = wait_until(lambda: held(gateway)["failed"], 30, "nothing has failed")
    assert "no instance that can be delivered" in spool_of(gateway).note(name)["reason"]


def test_sigterm_lets_a_transfer_finish_and_aborts_the_idle(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway
) -> None:
    orthanc = make_orthanc()
    orthanc.start()
    gateway = make_gateway(DicomGateway=section(orthanc, ShutdownTimeout=2))
    gateway.start()
    with RawPeer(gateway.dicom_port) as busy, RawPeer(gateway.dicom_port) as idle:
        busy.associate()
        idle.associate()
        process = gateway.process
        assert process is not None
        process.terminate()
        wait_until(lambda: not gateway.ready(), 20, "it still listens")
        assert busy.store("1.2.3.1", ct("1.2.3.1")).status == 0
        busy.release()
        assert [pdu.type for pdu in idle.ends()] == [A_ABORT]
        assert gateway.wait() == 0
    assert len(held(gateway)["ready"]) + orthanc.count() == 1
    assert gateway.family() == []


def test_second_gateway_on_one_state_directory_is_refused(
    pair: tuple[Orthanc, Gateway], make_gateway: MakeGateway
) -> None:
    _orthanc, gateway = pair
    second = make_gateway(DicomGateway={"StateDirectory": str(gateway.state_directory)})
    second.launch()
    assert second.wait() != 0
    assert "another gateway runs on this state directory" in second.log_text()
    assert gateway.ready()


def test_state_directory_that_others_can_read_is_refused(make_gateway: MakeGateway) -> None:
    gateway = make_gateway()
    gateway.state_directory.mkdir(mode=0o755)
    gateway.launch()
    assert gateway.wait() != 0
    assert "chmod 700" in gateway.log_text()


def test_state_directory_in_which_no_socket_fits_is_refused(make_gateway: MakeGateway, tmp_path: Path) -> None:
    gateway = make_gateway(DicomGateway={"StateDirectory": str(tmp_path / ("x" * 100))})
    gateway.launch()
    assert gateway.wait() != 0
    assert "DicomGateway.StateDirectory: the path is" in gateway.log_text()
    assert not gateway.state_directory.exists()


def test_check_reports_and_binds_nothing(make_orthanc: MakeOrthanc, make_gateway: MakeGateway) -> None:
    orthanc = make_orthanc()
    orthanc.start()
    gateway = make_gateway(DicomGateway=section(orthanc), DicomThreadsCount=4)
    gateway.write_configuration()
    good = _command("check", gateway.file)
    assert good.returncode == 0, good.stderr
    assert "DicomThreadsCount: has no effect here" in good.stdout
    assert f"Orthanc at {orthanc.url} answers" in good.stdout
    assert not gateway.ready()
    assert not gateway.state_directory.exists()
    orthanc.kill()
    bad = _command("check", gateway.file)
    assert bad.returncode == 1
    assert "PROBLEM: Orthanc" in bad.stdout


def test_check_names_the_path_of_what_is_wrong(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(DicomGateway={"Forwarding": {"Conections": 2}, "Workers": "two"})
    gateway.write_configuration()
    answer = _command("check", gateway.file)
    assert answer.returncode == 1
    assert "DicomGateway.Forwarding.Conections: unknown option" in answer.stderr
    assert "DicomGateway.Workers" in answer.stderr
