"""Callbacks of a script for C-FIND, worklist queries and C-MOVE, called as Orthanc calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from tests.integration.gateways import ct, process_of
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.querying import Querier, findscu, keys
from tests.support.rawdicom import RawPeer
from tests.support.retrieving import MOVE, Retriever
from tests.support.standalone import Gateway
from tests.support.worklists import dump, write_file

TIMEOUT_S = 30

SCRIPT = """
import json, os, time, orthanc

FOLDER = {folder!r}

def note(*what):
    with open(os.path.join(FOLDER, 'calls.jsonl'), 'a') as file:
        file.write(json.dumps(what) + '\\n')

def OnFind(answers, query, connection):
    keys = {{}}
    for i in range(query.GetFindQuerySize()):
        name = query.GetFindQueryTagName(i)
        keys[name] = query.GetFindQueryValue(i)
        note('key', name, query.GetFindQueryTagGroup(i), query.GetFindQueryTagElement(i), keys[name])
    note('find', connection.GetConnectionRemoteAet(), connection.GetConnectionCalledAet(),
         connection.GetConnectionRemoteIp())
    if keys.get('PatientID') == 'RAISE':
        answers.FindAddAnswer(orthanc.CreateDicom('{{"PatientID": "NEVER"}}', None, orthanc.CreateDicomFlags.NONE))
        raise ValueError('the archive of the script is gone')
    if keys.get('PatientID') == 'HANG':
        time.sleep(3600)
    if keys.get('PatientID') == 'REST':
        answers.FindAddAnswer(orthanc.CreateDicom(json.dumps({{
            'PatientID': str(len(json.loads(orthanc.RestApiGet('/instances')))),
        }}), None, orthanc.CreateDicomFlags.NONE))
    if keys.get('PatientID') == 'EMPTY':
        answers.FindAddAnswer(orthanc.CreateDicom('{{}}', None, orthanc.CreateDicomFlags.NONE))
    count = 1500 if keys.get('PatientID') == 'MANY' else 2
    for number in range(count):
        answers.FindAddAnswer(orthanc.CreateDicom(json.dumps({{
            'PatientName': 'Jodogne^Sébastien%d' % number,
            'PatientID': 'P%d' % number,
            'StudyInstanceUID': '1.2.%d' % number,
            'NumberOfStudyRelatedInstances': '7',
        }}), None, orthanc.CreateDicomFlags.NONE))
    if keys.get('PatientID') == 'MORE':
        answers.FindMarkIncomplete()

orthanc.RegisterFindCallback2(OnFind)

def OnWorklist(answers, query, remoteAet, calledAet):
    note('worklist', remoteAet, calledAet, json.loads(orthanc.DicomBufferToJson(
        query.WorklistGetDicomQuery(), orthanc.DicomToJsonFormat.SHORT, orthanc.DicomToJsonFlags.NONE, 0)))
    for name in sorted(os.listdir(FOLDER)):
        if name.endswith('.wl'):
            with open(os.path.join(FOLDER, name), 'rb') as file:
                content = file.read()
            if query.WorklistIsMatch(content):
                answers.WorklistAddAnswer(query, content)
    if remoteAet == 'MORE':
        answers.WorklistMarkIncomplete()
    if remoteAet == 'RAISE':
        raise ValueError('no')

orthanc.RegisterWorklistCallback(OnWorklist)

class Driver:
    def __init__(self, **request):
        note('create', request)
        if request['PatientID'] == 'RAISE':
            raise ValueError('no')
        self.request, self.done = request, 0

def Create(**request):
    return Driver(**request)

def Size(driver):
    note('size')
    return {{'NONE': 0, 'ODD': 'seven'}}.get(driver.request['PatientID'], 4)

def Apply(driver):
    driver.done += 1
    note('apply', driver.done)
    if driver.request['PatientID'] == 'SLOW':
        while not os.path.exists(os.path.join(FOLDER, 'go')):
            time.sleep(0.01)
    if driver.request['PatientID'] in ('SOME', 'ALL') and (driver.done == 2 or driver.request['PatientID'] == 'ALL'):
        raise RuntimeError('sub-operation %d failed' % driver.done)
    return 17

def Free(driver):
    note('free')

orthanc.RegisterMoveCallback2(Create, Size, Apply, Free)

def OnChange(changeType, level, resource):
    names = dict((value, name) for name, value in vars(orthanc.ChangeType).items() if name.isupper())
    with open(os.path.join(FOLDER, 'changes'), 'a') as file:
        file.write('%s %d %s\\n' % (names[changeType], level, resource))
    raise ValueError('each time')

