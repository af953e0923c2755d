"""Modality Worklist queries over the network: statuses, order, limits, whom what is shown to, hostile identifiers."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from sqlalchemy import text

from gateway.database import connect_sqlite
from tests.scp.conftest import Log, StartGateway
from tests.support.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT, element, encode, item, sequence
from tests.support.rawdicom import Context, RawPeer
from tests.support.standalone import Gateway
from tests.support.worklist_queries import WORKLIST, WorklistQuerier, add_items, an_item, nested
from worklist.items import Status

STEP_SEQUENCE = 0x00400100
ITEMS = 40


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Gateway:
    running = start_gateway(DicomGateway={"Worklist": {}}, DicomAlwaysAllowFindWorklist=True, CaseSensitivePN=False)
    numbers = list(range(ITEMS))
    random.Random(1).shuffle(numbers)
    add_items(
        running,
        *(an_item(number, ScheduledProcedureStepStartDate=f"202401{1 + number // 10:02}") for number in numbers),
        *(
            (an_item(1000 + number, PatientName=status, ScheduledProcedureStepStartDate="20240201"), status)
            for number, status in enumerate(Status)
        ),
    )
    return running


@pytest.fixture
def querier(gateway: Gateway) -> Iterator[WorklistQuerier]:
    with WorklistQuerier(gateway.dicom_port) as peer:
        yield peer.open()


def test_answers_come_in_the_order_of_scheduled_date_and_time(querier: WorklistQuerier) -> None:
    found = querier.find(nested(PatientID="P?\\P??", ScheduledProcedureStepStartDate=""))
    assert found.values("PatientID") == [f"P{number}" for number in range(ITEMS)]
    assert (found.status, set(found.pendings)) == (0, {0xFF00})
    found = querier.find(nested(PatientID="", ScheduledProcedureStepStartDate="20240102-20240103"))
    assert found.values("PatientID") == [f"P{number}" for number in range(10, 30)]
    querier.release()


def test_what_is_finished_is_hidden_unless_a_status_is_asked_for(querier: WorklistQuerier) -> None:
    shown = {Status.SCHEDULED, Status.ARRIVED, Status.READY}
    assert set(querier.names(PatientID="P10??", ScheduledProcedureStepStatus="")) == shown
    assert set(querier.names(PatientID="P10??", ScheduledProcedureStepStatus="*")) == set(Status)
    assert querier.names(PatientID="P10??", ScheduledProcedureStepStatus="COMPLETED") == ["COMPLETED"]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_answers_come_in_the_transfer_syntax_of_the_context(gateway: Gateway, syntax: str) -> None:
    with WorklistQuerier(gateway.dicom_port) as peer:
        (answer,) = peer.open(transfer_syntax=syntax).find(nested(PatientID="P7", ScheduledStationAETitle="")).answers
        assert (answer.PatientID, answer.ScheduledProcedureStepSequence[0].ScheduledStationAETitle) == ("P7", "CT1")


def test_a_key_that_is_not_compared_gives_a_warning(gateway: Gateway, querier: WorklistQuerier) -> None:
    log = Log(gateway)
    found = querier.find(nested(PatientID="P7", PatientWeight="70", PreMedication="none"))
    assert (found.status, found.pendings) == (0, [0xFF01])
    assert found.answers[0].PatientWeight is None
    log.expect("C-FIND answered", "query_level=WORKLIST", "keys=(0010,0020)", "ignored_keys=(0010,1030),(0040,0012)")
    assert querier.find(nested(PatientID="P7", PatientWeight="")).pendings == [0xFF00]


def test_the_log_says_what_a_modality_asks_for_but_nothing_of_patients(
    gateway: Gateway, querier: WorklistQuerier
) -> None:
    log = Log(gateway)
    asked = {"Modality": "CT", "ScheduledStationAETitle": "CT1\nFORGED", "ScheduledProcedureStepStartDate": "20240102"}
    querier.find(nested(PatientID="SECRET", PatientName="SECRET*", **asked))
    line = log.expect("C-FIND answered", "modality=CT", "date=20240102", "keys=(0010,0010),(0010,0020)", "matches=0")
    assert "SECRET" not in line and "\nFORGED" not in line and "FORGED" in line


@pytest.mark.parametrize(
    ("identifier", "status", "tag"),
    [
        (nested(ScheduledProcedureStepStartDate="tomorrow"), 0xA900, 0x00400002),
        (nested(PatientBirthDate="19700101-x"), 0xA900, 0x00100030),
        (nested(StudyInstanceUID="2.25.*"), 0xA900, 0x0020000D),
        (nested(ScheduledProcedureStepSequence=Sequence([Dataset(), Dataset()])), 0xA900, STEP_SEQUENCE),
        (element(STEP_SEQUENCE, "LO", b"CT"), 0xA900, STEP_SEQUENCE),
        (sequence(0x00100010, item()), 0xA900, 0x00100010),
        (element(0x00100020, "LO", b"P1") * 2, 0xC000, 0x00100020),
        (element(0x00100020, "LO", b"P1", length=400), 0xC000, 0x00100020),
        (sequence(STEP_SEQUENCE, item(element(0x00080060, "CS", b"CT", length=90))), 0xC000, 0x00080060),
        (b"\x10\x00", 0xC000, None),
        (sequence(STEP_SEQUENCE, b"no item at all  "), 0xC000, STEP_SEQUENCE),
        (element(0x001021C0, "US", b"123"), 0xC000, 0x001021C0),
    ],
)
def test_bad_queries_are_refused_with_the_element_that_is_to_blame(
    querier: WorklistQuerier, identifier: Dataset | bytes, status: int, tag: int | None
) -> None:
    found = querier.find(identifier)
    assert (found.answers, found.status, found.offending_element) == ([], status, tag)
    assert found.comment
    assert len(querier.find(nested(PatientID="P1")).answers) == 1  # the association goes on


@pytest.mark.parametrize("identifier", [b"", element(0x00080005, "CS", b"ISO_IR 100"), None])
def test_who_asks_for_nothing_is_told_so(querier: WorklistQuerier, identifier: bytes | None) -> None:
    found = querier.find(identifier)
    assert (found.answers, found.status) == ([], 0xA900)
    assert "asks for nothing" in found.comment


def test_mutilated_identifiers_get_an_answer_each(gateway: Gateway, querier: WorklistQuerier) -> None:
    sound = encode(
        nested(
            PatientName="A*",
            PatientID="",
            Modality="CT",
            ScheduledProcedureStepStartDate="20240101-",
            RequestedProcedureCodeSequence=Sequence([nested(CodeValue="")]),
        ),
        EXPLICIT,
    )
    chance = random.Random(5)
    seen = set()
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(chance.randrange(1, 6)):
            kind, at = chance.randrange(4), chance.randrange(len(data))
            if kind == 0:
                data[at] = chance.randrange(256)
            elif kind == 1:
                del data[at : at + chance.randrange(1, 9)]
            elif kind == 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
            else:
                struct.pack_into("<H", data, min(at, len(data) - 2), chance.choice([0, 1, 0xFFFF, 0xFFFE]))
        found = querier.find(bytes(data))
        seen.add(found.status)
    assert seen <= {0, 0xA900, 0xC000}
    assert len(seen) == 3
    assert "ended by an error of the gateway" not in gateway.log_text()


def test_cancel_ends_a_query_with_the_next_response(querier: WorklistQuerier) -> None:
    with querier.in_one_segment():
        querier.ask(nested(PatientID=""))
        querier.cancel()
    found = querier.all_answers()
    assert (found.status, len(found.answers)) in [(0xFE00, count) for count in range(2)]
    querier.cancel()  # too late: nothing is answered
    assert len(querier.find(nested(PatientID="")).answers) == ITEMS + 3
    querier.release()


def test_modalities_ask_side_by_side(gateway: Gateway) -> None:
    def ask(number: int) -> list[list[str]]:
        with WorklistQuerier(gateway.dicom_port) as peer:
            peer.open()
            return [peer.names(PatientID=f"P{number}") for _ in range(5)]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, range(ITEMS)))
    assert found == [[[f"Name^{number}"]] * 5 for number in range(ITEMS)]


def context_result(gateway: Gateway, calling: str = "RAW") -> int:
    with RawPeer(gateway.dicom_port) as peer:
        return peer.associate([Context(1, WORKLIST, [EXPLICIT])], calling=calling).results[1]


def test_without_a_worklist_there_is_no_such_context(start_gateway: StartGateway) -> None:
    gateway = start_gateway(DicomAlwaysAllowFindWorklist=True)
    log = Log(gateway)
    assert context_result(gateway) == 3
    log.expect("presentation contexts not accepted", "abstract syntax not supported", WORKLIST)


@pytest.fixture(scope="module")
def restricted(start_gateway: StartGateway) -> Gateway:
    """Orthanc's own section and permissions; partitions and warnings as they can be set."""
    running = start_gateway(
        Worklists={"Enable": True, "FilterIssuerAet": True, "LimitAnswers": 5},
        DicomGateway={"Worklist": {"WarnUnsupportedKeys": False, "HiddenStatuses": ["SCHEDULED"]}},
        DicomModalities={
            "one": ["CT1", "127.0.0.1", 104],
            "two": ["CT2", "127.0.0.1", 104],
            "no": {"AET": "MR1", "Host": "127.0.0.1", "Port": 104, "AllowFindWorklist": False},
        },
    )
    arrived = [
        an_item(number, ScheduledStationAETitle="CT2" if number % 10 == 0 else "CT1", **labels)
        for number, labels in ((number, {"WorklistLabel": "ROOM1"} if number < 3 else {}) for number in range(30))
    ]
    add_items(running, *((one, Status.ARRIVED) for one in arrived), an_item(99, ScheduledStationAETitle="CT2"))
    return running


