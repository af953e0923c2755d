"""`Acknowledge` "Stored": the answer says that Orthanc has the instance, or that it never will."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import (
    FORWARDER,
    PROCESS_TIMEOUT_S,
    WORKER,
    assert_stored,
    ct,
    held,
    process_of,
    processes_of,
    section,
    wait_until_drained,
)
from tests.support.orthanc import Orthanc
from tests.support.processes import kill, wait_until
from tests.support.rawdicom import RawPeer, store_rq
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000


def _gateway(orthanc: Orthanc, make_gateway: MakeGateway, **options: Any) -> Gateway:
    gateway = make_gateway(
        DicomGateway=section(orthanc, **{"Acknowledge": "Stored", "StoredDeadline": 20.0, **options})
    )
    gateway.start()
    return gateway


def test_orthanc_has_the_instance_when_it_is_acknowledged(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    gateway = _gateway(orthanc, make_gateway)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        for number in range(1, 11):
            assert peer.store(f"1.2.3.{number}", ct(f"1.2.3.{number}")).status == 0
            assert orthanc.count() == number
    assert_stored(orthanc, {f"1.2.3.{number}": ct(f"1.2.3.{number}") for number in range(1, 11)})
    assert held(gateway)["ready"] == held(gateway)["failed"] == held(gateway)["incoming"] == []


@pytest.mark.parametrize("transport", ["Http", "Plugin"])
def test_orthanc_has_the_instance_when_the_plugin_acknowledges_it(make_orthanc: MakeOrthanc, transport: str) -> None:
    options = {"Acknowledge": "Stored", "Forwarding": {"Transport": transport}}
    server = make_orthanc(gateway=True, DicomGateway=options)
    server.start()
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
        assert_stored(server, {"1.2.3.1": ct("1.2.3.1")})


def test_what_is_refused_at_the_deadline_is_not_delivered_later(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    gateway = _gateway(orthanc, make_gateway, StoredDeadline=1.0)
    orthanc.kill()
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        response = peer.store("1.2.3.1", ct("1.2.3.1"))
        assert response.status == OUT_OF_RESOURCES
        assert response.comment
        assert held(gateway) == {"incoming": [], "ready": [], "delivered": [], "failed": []}
        orthanc.start()
        # Orthanc answers again when the second instance is in it: the first had its chance.
        wait_until(
            lambda: peer.store("1.2.3.2", ct("1.2.3.2")).status == 0, PROCESS_TIMEOUT_S, "Orthanc's return is not seen"
        )
    gateway.restart()
    wait_until_drained(gateway)
    assert_stored(orthanc, {"1.2.3.2": ct("1.2.3.2")})


def test_the_calling_ae_title_decides_when_it_is_acknowledged(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    gateway = _gateway(orthanc, make_gateway, Acknowledge={"SAFE": "Stored", "FAST": "Spooled"}, StoredDeadline=1.0)
    orthanc.kill()
    expected = {"SAFE": OUT_OF_RESOURCES, "safe": OUT_OF_RESOURCES, "FAST": 0, "OTHER": 0}
    for number, (calling, status) in enumerate(expected.items()):
        with RawPeer(gateway.dicom_port) as peer:
            peer.associate(calling=calling)
            assert peer.store(f"1.2.3.{number}", ct(f"1.2.3.{number}")).status == status
    orthanc.start()
    wait_until_drained(gateway)
    assert_stored(orthanc, {"1.2.3.2": ct("1.2.3.2"), "1.2.3.3": ct("1.2.3.3")})


def test_what_differs_from_orthancs_copy_is_refused_and_not_kept(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    gateway = _gateway(orthanc, make_gateway)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
        response = peer.store("1.2.3.1", ct("1.2.3.1", size=500))
    assert response.status == CANNOT_UNDERSTAND
    assert "differs" in response.comment
    assert held(gateway)["failed"] == held(gateway)["incoming"] == []
    assert_stored(orthanc, {"1.2.3.1": ct("1.2.3.1")})


def test_a_forwarder_that_is_killed_meanwhile_delivers_when_it_is_back(
    orthanc: Orthanc, make_gateway: MakeGateway
) -> None:
    gateway = _gateway(orthanc, make_gateway)
    forwarder = process_of(gateway, FORWARDER)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        kill(forwarder)
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
    assert_stored(orthanc, {"1.2.3.1": ct("1.2.3.1")})


def test_an_instance_whose_worker_is_killed_is_not_delivered_later(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    gateway = _gateway(orthanc, make_gateway)
    orthanc.kill()
    worker = process_of(gateway, WORKER)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        peer.message(1, store_rq("1.2.3.1"), ct("1.2.3.1"))
        wait_until(lambda: "the queue waits" in gateway.log_text(), PROCESS_TIMEOUT_S, "nothing is tried")
        kill(worker)
        assert peer.ends() == []
    wait_until(lambda: processes_of(gateway, WORKER) not in ([], [worker]), PROCESS_TIMEOUT_S, "no new worker")
    orthanc.start()
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.2", ct("1.2.3.2")).status == 0
    assert_stored(orthanc, {"1.2.3.2": ct("1.2.3.2")})
    assert held(gateway)["incoming"] == []