orthanc.RegisterOnChangeCallback(OnChange)

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'HANG':
        time.sleep(3600)
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scripts")
    write_file(made / "a.wl", dump(name="DOE^JANE", step="S1"))
    write_file(made / "b.wl", dump(name="ROE^RICHARD", step="S2", station="MR1"))
    return made


def started(directory: Path, text: str, orthanc: Orthanc, **options: Any) -> Gateway:
    directory.mkdir(exist_ok=True)
    script = directory / "the_script.py"
    script.write_text(text)
    gateway = Gateway(
        directory,
        DicomAlwaysAllowFind=True,
        DicomAlwaysAllowMove=True,
        DicomAlwaysAllowFindWorklist=True,
        DicomGateway={
            "Script": str(script),
            "Workers": 1,
            "Orthanc": {"Url": orthanc.url},
            "ScriptOptions": {"FindTimeout": 5, "FilterTimeout": 1, **options},
        },
    )
    gateway.start()
    return gateway


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory, folder: Path, orthanc: Orthanc) -> Iterator[Gateway]:
    gateway = started(tmp_path_factory.mktemp("gateway"), SCRIPT.format(folder=str(folder)), orthanc)
    try:
        yield gateway
    finally:
        print(gateway.log_tail())
        gateway.close()


@pytest.fixture
def calls(folder: Path) -> Any:
    """What the script has noted since the test began."""
    file = folder / "calls.jsonl"
    file.unlink(missing_ok=True)
    return lambda: [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_changes_of_orthanc_are_told(scripted: Gateway, orthanc: Orthanc, folder: Path) -> None:
    """The first: after another test the script may be started again, and begin with what changes from then on."""
    file = folder / "changes"
    wait_until(lambda: file.exists() and "ORTHANC_STARTED 4 " in file.read_text(), TIMEOUT_S, "no start")
    identifier = orthanc.post("/instances", Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())["ID"]
    wait_until(lambda: f"NEW_INSTANCE 3 {identifier}" in file.read_text(), TIMEOUT_S, lambda: file.read_text())
    wait_until(lambda: "NEW_STUDY 1 " in file.read_text(), TIMEOUT_S, lambda: file.read_text())  # after its instance


def test_find_callback_answers_in_the_place_of_the_archive(scripted: Gateway, calls: Any) -> None:
    asked = ("QueryRetrieveLevel=STUDY", "PatientName=Jod*", "StudyDate=20260101-", "RequestAttributesSequence")
    found = findscu(scripted.dicom_port, *asked, calling="VIEWER", called="ARCHIVE")
    assert found.status == 0
    assert [(str(one.PatientName), one.PatientID, one.StudyInstanceUID) for one in found.answers] == [
        ("Jodogne^Sébastien0", "P0", "1.2.0"),
        ("Jodogne^Sébastien1", "P1", "1.2.1"),
    ]
    assert found.answers[0].NumberOfStudyRelatedInstances == 7
    assert calls() == [
        ["key", "StudyDate", 0x0008, 0x0020, "20260101-"],
        ["key", "QueryRetrieveLevel", 0x0008, 0x0052, "STUDY"],
        ["key", "PatientName", 0x0010, 0x0010, "Jod*"],
        ["key", "RequestAttributesSequence", 0x0040, 0x0275, ""],
        ["find", "VIEWER", "ARCHIVE", "127.0.0.1"],
    ]


def test_find_callback_with_thousands_of_answers(scripted: Gateway) -> None:
    found = findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=MANY")
    assert [one.PatientID for one in found.answers] == [f"P{number}" for number in range(1500)]


def test_answer_without_attributes_is_an_empty_data_set(scripted: Gateway) -> None:
    with Querier(scripted.dicom_port) as peer:
        found = peer.open().find(keys("STUDY", PatientID="EMPTY"))
        peer.release()
    assert (found.status, [answer.get("PatientID") for answer in found.answers]) == (0, [None, "P0", "P1"])
    of_dcmtk = findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=EMPTY")
    assert (of_dcmtk.status, [answer.get("PatientID") for answer in of_dcmtk.answers][-2:]) == (0, ["P0", "P1"])


def test_incomplete_answers_end_with_cancel(scripted: Gateway) -> None:
    found = findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=MORE")
    assert (len(found.answers), found.status) == (2, 0xFE00)


def test_exception_in_find_callback_drops_all_answers(scripted: Gateway) -> None:
    found = findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=RAISE")
    assert (found.answers, found.status) == ([], 0xC000)


def test_find_callback_asks_orthanc_over_rest(scripted: Gateway, orthanc: Orthanc) -> None:
    found = findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=REST")
    assert found.answers[0].PatientID == str(orthanc.count())


WORKLIST_KEYS = (
    "PatientName",
    "(0040,0100)[0].ScheduledStationAETitle=CT1",
    "(0040,0100)[0].ScheduledProcedureStepID",
)


def test_worklist_callback_serves_a_folder(scripted: Gateway, calls: Any) -> None:
    found = findscu(scripted.dicom_port, *WORKLIST_KEYS, model="-W", calling="CT1")
    assert found.status == 0
    (answer,) = found.answers
    assert str(answer.PatientName) == "DOE^JANE"
    (step,) = answer.ScheduledProcedureStepSequence
    assert step.ScheduledProcedureStepID == "S1"
    assert "ScheduledProcedureStepStartDate" not in step
    assert "AccessionNumber" not in answer
    ((_what, remote, called, query),) = calls()
    assert (remote, called) == ("CT1", "ORTHANC")
    assert query["0040,0100"][0]["0040,0001"] == "CT1"


@pytest.mark.parametrize(("calling", "status", "answers"), [("MORE", 0xFE00, 1), ("RAISE", 0xC000, 0)])
def test_end_of_worklist_callbacks(scripted: Gateway, calling: str, status: int, answers: int) -> None:
    found = findscu(scripted.dicom_port, *WORKLIST_KEYS, model="-W", calling=calling)
    assert (found.status, len(found.answers)) == (status, answers)


def move(gateway: Gateway, patient: str, level: str = "STUDY", **identifiers: str) -> list[Any]:
    """All responses to a C-MOVE to AE title ELSEWHERE, which nobody knows."""
    with Retriever(gateway.dicom_port) as peer:
        peer.open(MOVE, calling="VIEWER")
        peer.ask(keys(level, PatientID=patient, **identifiers), "ELSEWHERE")
        return peer.responses()


def test_life_of_a_move(scripted: Gateway, calls: Any) -> None:
    told = move(scripted, "P1", "IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID="1.4\\1.5")
    assert told[-1].status == 0
    assert told[-1].counters[1:] == (4, 0, 0)
    request = {
        "Level": "INSTANCE",
        "PatientID": "P1",
        "AccessionNumber": "",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.3",
        "SOPInstanceUID": "1.4\\1.5",
        "OriginatorAET": "VIEWER",
        "SourceAET": "ORTHANC",
        "TargetAET": "ELSEWHERE",
        "OriginatorID": 1,
    }
    assert calls() == [["create", request], ["size"], *(["apply", n] for n in (1, 2, 3, 4)), ["free"]]


@pytest.mark.parametrize(
    ("patient", "status", "counters", "steps"),
    [
        ("NONE", 0x0000, (0, 0, 0), ["create", "size", "free"]),
        ("SOME", 0xB000, (3, 1, 0), ["create", "size", *["apply"] * 4, "free"]),
        ("ALL", 0xA702, (0, 4, 0), ["create", "size", *["apply"] * 4, "free"]),
        ("RAISE", 0xC000, None, ["create"]),
        ("ODD", 0xC000, None, ["create", "size", "free"]),
    ],
)
def test_outcomes_of_moves(
    scripted: Gateway, calls: Any, patient: str, status: int, counters: Any, steps: list[str]
) -> None:
    last = move(scripted, patient, StudyInstanceUID="1.2")[-1]
    assert last.status == status
    assert counters is None or last.counters[1:] == counters
    wait_until(lambda: [call[0] for call in calls()] == steps, TIMEOUT_S, lambda: str(calls()))


def test_query_behind_a_hanging_one_is_answered_by_the_same_process(
    scripted: Gateway, folder: Path, calls: Any
) -> None:
    before = process_of(scripted, "gateway.script_host")
    with Retriever(scripted.dicom_port) as peer:
        peer.open(MOVE, calling="VIEWER")
        peer.ask(keys("STUDY", PatientID="SLOW", StudyInstanceUID="1.2"), "ELSEWHERE")
        wait_until(lambda: ["apply", 1] in calls(), TIMEOUT_S, "the move does not begin")
        found = findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=HANG")
        assert (found.answers, found.status) == ([], 0xA700)
        # It waits for its turn until the other one is left behind.
        assert findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=P").status == 0
        assert process_of(scripted, "gateway.script_host") == before
        (folder / "go").touch()
        assert peer.responses()[-1].status == 0
    (folder / "go").unlink()
    wait_until(lambda: process_of(scripted, "gateway.script_host") != before, TIMEOUT_S, "no new script")


def test_hanging_filter_does_not_end_a_move(scripted: Gateway, folder: Path, calls: Any) -> None:
    with Retriever(scripted.dicom_port) as peer, RawPeer(scripted.dicom_port) as sender:
        peer.open(MOVE, calling="VIEWER")
        peer.ask(keys("STUDY", PatientID="SLOW", StudyInstanceUID="1.2"), "ELSEWHERE")
        wait_until(lambda: ["apply", 1] in calls(), TIMEOUT_S, "the move does not begin")
        sender.associate(calling="HANG")
        assert sender.store("1.2.1", ct("1.2.1", 1000)).status == 0xA700
        wait_until(lambda: "is left behind" in scripted.log_text(), TIMEOUT_S, "the filter is not left behind")
        (folder / "go").touch()
        last = peer.responses()[-1]
        assert (last.status, last.counters[1:]) == (0, (4, 0, 0))
    wait_until(lambda: "the script is started again" in scripted.log_text(), TIMEOUT_S, "no new script")
    assert findscu(scripted.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=P").status == 0


OTHER_FORMS = """
import json, orthanc

def peer(one):
    return [one.GetConnectionRemoteAet(), one.GetConnectionCalledAet(), one.GetConnectionRemoteIp()]

def OnFind(answers, query, issuerAet, calledAet):
    answers.FindAddAnswer(orthanc.CreateDicom(json.dumps({{'PatientID': issuerAet + calledAet}}), None, 0))

def OnWorklist(answers, query, connection):
    patient = json.dumps(peer(connection))
    answers.WorklistAddAnswer(query, orthanc.CreateDicom(json.dumps({{'PatientID': patient}}), None, 0))

def Create(connection, **request):
    with open({file!r}, 'w') as file:
        json.dump([peer(connection), request], file)
    return None

def Apply(driver):
    raise RuntimeError('each fails')

orthanc.RegisterFindCallback(OnFind)
orthanc.RegisterWorklistCallback2(OnWorklist)
orthanc.RegisterMoveCallback3(Create, lambda driver: 3, Apply, lambda driver: None)
"""

SIMPLE_MOVE = """
import json, orthanc

def OnMove(**request):
    with open({file!r}, 'a') as file:
        file.write(request['PatientID'] + request['TargetAET'] + request['OriginatorAET'])

orthanc.RegisterMoveCallback(OnMove)
"""


def test_other_forms_of_the_callbacks(tmp_path: Path, orthanc: Orthanc) -> None:
    text = OTHER_FORMS.format(file=str(tmp_path / "request"))
    gateway = started(tmp_path / "gateway", text, orthanc, StopOnFirstFailure=True)
    try:
        found = findscu(gateway.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID", calling="ME", called="YOU")
        assert [one.PatientID for one in found.answers] == ["MEYOU"]
        found = findscu(gateway.dicom_port, "PatientID", model="-W", calling="ME", called="YOU")
        assert [json.loads(one.PatientID) for one in found.answers] == [["ME", "YOU", "127.0.0.1"]]
        last = move(gateway, "P1", StudyInstanceUID="1.2")[-1]
        assert (last.status, last.counters[1:]) == (0xB000, (0, 1, 0))
        peer, request = json.loads((tmp_path / "request").read_text())
        assert peer == ["VIEWER", "ORTHANC", "127.0.0.1"]
        assert "OriginatorAET" not in request
        assert "SourceAET" not in request
        assert (request["TargetAET"], request["OriginatorID"]) == ("ELSEWHERE", 1)
    finally:
        gateway.close()


def test_simple_form_of_the_move_callback(tmp_path: Path, orthanc: Orthanc) -> None:
    gateway = started(tmp_path / "gateway", SIMPLE_MOVE.format(file=str(tmp_path / "calls")), orthanc)
    try:
        last = move(gateway, "P1", StudyInstanceUID="1.2")[-1]
        assert (last.status, last.counters[1:]) == (0, (1, 0, 0))
        assert (tmp_path / "calls").read_text() == "P1ELSEWHEREVIEWER"
        # What the script has no callback for is served without it.
        assert findscu(gateway.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID=NOBODY").status == 0
    finally:
        gateway.close()
