"""Storage commitment with a real Orthanc: what is committed and what is not, and how the requester learns it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import conftest as root
from tests.integration.commitments import COMMIT, STORE, TITLES, Site, site, stored_file
from tests.integration.gateways import FORWARDER, ct, held, process_of, wait_until_drained
from tests.support.commitments import PUSH_MODEL, ask, ask_and_leave, ct_of
from tests.support.data_sets import EXPLICIT, element
from tests.support.orthanc import Orthanc
from tests.support.postgresql import PostgreSql
from tests.support.processes import wait_until
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE, image
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 30

PROCESSING_FAILURE, NO_SUCH_INSTANCE = 0x0110, 0x0112
CLASS_CONFLICT, CLASS_NOT_SUPPORTED, DUPLICATE = 0x0119, 0x0122, 0x0131


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Without its cache of files: what is on the disk counts at once."""
    server = Orthanc(tmp_path_factory.mktemp("orthanc"), MaximumStorageCacheSize=0)
    root._servers.append(server)
    try:
        server.start()
        yield server
    finally:
        root._closing([server])


@pytest.fixture(scope="module")
def here(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("gateway"), orthanc) as made:
        yield made


def outcome(here: Site, uid: str, references: list[tuple[str, str]], title: str = TITLES[0]) -> dict[str, int]:
    """Asks on an association of its own; what the report says has failed."""
    with here.requester(title) as requester:
        assert ask_and_leave(here.gateway.dicom_port, uid, references, title) == 0
        report = requester.next()
    assert report.transaction_uid == uid
    assert report.event_type == (2 if report.failed else 1)
    assert sorted(report.committed) == sorted(one for one in references if one[1] not in report.failed)
    return report.failed


def test_instances_still_on_their_way_are_committed_when_they_have_arrived(here: Site) -> None:
    """Asked for on the association that stored them, with the report on one of ours."""
    uids = [f"1.2.1.{number}" for number in range(20)]
    with here.requester(TITLES[0]) as requester, here.associated(TITLES[0]) as peer:
        for uid in uids:
            assert peer.store(uid, context_id=STORE).status == 0
        assert ask(peer, "1.2.90.1", ct_of(*uids), context_id=COMMIT).status == 0
        report = requester.next()
        peer.release()
    assert (report.event_type, report.failed, report.committed) == (1, {}, ct_of(*uids))
    assert report.retrieve_ae_title == "ORTHANC"
    assert report.proposal is not None
    assert (report.proposal.called, report.proposal.calling) == (TITLES[0], "ORTHANC")
    assert report.proposal.roles == {PUSH_MODEL: (0, 1)}


def test_each_instance_that_is_not_safe_has_its_reason(here: Site) -> None:
    here.store(TITLES[0], "1.2.2.1", "1.2.2.2")
    references = [
        (CT_IMAGE, "1.2.2.1"),
        (MR_IMAGE, "1.2.2.2"),
        (CT_IMAGE, "1.2.2.3"),
        ("1.2.840.10008.5.1.4.1.2.1.1", "1.2.2.4"),
    ]
    assert outcome(here, "1.2.90.2", references) == {
        "1.2.2.2": CLASS_CONFLICT,
        "1.2.2.3": NO_SUCH_INSTANCE,
        "1.2.2.4": CLASS_NOT_SUPPORTED,
    }


def test_several_copies_are_no_failure_if_one_is_of_the_class(here: Site, orthanc: Orthanc) -> None:
    for patient, sop_class in (("A", CT_IMAGE), ("B", MR_IMAGE)):
        data_set = image("1.2.3.1", patient_id=patient, study=f"1.2.{patient == 'A':d}", sop_class_uid=sop_class)
        orthanc.post("/instances", _part_10(data_set, sop_class, "1.2.3.1"))
    assert outcome(here, "1.2.90.3", ct_of("1.2.3.1")) == {}
    assert outcome(here, "1.2.90.4", [(MR_IMAGE, "1.2.3.1")]) == {}


def test_file_that_changed_is_missing_or_is_cut_off_is_a_processing_failure(here: Site, orthanc: Orthanc) -> None:
    uids = ["1.2.4.1", "1.2.4.2", "1.2.4.3", "1.2.4.4"]
    here.store(TITLES[0], *uids)
    wait_until_drained(here.gateway)
    changed, missing, cut_off = (stored_file(orthanc, uid) for uid in uids[:3])
    changed.write_bytes(changed.read_bytes()[:-1] + b"\xff")
    missing.unlink()
    cut_off.write_bytes(cut_off.read_bytes()[:-10])
    assert outcome(here, "1.2.90.5", ct_of(*uids)) == dict.fromkeys(uids[:3], PROCESSING_FAILURE)