def asked(gateway: Gateway, calling: str, called: str = "ORTHANC", **values: Any) -> tuple[list[str], int, list[int]]:
    with WorklistQuerier(gateway.dicom_port) as peer:
        found = peer.open(calling=calling, called=called).find(nested(**{"PatientID": "", **values}))
        return found.values("PatientID"), found.status, found.pendings


def test_a_modality_sees_its_own_station_only(restricted: Gateway) -> None:
    for station in ("", "CT1", "*"):
        assert asked(restricted, "CT2", ScheduledStationAETitle=station)[:2] == (["P10", "P20"], 0)


def test_more_than_the_limit_ends_with_cancel_as_orthancs_plugin_does(restricted: Gateway) -> None:
    found, status, _pendings = asked(restricted, "CT1")
    assert (len(found), status) == (5, 0xFE00)


def test_items_with_a_label_are_for_that_called_ae_title(restricted: Gateway) -> None:
    assert asked(restricted, "CT2", "ROOM1")[0] == ["P0", "P10", "P20"]
    assert asked(restricted, "CT1", "ROOM1", PatientID="P1\\P2\\P3")[0] == ["P1", "P2", "P3"]
    assert asked(restricted, "CT1", "ROOM2", PatientID="P1\\P2\\P3")[0] == ["P3"]


