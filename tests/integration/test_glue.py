"""The gateway inside Orthanc: its life follows Orthanc's, and what prevents a start is said in Orthanc's log."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeOrthanc
from tests.integration.gateways import (
    FORWARDER,
    IMPATIENT,
    SUPERVISOR,
    WORKER,
    assert_stored,
    ct,
    held,
    process_of,
    processes_of,
    wait_until_drained,
)
from tests.support.dcmtk import echoscu
from tests.support.orthanc import Orthanc
from tests.support.ports import accepts
from tests.support.processes import listeners, state, wait_until
from tests.support.rawdicom import A_ABORT, RawPeer

pytestmark = pytest.mark.integration

RESTARTS = 10


def _refused_start(orthanc: Orthanc) -> str:
    """Starts an Orthanc that is meant to end by itself; returns its log."""
    orthanc.launch()
    orthanc.wait(60)
    wait_until(lambda: not orthanc.family(), 20, "processes are left")
    return orthanc.log_text()


def _errors(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.startswith("E") and "DICOM gateway" in line]


def test_ten_restarts_leave_nothing_behind(make_orthanc: MakeOrthanc) -> None:
    orthanc = make_orthanc(gateway=True, DicomGateway={"Workers": 1})
    for _ in range(RESTARTS):
        orthanc.start()
        assert listeners(orthanc.dicom_port) == 1
        family = orthanc.family()
        assert len(family) == len({pid for pid in family if state(pid) != "Z"})
        # A child of the supervisor has its command line for a moment.
        wait_until(lambda: len(processes_of(orthanc, SUPERVISOR)) == 1, 20, "not one supervisor")
        assert orthanc.stop() == 0
        assert orthanc.family() == []
        assert listeners(orthanc.dicom_port) == 0


def test_taken_port_is_said_in_one_line_and_ends_orthanc(make_orthanc: MakeOrthanc) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        orthanc = make_orthanc(gateway=True, DicomPort=port)
        log = _refused_start(orthanc)
    (line,) = _errors(log)
    assert f"cannot listen on DICOM port {port}" in line
    assert "Address already in use: stop the program that has it" in line


@pytest.mark.parametrize(
    ("configuration", "text"),
    [
        ({"DicomGateway": {"Worker": 2}}, "DicomGateway.Worker: unknown option"),
        ({"DicomGateway": {"Workers": "two"}}, "DicomGateway.Workers"),
        ({"DicomServerEnabled": True}, '"DicomServerEnabled": false'),
        ({"DicomTlsEnabled": True}, "DicomTlsEnabled"),
        ({"DicomGateway": {"VirtualEnv": "/nonexistent"}}, "/nonexistent/bin/python does not exist"),
    ],
    ids=["unknown key", "wrong type", "built-in SCP on", "TLS", "no environment"],
)
def test_wrong_configuration_is_said_in_one_line_and_ends_orthanc(
    make_orthanc: MakeOrthanc, configuration: dict[str, Any], text: str
) -> None:
    (line,) = _errors(_refused_start(make_orthanc(gateway=True, **configuration)))
    assert text in line


def test_orthanc_without_http_server_is_refused(make_orthanc: MakeOrthanc) -> None:
    (line,) = _errors(_refused_start(make_orthanc(gateway=True, HttpServerEnabled=False)))
    assert "HttpServerEnabled" in line


@pytest.mark.parametrize("module", [WORKER, FORWARDER, SUPERVISOR])
def test_process_that_dies_is_started_again(make_orthanc: MakeOrthanc, module: str) -> None:
    orthanc = make_orthanc(gateway=True, DicomGateway={"Workers": 1, "Forwarding": IMPATIENT})
    orthanc.start()
    first = process_of(orthanc, module)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in orthanc.family() and process_of(orthanc, module) != first, 30, "it stays dead")
    wait_until(lambda: accepts(orthanc.dicom_port), 30, "nothing listens")
    assert echoscu(orthanc.dicom_port).returncode == 0
    assert any("start" in line and "again" in line for line in _errors(orthanc.log_text()))
    with RawPeer(orthanc.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
        peer.release()
    orthanc.wait_for_count(1)


def test_what_keeps_a_gateway_that_has_served_from_starting_again_does_not_end_orthanc(
    make_orthanc: MakeOrthanc,
) -> None:
    orthanc = make_orthanc(gateway=True, DicomGateway={"Workers": 1})
    orthanc.start()
    assert echoscu(orthanc.dicom_port).returncode == 0
    wait_until(lambda: "listening with AE title" in orthanc.log_text(), 30, orthanc.log_tail)
    orthanc.state_directory.chmod(0o755)
    os.kill(process_of(orthanc, SUPERVISOR), signal.SIGKILL)
    wait_until(
        lambda: any("others can access it" in line for line in _errors(orthanc.log_text())), 30, orthanc.log_tail
    )
    orthanc.state_directory.chmod(0o700)
    wait_until(lambda: accepts(orthanc.dicom_port), 30, orthanc.log_tail)
    assert orthanc.get("/system")
    assert orthanc.stop() == 0


def test_stopping_orthanc_lets_a_transfer_finish_and_aborts_the_idle(make_orthanc: MakeOrthanc) -> None:
    orthanc = make_orthanc(gateway=True, DicomGateway={"ShutdownTimeout": 3})
    orthanc.start()
    with RawPeer(orthanc.dicom_port) as busy, RawPeer(orthanc.dicom_port) as idle:
        busy.associate()
        idle.associate()
        os.kill(orthanc.pid, signal.SIGTERM)
        wait_until(lambda: not accepts(orthanc.dicom_port), 20, "it still listens")
        assert busy.store("1.2.3.1", ct("1.2.3.1")).status == 0
        busy.release()
        assert [pdu.type for pdu in idle.ends()] == [A_ABORT]
    assert orthanc.wait() == 0
    orthanc.start()
    orthanc.wait_for_count(1)


def test_no_secret_on_a_command_line_or_in_an_environment(make_orthanc: MakeOrthanc) -> None:
    orthanc = make_orthanc(
        gateway=True, AuthenticationEnabled=True, RegisteredUsers={"admin": "the-password"}, verbose=False
    )
    orthanc.start()
    with RawPeer(orthanc.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
    orthanc.wait_for_count(1)
    assert len(orthanc.gateway_processes) >= 3
    for pid in orthanc.gateway_processes:
        for name in ("cmdline", "environ"):
            content = Path(f"/proc/{pid}/{name}").read_bytes()
            assert b"the-password" not in content
            assert b"Bearer" not in content
    assert "the-password" not in orthanc.log_text()


def test_transport_plugin_delivers_small_and_large_and_keeps_what_is_refused(make_orthanc: MakeOrthanc) -> None:
    forwarding = {**IMPATIENT, "Transport": "Plugin", "PluginMaximumBytes": 1024 * 1024}
    orthanc = make_orthanc(gateway=True, DicomGateway={"Forwarding": forwarding})
    orthanc.start()
    sent = {f"1.2.3.{n}": ct(f"1.2.3.{n}", size) for n, size in enumerate([1000] * 30 + [900_000, 3_000_000], start=1)}
    with RawPeer(orthanc.dicom_port) as peer:
        peer.associate()
        for uid, data_set in sent.items():
            assert peer.store(uid, data_set).status == 0
        wait_until_drained(orthanc)
        assert_stored(orthanc, sent)
        assert peer.store("1.2.3.1", ct("1.2.3.1", 2000)).status == 0
    wait_until(lambda: held(orthanc)["failed"], 30, "what differs is not in failed")
    assert_stored(orthanc, sent)
