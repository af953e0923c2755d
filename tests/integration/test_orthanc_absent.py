"""Orthanc is away, stuck, or has changed its mind: a modality sees only success, and the queue drains by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import (
    IMPATIENT,
    PROCESS_TIMEOUT_S,
    held,
    section,
    wait_until_drained,
)
from tests.support.dcmtk import storescu
from tests.support.images import make_cts
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

COUNT = 40


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return make_cts(tmp_path / "ct", COUNT)


def _gateway(orthanc: Orthanc, make_gateway: MakeGateway, **forwarding: Any) -> Gateway:
    gateway = make_gateway(DicomGateway=section(orthanc, Forwarding={**IMPATIENT, **forwarding}))
    gateway.start()
    return gateway


def _send(server: Any, images: list[Path]) -> None:
    sent = storescu(server.dicom_port, images, env_nodelay=True)
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr.count("(Success)") + sent.stdout.count("(Success)") >= len(images)


def test_a_modality_sees_only_success_while_orthanc_hangs(
    orthanc: Orthanc, make_gateway: MakeGateway, images: list[Path]
) -> None:
    gateway = _gateway(orthanc, make_gateway)
    os.kill(orthanc.pid, signal.SIGSTOP)
    _send(gateway, images)
    assert len(held(gateway)["ready"]) == COUNT
    os.kill(orthanc.pid, signal.SIGCONT)
    orthanc.wait_for_count(COUNT)
    wait_until_drained(gateway)


def test_posts_that_time_out_are_sent_again_and_stored_once(
    orthanc: Orthanc, make_gateway: MakeGateway, images: list[Path]
) -> None:
    gateway = _gateway(orthanc, make_gateway, Timeout=0.5)
    os.kill(orthanc.pid, signal.SIGSTOP)
    _send(gateway, images)
    wait_until(lambda: "the queue waits" in gateway.log_text(), PROCESS_TIMEOUT_S, "no post times out")
    os.kill(orthanc.pid, signal.SIGCONT)
    wait_until_drained(gateway)
    assert orthanc.count() == COUNT


def test_the_queue_drains_by_itself_when_orthanc_is_back(
    orthanc: Orthanc, make_gateway: MakeGateway, images: list[Path]
) -> None:
    gateway = _gateway(orthanc, make_gateway)
    orthanc.kill()
    _send(gateway, images)
    wait_until(lambda: "the queue waits" in gateway.log_text(), PROCESS_TIMEOUT_S, "trouble is not logged")
    assert len(held(gateway)["ready"]) == COUNT
    orthanc.start()
    orthanc.wait_for_count(COUNT)
    wait_until_drained(gateway)
    assert gateway.log_text().count("the queue waits") == 1
    assert gateway.log_text().count("Orthanc takes instances again") == 1


def test_a_gateway_that_starts_before_orthanc_delivers_once_it_is_there(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway, images: list[Path]
) -> None:
    orthanc = make_orthanc()
    gateway = _gateway(orthanc, make_gateway)
    _send(gateway, images)
    gateway.restart()
    assert len(held(gateway)["ready"]) == COUNT
    orthanc.start()
    orthanc.wait_for_count(COUNT)
    wait_until_drained(gateway)


def test_a_password_that_is_wrong_holds_the_queue_and_refuses_no_instance(
    orthanc: Orthanc, make_gateway: MakeGateway, images: list[Path]
) -> None:
    gateway = _gateway(orthanc, make_gateway)
    orthanc.kill()
    orthanc.configuration.update({"AuthenticationEnabled": True, "RegisteredUsers": {"user": "password"}})
    orthanc.start()
    _send(gateway, images)
    wait_until(lambda: "the queue waits" in gateway.log_text(), PROCESS_TIMEOUT_S, "401 is not logged")
    (line,) = [line for line in gateway.log_text().splitlines() if "the queue waits" in line]
    assert "HTTP 401" in line
    assert len(held(gateway)["ready"]) == COUNT
    orthanc.kill()
    orthanc.configuration["AuthenticationEnabled"] = False
    del orthanc.configuration["RegisteredUsers"]
    orthanc.start()
    orthanc.wait_for_count(COUNT)
    wait_until_drained(gateway)


@pytest.mark.parametrize("transport", ["Http", "Plugin"])
def test_what_orthanc_had_not_taken_when_it_was_killed_is_delivered_by_its_next_start(
    make_orthanc: MakeOrthanc, images: list[Path], transport: str
) -> None:
    server = make_orthanc(
        gateway=True, DicomGateway={"Workers": 1, "Forwarding": {**IMPATIENT, "Transport": transport}}
    )
    server.start()
    os.kill(server.pid, signal.SIGSTOP)
    _send(server, images)
    assert len(held(server)["ready"]) == COUNT
    server.kill()
    wait_until(lambda: not server.family(), PROCESS_TIMEOUT_S, "processes outlive Orthanc")
    server.start()
    server.wait_for_count(COUNT)
    wait_until_drained(server)