def test_which_statuses_are_hidden_and_whether_is_warned_can_be_set(restricted: Gateway) -> None:
    assert asked(restricted, "CT2", PatientID="P10\\P99", PatientWeight="70") == (["P10"], 0, [0xFF00])


def test_who_may_not_query_the_worklist_has_no_context(restricted: Gateway) -> None:
    log = Log(restricted)
    assert [context_result(restricted, calling) for calling in ("CT1", "MR1", "STRANGER")] == [0, 1, 1]
    log.expect("presentation contexts not accepted", "calling=MR1", "DicomModalities.no.AllowFindWorklist")


def test_a_database_that_fails_is_out_of_resources(start_gateway: StartGateway) -> None:
    gateway = start_gateway(DicomGateway={"Worklist": {}}, DicomAlwaysAllowFindWorklist=True)
    log = Log(gateway)
    with WorklistQuerier(gateway.dicom_port) as peer:
        peer.open()
        assert peer.names() == []
        database = connect_sqlite(gateway.state_directory / "gateway.sqlite")
        with database.write() as connection:
            connection.execute(text("ALTER TABLE worklist_items RENAME TO elsewhere"))
        database.close()
        found = peer.find(nested(PatientID=""))
        assert (found.status, found.comment) == (0xA700, "the worklist's database does not answer")
        log.expect("the worklist cannot be read", "no such table")
        peer.release()
