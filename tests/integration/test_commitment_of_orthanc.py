"""Orthanc asks for commitment, and is asked: its own SCU, the gateway in the place of its SCP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
import requests
from pynetdicom import AE
from pynetdicom.presentation import build_role

from tests import conftest as root
from tests.support.commitments import INSTANCE, PUSH_MODEL, information
from tests.support.images import SAMPLE_DIRECTORY
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.rawdicom import CT_IMAGE

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 30
REASONS: Final = (0x0110, 0x0112, 0x0119, 0x0122, 0x0131, 0x0213, 0xA700)


class Pair(NamedTuple):
    """An Orthanc with the gateway, and one with its own SCP; each is a modality of the other."""

    ours: Orthanc
    theirs: Orthanc


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    our_port, their_port = free_port(), free_port()
    ours = Orthanc(
        tmp_path_factory.mktemp("ours"),
        gateway=True,
        DicomAet="OURS",
        DicomPort=our_port,
        DicomModalities={"them": ["THEIRS", "127.0.0.1", their_port]},
        DicomGateway={"StorageCommitment": {"GracePeriod": "0s"}, "Workers": 1},
    )
    theirs = Orthanc(
        tmp_path_factory.mktemp("theirs"),
        dicom_server=True,
        DicomAet="THEIRS",
        DicomPort=their_port,
        DicomModalities={"us": ["OURS", "127.0.0.1", our_port]},
    )
    root._servers.extend([ours, theirs])
    try:
        ours.start()
        theirs.start()
        yield Pair(ours, theirs)
    finally:
        root._closing([ours, theirs])


def add(server: Orthanc, name: str) -> str:
    """Stores one of pydicom's files; Orthanc's identifier."""
    return str(server.post("/instances", (SAMPLE_DIRECTORY / name).read_bytes())["ID"])


def ask(server: Orthanc, modality: str, *instances: str) -> str:
    """Has Orthanc ask for commitment; the path of what it says about it."""
    return str(server.post(f"/modalities/{modality}/storage-commitment", json={"Resources": instances})["Path"])


def settled(server: Orthanc, path: str) -> dict[str, Any]:
    """What Orthanc says once it is not pending any more."""
    wait_until(lambda: server.get(path)["Status"] != "Pending", DEADLINE_S, lambda: str(server.get(path)))
    return dict(server.get(path))


def raw(server: Orthanc, method: str, path: str) -> tuple[int, dict[str, Any]]:
    response = requests.request(method, server.url + path, timeout=DEADLINE_S)
    return response.status_code, response.json() if response.content else {}


def report(server: Orthanc, title: str, uid: str, data_set: Any, event_type: int) -> None:
    """Reports to an Orthanc as an archive does, by pynetdicom."""
    ae = AE(ae_title=title)
    ae.add_requested_context(PUSH_MODEL)
    association = ae.associate(
        "127.0.0.1", server.dicom_port, ae_title="ANY", ext_neg=[build_role(PUSH_MODEL, scp_role=True)]
    )
    assert association.is_established
    status, _reply = association.send_n_event_report(data_set, event_type, PUSH_MODEL, INSTANCE)
    association.release()
    assert status.Status == 0, uid


def test_another_orthanc_asks_the_gateway_and_gets_its_report(pair: Pair) -> None:
    common, only_theirs = add(pair.theirs, "CT_small.dcm"), add(pair.theirs, "MR_small.dcm")
    add(pair.ours, "CT_small.dcm")
    answer = settled(pair.theirs, ask(pair.theirs, "us", common))
    assert (answer["Status"], answer["RemoteAET"], len(answer["Success"])) == ("Success", "OURS", 1)
    answer = settled(pair.theirs, ask(pair.theirs, "us", common, only_theirs))
    assert (answer["Status"], len(answer["Success"])) == ("Failure", 1)
    assert [failure["FailureReason"] for failure in answer["Failures"]] == [0x0112]


def test_orthanc_asks_another_one_and_answers_with_the_report_that_came_to_the_gateway(pair: Pair) -> None:
    common, only_ours = add(pair.ours, "CT_small.dcm"), add(pair.ours, "rtplan.dcm")
    add(pair.theirs, "CT_small.dcm")
    failed = ask(pair.ours, "them", common, only_ours)
    assert settled(pair.ours, failed)["Status"] == "Failure"
    status, body = raw(pair.ours, "POST", f"{failed}/remove")
    assert (status, body["OrthancStatus"]) == (500, 6)
    assert common in pair.ours.instances()
    committed = ask(pair.ours, "them", common)
    assert settled(pair.ours, committed)["Status"] == "Success"
    assert raw(pair.ours, "POST", f"{committed}/remove") == (200, {})
    assert common not in pair.ours.instances()
    assert only_ours in pair.ours.instances()
    assert raw(pair.ours, "POST", f"{committed}/remove") == (200, {})


def test_same_report_is_answered_as_by_orthancs_own_scp(pair: Pair) -> None:
    """Every failure reason, and one that the standard does not know."""
    failed = [((CT_IMAGE, f"1.5.{reason}"), reason) for reason in REASONS]
    for uid, data_set, event_type in (
        ("1.5.90.1", information("1.5.90.1", [(CT_IMAGE, "1.5.1")], failed), 2),
        ("1.5.90.2", information("1.5.90.2", [(CT_IMAGE, "1.5.1"), (CT_IMAGE, "1.5.2")]), 1),
    ):
        report(pair.ours, "THEIRS", uid, data_set, event_type)
        report(pair.theirs, "OURS", uid, data_set, event_type)
        path = f"/storage-commitment/{uid}"
        assert pair.ours.get(path) == {**pair.theirs.get(path), "RemoteAET": "THEIRS"}


def test_what_is_not_there_or_not_allowed_is_answered_as_by_orthanc(pair: Pair) -> None:
    for method, path in (
        ("GET", "/storage-commitment/1.5.99"),
        ("POST", "/storage-commitment/1.5.99/remove"),
        ("DELETE", "/storage-commitment/1.5.99"),
        ("GET", "/storage-commitment/1.5.99/remove"),
        ("GET", "/storage-commitment"),
        ("GET", "/storage-commitment/1 5"),
    ):
        assert raw(pair.ours, method, path) == raw(pair.theirs, method, path), (method, path)


def test_what_is_no_transaction_uid_does_not_reach_the_reporter(pair: Pair) -> None:
    processes = pair.ours.gateway_processes
    path = f"/storage-commitment/{'1' * 5000}"
    assert raw(pair.ours, "GET", path) == raw(pair.theirs, "GET", path)
    assert raw(pair.ours, "GET", "/storage-commitment/1.5.99")[0] == 404  # the reporter says so
    assert pair.ours.gateway_processes == processes


def test_reports_survive_a_restart_of_orthanc_and_a_kill(pair: Pair) -> None:
    data_set = information("1.5.90.3", [(CT_IMAGE, "1.5.3")])
    report(pair.ours, "THEIRS", "1.5.90.3", data_set, 1)
    pair.ours.kill()
    wait_until(lambda: not pair.ours.family(), DEADLINE_S, "the gateway outlives Orthanc")
    pair.ours.start()
    path = "/storage-commitment/1.5.90.3"
    # Before the gateway answers, Orthanc does not claim that there was no such request.
    seen = []
    wait_until(lambda: seen.append(raw(pair.ours, "GET", path)) or seen[-1][0] == 200, DEADLINE_S, lambda: str(seen))
    assert {status for status, _body in seen} <= {200, 503}
    assert seen[-1][1]["Success"] == [{"SOPClassUID": CT_IMAGE, "SOPInstanceUID": "1.5.3"}]
