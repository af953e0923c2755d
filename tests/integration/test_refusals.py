"""What Orthanc refuses for good: kept in `failed` with the reason, never called stored, and in nobody's way."""

from __future__ import annotations

from typing import Final

import pytest

from tests.conftest import MakeOrthanc
from tests.integration.gateways import (
    DRAIN_TIMEOUT_S,
    IMPATIENT,
    assert_stored,
    ct,
    held,
    spool_of,
)
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer, image

pytestmark = pytest.mark.integration

CANNOT_UNDERSTAND: Final = 0xC000

# The gateway lets pass what is merely ugly, as this Study Instance UID of 401 characters; Orthanc 1.10.1 refuses it.
REFUSED_UID: Final = "1.2.3.666"
REFUSED: Final = image(REFUSED_UID, study="1" + ".1" * 200)


@pytest.fixture(params=["Http", "Plugin"])
def server(request: pytest.FixtureRequest, make_orthanc: MakeOrthanc) -> Orthanc:
    forwarding = {**IMPATIENT, "Transport": request.param}
    orthanc = make_orthanc(gateway=True, DicomGateway={"Workers": 1, "Forwarding": forwarding})
    orthanc.start()
    return orthanc


def test_a_refused_instance_goes_to_failed_and_blocks_no_other(server: Orthanc) -> None:
    sent = {f"1.2.3.{number}": ct(f"1.2.3.{number}", size=2000) for number in range(60)}
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        for number, (uid, data_set) in enumerate(sent.items()):
            if number == len(sent) // 2:
                assert peer.store(REFUSED_UID, REFUSED).status == 0
            assert peer.store(uid, data_set).status == 0
        peer.release()
    server.wait_for_count(len(sent))
    (name,) = wait_until(lambda: held(server)["failed"], DRAIN_TIMEOUT_S, "what Orthanc refuses is not in failed")
    wait_until(lambda: not held(server)["ready"], DRAIN_TIMEOUT_S, "the spool does not drain")
    assert_stored(server, sent)
    assert (spool_of(server).failed / name).read_bytes().endswith(REFUSED)
    note = spool_of(server).note(name)
    assert note["reason"].startswith("Orthanc refuses it: ")
    assert note["attempts"] >= 1
    assert note["failed_at"]


def test_a_refused_instance_is_tried_again_at_no_start_by_itself(server: Orthanc) -> None:
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        assert peer.store(REFUSED_UID, REFUSED).status == 0
    failed = wait_until(lambda: held(server)["failed"], DRAIN_TIMEOUT_S, "what Orthanc refuses is not in failed")
    server.restart()
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
    server.wait_for_count(1)
    assert held(server)["failed"] == failed


def test_a_modality_that_waits_for_orthanc_hears_of_the_refusal(make_orthanc: MakeOrthanc) -> None:
    server = make_orthanc(gateway=True, DicomGateway={"Acknowledge": "Stored"})
    server.start()
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        response = peer.store(REFUSED_UID, REFUSED)
        assert response.status == CANNOT_UNDERSTAND
        assert "Orthanc refuses it" in response.comment
        assert peer.store("1.2.3.1", ct("1.2.3.1")).status == 0
    assert_stored(server, {"1.2.3.1": ct("1.2.3.1")})
    assert held(server)["failed"] == held(server)["incoming"] == []