def test_with_index_what_orthancs_index_has_counts(orthanc: Orthanc, tmp_path: Path) -> None:
    with site(tmp_path, orthanc, {"Verify": "Index"}) as there:
        there.store(TITLES[0], "1.2.5.1")
        wait_until_drained(there.gateway)
        stored_file(orthanc, "1.2.5.1").unlink()
        assert outcome(there, "1.2.90.6", ct_of("1.2.5.1", "1.2.5.2")) == {"1.2.5.2": NO_SUCH_INSTANCE}


def test_orthanc_that_keeps_no_md5_has_its_files_read(tmp_path: Path) -> None:
    server = Orthanc(tmp_path / "orthanc", MaximumStorageCacheSize=0, StoreMD5ForAttachments=False)
    root._servers.append(server)
    try:
        server.start()
        with site(tmp_path / "gateway", server) as there:
            there.store(TITLES[0], "1.2.6.1", "1.2.6.2", "1.2.6.3")
            wait_until_drained(there.gateway)
            stored_file(server, "1.2.6.2").unlink()
            cut_off = stored_file(server, "1.2.6.3")
            cut_off.write_bytes(cut_off.read_bytes()[:-10])
            assert outcome(there, "1.2.90.7", ct_of("1.2.6.1", "1.2.6.2", "1.2.6.3")) == {
                "1.2.6.2": PROCESSING_FAILURE,
                "1.2.6.3": PROCESSING_FAILURE,
            }
    finally:
        root._closing([server])


def test_instance_that_differs_from_orthancs_copy_is_a_processing_failure(here: Site, orthanc: Orthanc) -> None:
    here.store(TITLES[0], "1.2.7.1")
    wait_until_drained(here.gateway)
    with here.associated(TITLES[0]) as peer:
        assert peer.store("1.2.7.1", ct("1.2.7.1"), context_id=STORE).status == 0
        peer.release()
    assert outcome(here, "1.2.90.8", ct_of("1.2.7.1")) == {"1.2.7.1": PROCESSING_FAILURE}
    assert held(here.gateway)["failed"]
    orthanc_copy = orthanc.lookup("1.2.7.1")
    assert orthanc_copy is not None
    _empty_failed(here.gateway)


def test_ten_thousand_instances_are_looked_for_in_one_transaction(here: Site) -> None:
    here.store(TITLES[0], "1.2.8.1", "1.2.8.10000")
    uids = [f"1.2.8.{number}" for number in range(1, 10_001)]
    assert outcome(here, "1.2.90.9", ct_of(*uids)) == dict.fromkeys(uids[1:-1], NO_SUCH_INSTANCE)


def test_same_request_is_reported_again_and_another_with_its_uid_is_a_duplicate(here: Site) -> None:
    here.store(TITLES[0], "1.2.9.1", "1.2.9.2")
    for _ in range(2):
        assert outcome(here, "1.2.90.10", ct_of("1.2.9.1")) == {}
    assert outcome(here, "1.2.90.10", ct_of("1.2.9.2")) == {"1.2.9.2": DUPLICATE}
    assert outcome(here, "1.2.90.10", ct_of("1.2.9.1")) == {}


def test_instances_are_waited_for_during_the_grace_period(orthanc: Orthanc, tmp_path: Path) -> None:
    with site(tmp_path, orthanc, {"GracePeriod": "5m"}) as there, there.requester(TITLES[0]) as requester:
        assert ask_and_leave(there.gateway.dicom_port, "1.2.90.11", ct_of("1.2.10.1"), TITLES[0]) == 0
        wait_until(lambda: "1 instances are not there" in there.command("list"), DEADLINE_S, "was not looked for")
        there.store(TITLES[0], "1.2.10.1")
        assert requester.next().event_type == 1


def test_nothing_is_said_while_the_forwarder_does_not_say_what_is_on_its_way(here: Site) -> None:
    with here.requester(TITLES[1]) as requester:
        forwarder = process_of(here.gateway, FORWARDER)
        _signal(forwarder, "STOP")
        try:
            here.store(TITLES[1], "1.2.11.1")
            assert ask_and_leave(here.gateway.dicom_port, "1.2.90.12", ct_of("1.2.11.1"), TITLES[1]) == 0
            wait_until(lambda: "the forwarder does not say" in here.command("list"), DEADLINE_S, "was not looked for")
        finally:
            _signal(forwarder, "CONT")
        assert requester.next().event_type == 1


