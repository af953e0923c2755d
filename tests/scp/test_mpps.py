"""Modality Performed Procedure Step over the network: the state table of PS3.4 F.7, statuses, hostile data sets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.database import Database, connect_sqlite
from tests.scp.conftest import Log, StartGateway
from tests.support.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT, element, encode, item, sequence
from tests.support.mpps import MPPS, Modality, begun, ended, scheduled
from tests.support.rawdicom import Context, RawPeer, command_set
from tests.support.standalone import Gateway
from tests.support.worklist_queries import WorklistQuerier, add_items, an_item, nested
from worklist import store
from worklist.items import Item, Status, text_of
from worklist.performed import steps
from worklist.performed.linking import linked_items
from worklist.performed.requirements import SET_BY_CREATE_ONLY
from worklist.performed.steps import Step

STATUS: Final = 0x0040_0252
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Gateway:
    return start_gateway(DicomGateway={"Worklist": {}}, DicomAlwaysAllowFindWorklist=True)


@pytest.fixture
def modality(gateway: Gateway) -> Iterator[Modality]:
    with Modality(gateway.dicom_port) as peer:
        yield peer.open()


@pytest.fixture(scope="module")
def database(gateway: Gateway) -> Iterator[Database]:
    opened = connect_sqlite(gateway.state_directory / "gateway.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def uid() -> str:
    return f"2.25.50{next(_numbers)}"


def step_of(database: Database, uid: str) -> Step | None:
    with database.read() as connection:
        return steps.by_uid(connection, uid)


def items_of_step(database: Database, uid: str) -> list[Item]:
    with database.read() as connection:
        step = steps.by_uid(connection, uid)
        assert step is not None
        return linked_items(connection, step.id)


def status_of(database: Database, item: Item) -> Status:
    with database.read() as connection:
        found = store.get(connection, item.id)
        assert found is not None
        return found.status


# The table of PS3.4 F.7.2: what is there, what is asked for, what is answered, and what is there then.
NOTHING, IN_PROGRESS, COMPLETED, DISCONTINUED = None, "IN PROGRESS", "COMPLETED", "DISCONTINUED"
STATES: Final = (NOTHING, IN_PROGRESS, COMPLETED, DISCONTINUED)
CREATES: Final = (IN_PROGRESS, COMPLETED, DISCONTINUED)
SETS: Final = (None, IN_PROGRESS, COMPLETED, DISCONTINUED, "PAUSED", "")


def bring_to(modality: Modality, uid: str, state: str | None) -> None:
    if state is not NOTHING:
        assert modality.create(uid, begun(scheduled())).status == 0
        if state != IN_PROGRESS:
            assert modality.set(uid, ended(state)).status == 0


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("wanted", CREATES)
def test_creating_by_the_state_table(
    modality: Modality, database: Database, uid: str, before: str | None, wanted: str
) -> None:
    bring_to(modality, uid, before)
    response = modality.create(uid, begun(scheduled(), PerformedProcedureStepStatus=wanted))
    expected = 0x0111 if before is not NOTHING else 0 if wanted == IN_PROGRESS else 0x0106
    assert response.status == expected
    assert response.values[0x1000].rstrip(b"\0") == uid.encode()
    step = step_of(database, uid)
    assert (step.status if step else None) == (IN_PROGRESS if expected == 0 else before)


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("wanted", SETS)
def test_setting_by_the_state_table(
    modality: Modality, database: Database, uid: str, before: str | None, wanted: str | None
) -> None:
    bring_to(modality, uid, before)
    described = {"PerformedProcedureStepStatus": wanted, "PerformedProcedureStepDescription": "done"}
    response = modality.set(uid, ended(**described))  # type: ignore[arg-type]
    step = step_of(database, uid)
    if before is NOTHING:
        assert (response.status, step) == (0x0112, None)
        return
    assert step is not None
    if before != IN_PROGRESS:
        comment = "Performed Procedure Step Object may no longer be updated"
        assert (response.status, response.comment) == (0x0110, comment)
        assert response.values[0x0903] == (0xA710).to_bytes(2, "little")
        assert (step.status, text_of(step.attributes, 0x0040_0254)) == (before, "")
    elif wanted in ("PAUSED", ""):
        assert response.status == (0x0106 if wanted else 0x0121)
        assert (step.status, text_of(step.attributes, 0x0040_0254)) == (IN_PROGRESS, "")
    else:
        assert response.status == 0
        assert (step.status, text_of(step.attributes, 0x0040_0254)) == (wanted or IN_PROGRESS, "done")
        assert text_of(step.attributes, STATUS) == step.status


@pytest.mark.parametrize(
    ("keyword", "missing", "empty"),
    [
        ("PerformedProcedureStepStatus", 0x0120, 0x0121),
        ("PerformedProcedureStepID", 0x0120, 0x0121),
        ("PerformedStationAETitle", 0x0120, 0x0121),
        ("PerformedProcedureStepStartDate", 0x0120, 0x0121),
        ("PerformedProcedureStepStartTime", 0x0120, 0x0121),
        ("Modality", 0x0120, 0x0121),
        ("ScheduledStepAttributesSequence", 0x0120, 0),
        ("PatientName", 0, 0),
        ("StudyID", 0, 0),
        ("PerformedSeriesSequence", 0, 0),
    ],
)
def test_what_a_new_step_must_have(modality: Modality, uid: str, keyword: str, missing: int, empty: int) -> None:
    without = begun(scheduled())
    del without[keyword]
    response = modality.create(f"{uid}.1", without)
    assert response.status == missing
    assert (keyword in response.comment) == bool(missing)
    nothing: Any = Sequence() if keyword.endswith("Sequence") else ""
    assert modality.create(f"{uid}.2", begun(scheduled(), **{keyword: nothing})).status == empty


def test_each_scheduled_step_names_its_study(modality: Modality, uid: str) -> None:
    assert modality.create(uid, begun(scheduled(), scheduled(StudyInstanceUID=None))).status == 0x0120
    assert modality.create(uid, begun(scheduled(StudyInstanceUID=""))).status == 0x0121


def test_who_names_no_instance_is_given_one(modality: Modality, database: Database) -> None:
    response = modality.create(None, begun(scheduled()))
    uid = response.values[0x1000].decode().rstrip("\0")
    assert response.status == 0 and uid.startswith("2.25.")
    assert modality.set(uid, ended()).status == 0
    step = step_of(database, uid)
    assert step is not None and step.status == COMPLETED


@pytest.mark.parametrize("tag", sorted(SET_BY_CREATE_ONLY))
def test_what_only_create_sets_may_be_repeated_and_not_changed(
    modality: Modality, database: Database, uid: str, tag: int
) -> None:
    created = begun(scheduled(), IssuerOfPatientID="HOSPITAL", PerformedStationName="one")
    assert modality.create(uid, created).status == 0
    before = step_of(database, uid)
    assert before is not None
    vr = before.attributes[tag].vr if tag in before.attributes else "SQ"
    other = sequence(tag, item(element(0x0020_000D, "UI", b"2.25.4"))) if vr == "SQ" else element(tag, vr, b"2.25.4")
    response = modality.set(uid, other)
    assert (response.status, f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in response.comment) == (0x0106, True)
    repeated = Dataset()
    repeated.SpecificCharacterSet = "ISO_IR 192"
    if tag in created:
        repeated[tag] = created[tag]
    assert modality.set(uid, repeated).status == 0
    assert modality.set(uid, sequence(tag, b"") if vr == "SQ" else element(tag, vr)).status == 0
    after = step_of(database, uid)
    assert after is not None and after.attributes == before.attributes


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_step_is_kept_whole(gateway: Gateway, database: Database, uid: str, syntax: str) -> None:
    with Modality(gateway.dicom_port) as peer:
        peer.open(syntax)
        comment = begun(scheduled(), CommentsOnThePerformedProcedureStep="größer", DistanceSourceToDetector="12.5")
        assert peer.create(uid, comment).status == 0
        assert peer.set(uid, ended(images=5000)).status == 0
    step = step_of(database, uid)
    assert step is not None
    assert (text_of(step.attributes, 0x0010_0010), text_of(step.attributes, 0x0040_0280)) == ("Müller^Jörg", "größer")
    assert text_of(step.attributes, 0x0018_1110) == "12.5"
    series = step.attributes[0x0040_0340].value
    assert not isinstance(series, str) and len(series[0][0x0008_1140].value) == 5000
    assert (step.peer.calling_ae_title, step.peer.called_ae_title, step.peer.address) == ("CT1", "ORTHANC", "127.0.0.1")


DEEP: Final = 40


def nested_sequences(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = sequence(0x0040_A730, item(content))
    return content


@pytest.mark.parametrize(
    "data",
    [
        element(STATUS, "CS", b"IN PROGRESS ", length=4000),
        sequence(0x0040_0270, b"no item at all  "),
        sequence(0x0040_0270, item(element(0x0020_000D, "UI", b"2.25", length=90))),
        b"\x40\x00",
        nested_sequences(DEEP),
        element(0x0010_21C0, "US", b"123"),
        bytes(range(256)) * 16,
        element(0x0010_0020, "LO", b"P1") * 100_001,
        element(0x0009_1001, "UT", bytes(8 * 1024 * 1024)),
    ],
    ids=["longer than it is", "no item", "beyond its item", "cut off", "deep", "odd", "noise", "many", "large"],
)
def test_data_sets_that_cannot_be_read_are_refused(
    gateway: Gateway, modality: Modality, database: Database, uid: str, data: bytes
) -> None:
    log = Log(gateway)
    assert modality.create(uid, data).status == 0x0110
    log.expect("N-CREATE refused", "status=0x0110", "calling=CT1", "reason=")
    assert step_of(database, uid) is None
    assert modality.create(uid, begun(scheduled())).status == 0
    assert modality.set(uid, data).status == 0x0110
    step = step_of(database, uid)
    assert step is not None and step.status == IN_PROGRESS


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"ScheduledStepAttributesSequence": None}, 0x0120),
        ({"PerformedProcedureStepStatus": "IN PROGRESS\\COMPLETED"}, 0x0106),
        ({"PerformedProcedureStepStatus": "in progress"}, 0x0106),
        ({"PatientID": "\x00\x1b[2J" * 2000}, 0),
    ],
)
def test_strange_values(modality: Modality, uid: str, values: dict[str, Any], status: int) -> None:
    assert modality.create(uid, begun(scheduled(), **values)).status == status


def test_a_sequence_that_is_none_is_an_invalid_value(modality: Modality, uid: str) -> None:
    data = encode(begun(ScheduledStepAttributesSequence=None), EXPLICIT) + element(0x0040_0270, "LO", b"none")
    response = modality.create(uid, data)
    assert (response.status, "(0040,0270)" in response.comment) == (0x0106, True)


def test_without_data_set(modality: Modality, uid: str) -> None:
    assert modality.create(uid, None).status == 0x0120
    assert modality.create(uid, begun(scheduled())).status == 0
    assert modality.set(uid, None).status == 0


@pytest.mark.parametrize(
    ("uid", "status"), [("../../etc/passwd", 0x0117), ("1" * 65, 0x0117), ("2.25.1\\2.25.2", 0x0117)]
)
def test_what_is_no_uid_is_refused(modality: Modality, uid: str, status: int) -> None:
    assert modality.create(uid, begun(scheduled())).status == status
    assert modality.set(uid, ended()).status == status


def test_requests_of_another_class_and_kind(gateway: Gateway, modality: Modality, uid: str) -> None:
    assert modality.create(uid, begun(scheduled()), sop_class="1.2.840.10008.3.1.2.3.4").status == 0x0118
    assert modality.set(uid, ended(), sop_class="").status == 0x0118
    n_get = {0x0003: MPPS, 0x0100: 0x0110, 0x0110: 1, 0x0800: 0x0101, 0x1001: uid}
    modality.message(1, command_set(n_get))
    assert modality.response().status == 0x0211
    assert modality.create(uid, begun(scheduled())).status == 0


def test_only_who_may_query_the_worklist_may_report(start_gateway: StartGateway) -> None:
    known = {"Host": "127.0.0.1", "Port": 4242}
    modalities = {
        "ct": {**known, "AET": "CT1", "AllowFindWorklist": True},
        "ws": {**known, "AET": "WS1", "AllowFindWorklist": False},
    }
    gateway = start_gateway(DicomGateway={"Worklist": {}}, DicomModalities=modalities)
    for calling, result in (("CT1", 0), ("WS1", 1), ("STRANGER", 1)):
        with RawPeer(gateway.dicom_port) as peer:
            assert peer.associate([Context(1, MPPS)], calling=calling).results[1] == result


def test_there_is_no_mpps_without_worklist(start_gateway: StartGateway) -> None:
    gateway = start_gateway(DicomAlwaysAllowFindWorklist=True)
    with RawPeer(gateway.dicom_port) as peer:
        assert peer.associate([Context(1, MPPS)]).results[1] == 3


def test_the_worklist_follows_and_the_log_says_so(
    gateway: Gateway, modality: Modality, database: Database, uid: str
) -> None:
    (one,) = add_items(gateway, an_item(70))
    log = Log(gateway)
    assert modality.create(uid, begun(scheduled(70), PatientID="P70", PatientName="SECRET")).status == 0
    line = log.expect("N-CREATE answered", f"sop_instance={uid}", 'step_status="IN PROGRESS"', f"items={one.id}")
    assert "SECRET" not in line and "P70" not in line
    assert status_of(database, one) is Status.STARTED
    with WorklistQuerier(gateway.dicom_port) as querier:
        querier.open()
        assert querier.names(PatientID="P70") == []
        assert querier.names(PatientID="P70", ScheduledProcedureStepStatus="STARTED") == ["Name^70"]
    assert modality.set(uid, ended(PerformedSeriesSequence=None)).status == 0
    log.expect("N-SET answered", "step_status=COMPLETED", f"items={one.id}", "missing=PerformedSeriesSequence")
    assert status_of(database, one) is Status.COMPLETED
    with database.read() as connection:
        told = [(event.who, event.what) for event in store.history(connection, one.id)]
    step = step_of(database, uid)
    assert step is not None
    assert told[1:] == [
        ("mpps CT1", f"SCHEDULED to STARTED: procedure step {step.id} IN PROGRESS"),
        ("mpps CT1", f"STARTED to COMPLETED: procedure step {step.id} COMPLETED"),
    ]
    assert [item.id for item in items_of_step(database, uid)] == [one.id]


def test_who_asked_for_an_item_is_noted(gateway: Gateway, database: Database) -> None:
    from tests.support.processes import wait_until
    from worklist.performed.shown import shown

    one, other = add_items(gateway, an_item(80), an_item(81))
    for calling, times in (("CT1", 2), ("CT2", 1)):
        with WorklistQuerier(gateway.dicom_port) as querier:
            querier.open(calling=calling)
            for _ in range(times):
                assert querier.find(nested(PatientID="P80")).status == 0

    def noted() -> list[tuple[str, int]]:
        with database.read() as connection:
            assert shown(connection, other.id) == []
            return sorted((note.calling_ae_title, note.times) for note in shown(connection, one.id))

    wait_until(lambda: noted() == [("CT1", 2), ("CT2", 1)], 30, lambda: str(noted()))
