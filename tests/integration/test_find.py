"""C-FIND against a real Orthanc, asked by DCMTK, GDCM, pynetdicom and a peer that breaks the rules."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import section, wait_until_drained
from tests.support.data_sets import BIG_ENDIAN, IMPLICIT, element, item, sequence
from tests.support.images import make_ct, make_cts
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.querying import PATIENT_ROOT, STUDY_ROOT, Querier, findscu, gdcmscu, keys
from tests.support.rawdicom import Gone
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

STUDIES = 40
# The keys that the forwarder is told of.
LISTED = ("PatientID", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def study(number: int, **values: Any) -> bytes:
    """A study of one CT image."""
    path = Path(f"/dev/shm/find-{number}-{threading.get_native_id()}.dcm")
    try:
        make_ct(path, 8, 8, 0, series=number)
        image = dcmread(path)
    finally:
        path.unlink(missing_ok=True)
    image.PatientID, image.PatientName = f"P{number}", f"Name^{number}"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number:05}"
    for name, value in values.items():
        setattr(image, name, value)
    file = BytesIO()
    image.save_as(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"), gateway=True, DicomAlwaysAllowFind=True, LimitFindInstances=5)
    try:
        server.start()
        for number in range(STUDIES):
            server.post("/instances", study(number))
        server.post("/instances", study(900, SpecificCharacterSet="ISO_IR 192", PatientName="山田^太郎"))
        server.post("/instances", study(901, PatientName="Müller^Jörg"))
        yield server
    finally:
        server.close()


@pytest.fixture
def querier(full: Orthanc) -> Iterator[Querier]:
    with Querier(full.dicom_port) as peer:
        yield peer.open()


def test_findscu_gets_all_levels_in_both_models(full: Orthanc) -> None:
    port = full.dicom_port
    patients = findscu(port, "QueryRetrieveLevel=PATIENT", "PatientID=P1*", "PatientName", model="-P")
    assert sorted(answer.PatientID for answer in patients.answers) == ["P1", *(f"P{n}" for n in range(10, 20))]
    for level, model in (("STUDY", "-P"), ("STUDY", "-S"), ("SERIES", "-S"), ("IMAGE", "-S")):
        found = findscu(
            port, f"QueryRetrieveLevel={level}", "PatientID=P7", "StudyDate", "RetrieveAETitle", model=model
        )
        (answer,) = found.answers
        assert (found.status, answer.PatientID, answer.StudyDate) == (0, "P7", "20240102")
        assert (answer.QueryRetrieveLevel, answer.RetrieveAETitle) == (level, "ORTHANC")


def test_gdcm_and_pynetdicom_get_what_they_ask_for(full: Orthanc) -> None:
    gdcmscu(full.dicom_port, "study", "10,10=", "10,20=P7")
    # Debian's gdcmscu breaks down when it is to print answers, those of Orthanc's own server too.
    wait_until(lambda: re.search(r"C-FIND answered .*calling=GDCMSCU .*matches=1", full.log_text()), 30, "no query")
    ae = AE("PYNETDICOM")
    ae.add_requested_context(STUDY_ROOT)
    association = ae.associate("127.0.0.1", full.dicom_port)
    responses = list(association.send_c_find(keys("STUDY", PatientID="P7", PatientName=""), STUDY_ROOT))
    association.release()
    assert [status.Status for status, _identifier in responses] == [0xFF00, 0x0000]
    assert responses[0][1].PatientName == "Name^7"


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN])
def test_answers_come_in_the_transfer_syntax_of_the_context(full: Orthanc, syntax: str) -> None:
    if syntax == BIG_ENDIAN:
        found = findscu(full.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=P7", "Rows", model="-S")
        assert found.answers[0].Rows == 8
        return
    with Querier(full.dicom_port) as peer:
        found = peer.open(transfer_syntax=syntax).find(keys("STUDY", PatientID="P7", Rows=""))
        assert found.answers[0].Rows == 8
        peer.release()


def test_character_sets_of_key_and_answer_are_their_own(full: Orthanc, querier: Querier) -> None:
    query = keys("STUDY", PatientID="", PatientName="山田*")
    query.SpecificCharacterSet = "ISO_IR 192"
    (answer,) = querier.find(query).answers
    answer.decode()
    assert (answer.SpecificCharacterSet, answer.PatientName, answer.PatientID) == ("ISO_IR 192", "山田^太郎", "P900")
    for character_set in ("ISO_IR 192", "ISO_IR 100"):
        query = keys("STUDY", PatientID="", PatientName="MÜLLER^*")
        query.SpecificCharacterSet = character_set
        (answer,) = querier.find(query).answers
        answer.decode()
        assert (answer.SpecificCharacterSet, answer.PatientName) == ("ISO_IR 100", "Müller^Jörg")
    # without a character set: DefaultEncoding, Latin1
    query = element(0x00080052, "CS", b"STUDY ") + element(0x00100010, "PN", b"m\xfcller*")
    assert len(querier.find(query).answers) == 1


@pytest.mark.parametrize(
    ("identifier", "status", "tag"),
    [
        (None, 0xA900, 0x00080052),
        (b"", 0xA900, 0x00080052),
        (keys("VOLUME"), 0xA900, 0x00080052),
        (keys("PATIENT"), 0xA900, 0x00080052),
        (keys("STUDY", StudyDate="tomorrow"), 0xC000, 0x00080020),
        (keys("STUDY", StudyInstanceUID="1.2.*"), 0xC000, 0x0020000D),
        (b"\x08\x00\x52\x00CS\xff\x00STUDY", 0xC000, 0x00080052),
        (element(0x00080052, "CS", b"STUDY ") + sequence(0x00400275, item() + item()), 0xA900, 0x00400275),
    ],
)
def test_bad_queries_are_refused_with_the_element_that_is_to_blame(
    querier: Querier, full: Orthanc, identifier: Dataset | bytes | None, status: int, tag: int
) -> None:
    found = querier.find(identifier)
    assert (found.status, found.answers, found.offending_element) == (status, [], tag)
    assert found.comment.startswith(f"({tag >> 16:04X},{tag & 0xFFFF:04X}): ")
    assert len(querier.find(keys("STUDY", PatientID="P1")).answers) == 1  # the association goes on


@pytest.mark.parametrize(
    "values",
    [
        {"PatientID": "P" * 65_400},
        {name: "\\".join(f"{position}.{10**50 + n}" for n in range(200)) for position, name in enumerate(LISTED, 1)},
    ],
    ids=["one long value", "many values"],
)
def test_a_query_of_many_bytes_leaves_the_other_processes_alone(
    querier: Querier, full: Orthanc, values: dict[str, str]
) -> None:
    processes = full.gateway_processes
    found = querier.find(keys("IMAGE", **values))
    assert (found.status, found.answers) == (0, [])
    assert len(querier.find(keys("STUDY", PatientID="P1")).answers) == 1
    assert full.gateway_processes == processes
    assert "answered although acknowledged" not in full.log_text()


def test_more_than_the_limit_ends_with_cancel_as_orthancs_server_does(querier: Querier) -> None:
    over = querier.find(keys("IMAGE", SOPInstanceUID=""))
    assert (len(over.answers), over.status) == (5, 0xFE00)
    exact = querier.find(keys("IMAGE", SOPInstanceUID="", PatientID="P1\\P2\\P3\\P4\\P5"))
    assert (len(exact.answers), exact.status) == (5, 0)
    assert len(querier.find(keys("SERIES", PatientID="")).answers) == STUDIES + 2


def test_cancel_ends_a_query_with_the_next_response(querier: Querier) -> None:
    """All in one segment: the request to cancel is there before the first answer is found."""
    with querier.in_one_segment():
        querier.ask(keys("STUDY", PatientID=""))
        querier.cancel()
    found = querier.all_answers()
    assert (found.status, len(found.answers)) in [(0xFE00, count) for count in range(2)]
    querier.cancel()  # too late: nothing is answered
    querier.ask(keys("STUDY", PatientID=""), message_id=2)
    querier.cancel(message_id=1)  # of another
    assert len(querier.all_answers().answers) == STUDIES + 2
    querier.release()


def test_a_second_request_before_the_last_response_is_an_abort(querier: Querier) -> None:
    with querier.in_one_segment():
        querier.ask(keys("STUDY", PatientID=""), message_id=1)
        querier.ask(keys("STUDY", PatientID=""), message_id=2)
    with pytest.raises((Gone, AssertionError)):
        for _ in range(2):
            querier.all_answers()


def test_release_in_the_middle_of_a_query_is_answered(full: Orthanc) -> None:
    with Querier(full.dicom_port) as peer:
        peer.open().ask(keys("STUDY", PatientID=""))
        peer.send(b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        assert peer.ends()[-1].type == 0x06


def test_an_orthanc_that_is_away_is_refused_out_of_resources(make_gateway: MakeGateway, full: Orthanc) -> None:
    section = {"Workers": 1, "Orthanc": {"Url": "http://127.0.0.1:9"}, "QueryBarrierTimeout": 0.2}
    gateway = make_gateway(DicomGateway=section, DicomAlwaysAllowFind=True)
    gateway.start()
    with Querier(gateway.dicom_port) as peer:
        found = peer.open().find(keys("STUDY", PatientID=""))
        assert (found.status, found.answers) == (0xA700, [])
        peer.release()


def test_a_peer_that_may_not_query_has_no_context(make_gateway: MakeGateway, orthanc: Orthanc) -> None:
    gateway = make_gateway(DicomGateway=section(orthanc))
    gateway.start()
    with Querier(gateway.dicom_port) as peer, pytest.raises(AssertionError):
        peer.open(PATIENT_ROOT)


def patient_holding(gateway: Gateway, files: list[Path]) -> None:
    """Store `files` on one association."""
    ae = AE("STORER")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = ae.associate("127.0.0.1", gateway.dicom_port)
    for file in files:
        assert association.send_c_store(dcmread(file)).Status == 0
    association.release()


def test_a_query_sees_at_once_what_was_acknowledged_before_it(
    make_gateway: MakeGateway, orthanc: Orthanc, tmp_path: Path
) -> None:
    """The forwarder holds for a minute, so only the barrier can have brought it there."""
    forwarding = {"HoldWhileReceiving": 60}
    gateway = make_gateway(
        DicomAlwaysAllowFind=True,
        DicomGateway=section(orthanc, Workers=3, Forwarding=forwarding, QueryBarrierTimeout=20),
    )
    gateway.start()
    for number in range(6):
        patient_holding(gateway, make_cts(tmp_path / "images", 5, 8, 8, series=number))
        with Querier(gateway.dicom_port) as peer:
            found = peer.open().find(keys("STUDY", StudyInstanceUID="", NumberOfStudyRelatedInstances=""))
            assert [answer.NumberOfStudyRelatedInstances for answer in found.answers] == [5] * (number + 1)
            peer.release()


def test_a_query_does_not_wait_for_ever(make_gateway: MakeGateway, orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.stop()
    gateway = make_gateway(DicomAlwaysAllowFind=True, DicomGateway=section(orthanc, QueryBarrierTimeout=0.5))
    gateway.start()
    patient_holding(gateway, make_cts(tmp_path / "images", 2, 8, 8))
    with Querier(gateway.dicom_port) as peer:
        assert peer.open().find(keys("STUDY", StudyInstanceUID="")).status == 0xA700
        # what cannot match is not waited for
        peer.release()
    assert "acknowledged instances are not in Orthanc yet" in gateway.log_text()
    orthanc.start()
    wait_until_drained(gateway)
    wait_until(lambda: len(findscu(gateway.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID").answers) == 1, 30, "")


def test_queries_of_several_peers_run_side_by_side(full: Orthanc) -> None:
    counts: list[int] = []

    def ask() -> None:
        with Querier(full.dicom_port) as peer:
            peer.open()
            for _ in range(10):
                counts.append(len(peer.find(keys("STUDY", PatientID="", ModalitiesInStudy="CT")).answers))
            peer.release()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [STUDIES + 2] * 80


def test_a_peer_that_reads_nothing_holds_nothing_but_its_own_query(make_orthanc: MakeOrthanc) -> None:
    """Back-pressure: the gateway stops to ask Orthanc for more while the peer's buffers are full."""
    orthanc = make_orthanc(gateway=True, DicomAlwaysAllowFind=True)
    orthanc.start()
    for number in range(300):
        orthanc.post("/instances", study(number, StudyDescription="x" * 64))
    with Querier(orthanc.dicom_port) as slow:
        slow.open()
        slow.socket.setsockopt(1, 8, 4096)  # SO_RCVBUF
        slow.ask(keys("STUDY", **dict.fromkeys(("StudyDescription", "PatientID", "StudyInstanceUID"), "")))
        assert len(findscu(orthanc.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=P7").answers) == 1
        assert len(slow.all_answers().answers) == 300
        slow.release()