def test_refused_aborted_rejected_and_unanswered_reports_come_again_until_one_is_taken(here: Site) -> None:
    here.store(TITLES[2], "1.2.12.1")
    with here.requester(TITLES[2], 0x0110, "abort", "reject", "silence", 0) as requester:
        assert ask_and_leave(here.gateway.dicom_port, "1.2.90.13", ct_of("1.2.12.1"), TITLES[2]) == 0
        for _ in range(4):  # a rejected association brings none
            assert requester.next().event_type == 1
        wait_until(lambda: "reported" in here.row(TITLES[2]), DEADLINE_S, lambda: here.command("list"))
    assert here.row(TITLES[2])[6:9] == ["0", "reported", "5"]
    log = here.gateway.log_text()
    for reason in (
        "status 0x0110: as the test wants it",
        "aborted by the peer",
        "rejected",
        "timed out waiting for a response",
    ):
        assert reason in log


def test_requester_that_does_not_answer_its_role_gets_its_report(here: Site) -> None:
    here.store(TITLES[3], "1.2.13.1")
    with here.requester(TITLES[3], roles=False) as requester:
        assert ask_and_leave(here.gateway.dicom_port, "1.2.90.14", ct_of("1.2.13.1"), TITLES[3]) == 0
        assert requester.next().event_type == 1


def test_on_postgresql_requests_are_kept_verified_and_reported(
    orthanc: Orthanc, postgresql: PostgreSql, tmp_path: Path
) -> None:
    with site(tmp_path, orthanc, Database=postgresql.database()) as there:
        there.store(TITLES[5], "1.2.15.1")
        assert outcome(there, "1.2.90.16", ct_of("1.2.15.1", "1.2.15.2"), TITLES[5]) == {"1.2.15.2": NO_SUCH_INSTANCE}
        wait_until(lambda: "reported" in there.row(TITLES[5]), DEADLINE_S, lambda: there.command("list"))
        assert outcome(there, "1.2.90.16", ct_of("1.2.15.2"), TITLES[5]) == {"1.2.15.2": DUPLICATE}


def test_given_up_is_shown_and_sent_again_by_command(orthanc: Orthanc, tmp_path: Path) -> None:
    with site(tmp_path, orthanc, {"MaximumRetries": 1}) as there:
        assert ask_and_leave(there.gateway.dicom_port, "1.2.90.15", ct_of("1.2.14.1"), TITLES[4]) == 0
        wait_until(lambda: "given up" in there.command("list"), DEADLINE_S, lambda: there.command("list"))
        listed = there.command("list", "--state", "given-up")
        assert "1.2.90.15" in listed and "Connection refused" in listed
        assert "1.2.90.15" not in there.command("list", "--state", "pending")
        number = there.row(TITLES[4])[0]
        shown = there.command("show", number)
        assert f"1.2.14.1 {CT_IMAGE} 0x0112 NO_SUCH_OBJECT_INSTANCE" in shown
        assert f"from: {TITLES[4]} at 127.0.0.1, to ORTHANC" in shown
        there.store(TITLES[4], "1.2.14.1")
        with there.requester(TITLES[4]) as requester:
            there.command("resend", number)
            assert requester.next().event_type == 1
            wait_until(lambda: "reported" in there.row(TITLES[4]), DEADLINE_S, lambda: there.command("list"))
        assert f"1.2.14.1 {CT_IMAGE} committed" in there.command("show", number)
        there.command("delete", number)
        assert "1.2.90.15" not in there.command("list")


def _part_10(data_set: bytes, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    def uid(tag: int, value: str) -> bytes:
        return element(tag, "UI", value.encode() + b"\0" * (len(value) % 2))

    meta = uid(0x00020002, sop_class_uid) + uid(0x00020003, sop_instance_uid) + uid(0x00020010, EXPLICIT)
    length = element(0x00020000, "UL", len(meta).to_bytes(4, "little"))
    return bytes(128) + b"DICM" + length + meta + data_set


def _signal(pid: int, name: str) -> None:
    os.kill(pid, getattr(signal, f"SIG{name}"))


def _empty_failed(gateway: Gateway) -> None:
    for path in (gateway.state_directory / "spool" / "failed").iterdir():
        path.unlink()
