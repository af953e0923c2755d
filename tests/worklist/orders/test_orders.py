"""Orders create, change and cancel the items that they mean, and no others."""

import pytest

from gateway.options.orders import Effect
from tests.worklist.orders.messages import PID, PV1, Worklist, group, message, msh, orm, value
from worklist import store
from worklist.hl7.errors import ErrorCode, MessageError, NotSupported
from worklist.items import Status
from worklist.orders.order_control import ORDER_CONTROL

OTHER_PID = PID.replace("4711", "4712").replace("DOE^JOHN", "ROE^JANE")


def omi(*ipc: str, control: str = "NW", sent: str = "20260301080000") -> str:
    return message(
        msh("OMI^O23", f"{control}{sent}", sent),
        PID,
        f"ORC|{control}|P1|F1||||^^^20260302093000",
        "TQ1|1||||||20260302093000||R",
        "OBR|1|P1|F1|CT^CT SCAN",
        *ipc,
    )


def ipc(step: str, *, study: str = "1.2.3", modality: str = "CT", station: str = "CT1") -> str:
    return f"IPC|A1|R1|{study}|{step}|{modality}|P^PROTOCOL|||{station}"


def siu(event: str, *ais: str, sent: str = "20260301080000", number: str = "1", start: str = "20260302093000") -> str:
    return message(
        msh(f"SIU^{event}", f"{event}{sent}", sent),
        f"SCH|AP{number}|AF{number}|||||CHECK^CHECKUP||||^^15^{start}^{start}^R{'|' * 15}P{number}|F{number}",
        PID,
        "RGS|1",
        *(ais or (f"AIS|1||CT^CT SCAN|{start}", "AIL|1||ROOM1", "AIP|1||7^WELBY^M")),
    )


def test_every_group_of_a_message_becomes_an_item(worklist: Worklist) -> None:
    two = [*group(number="1", step="S1"), *group(number="2", step="S2", modality="MR")]
    worklist.send(message(msh("ORM^O01"), PID, PV1, *two))
    first, second = worklist.items()
    assert (value(first, "AccessionNumber"), value(second, "AccessionNumber")) == ("A1", "A2")
    assert (value(first, "Modality"), value(second, "Modality")) == ("CT", "MR")
    assert value(first, "StudyInstanceUID") != value(second, "StudyInstanceUID")
    assert value(first, "PatientID") == value(second, "PatientID") == "4711"


def test_every_ipc_becomes_an_item_of_the_same_study(worklist: Worklist) -> None:
    worklist.send(omi(ipc("S1"), ipc("S2", station="CT2")))
    first, second = worklist.items()
    assert (value(first, "ScheduledStationAETitle"), value(second, "ScheduledStationAETitle")) == ("CT1", "CT2")
    assert value(first, "StudyInstanceUID") == value(second, "StudyInstanceUID") == "1.2.3"


def test_steps_without_an_id_get_one_and_are_found_again(worklist: Worklist) -> None:
    message_of = omi(ipc(""), ipc("", station="CT2"))
    worklist.send(message_of)
    assert worklist.statuses() == {"R1": "SCHEDULED", "R1-2": "SCHEDULED"}
    before = worklist.contents()
    worklist.send(message_of)
    assert worklist.contents() == before


def test_groups_of_one_order_without_step_ids_are_steps_of_it(worklist: Worklist) -> None:
    text = message(msh("ORM^O01"), PID, "ORC|NW|P1|F1", "OBR|1|||CT^CT HEAD", "ORC|NW|P1|F1", "OBR|2|||CT^CT NECK")
    worklist.send(text)
    worklist.send(text)
    first, second = worklist.items()
    assert value(first, "StudyInstanceUID") == value(second, "StudyInstanceUID")
    assert worklist.statuses() == {"F1": "SCHEDULED", "F1-2": "SCHEDULED"}
    assert value(second, "RequestedProcedureDescription") == "CT NECK"


def test_one_wrong_group_stops_the_whole_message(worklist: Worklist) -> None:
    groups = [*group(number="1", step="S1"), "ORC|NW|P2", "OBR|2|||||"]
    with pytest.raises(MessageError):
        worklist.send(message(msh("ORM^O01"), PID, *groups))
    assert worklist.items() == []


def test_an_update_changes_the_item_and_cancels_steps_that_it_no_longer_has(worklist: Worklist) -> None:
    worklist.send(omi(ipc("S1"), ipc("S2"), ipc("S3")))
    with worklist.database.write() as connection:
        started = next(item for item in worklist.items() if item.keys.scheduled_procedure_step_id == "S3")
        store.set_status(connection, started, Status.STARTED, store.Change.now("MPPS"))
    worklist.send(omi(ipc("S1", station="CT9"), ipc("S4"), control="XO", sent="20260301090000"))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "CANCELED", "S3": "STARTED", "S4": "SCHEDULED"}
    assert value(worklist.items()[0], "ScheduledStationAETitle") == "CT9"


def test_a_new_step_of_the_same_order_leaves_the_others(worklist: Worklist) -> None:
    """NW names what is new, XO what there is."""
    worklist.send(omi(ipc("S1")))
    worklist.send(omi(ipc("S2"), sent="20260301090000"))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "SCHEDULED"}


def test_absent_steps_are_left_if_the_site_wants_it(worklist: Worklist) -> None:
    worklist.configure(AbsentSteps="Leave")
    worklist.send(omi(ipc("S1"), ipc("S2")))
    worklist.send(omi(ipc("S1"), control="XO", sent="20260301090000"))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "SCHEDULED"}


def test_an_update_that_names_no_step_is_for_all_of_them(worklist: Worklist) -> None:
    worklist.send(omi(ipc("S1", station="CT1"), ipc("S2", station="CT2")))
    update = message(msh("ORM^O01", "2"), PID, "ORC|XO|P1|F1", "OBR|1|||CT^CT WITH CONTRAST")
    worklist.send(update)
    first, second = worklist.items()
    assert value(first, "RequestedProcedureDescription") == value(second, "RequestedProcedureDescription")
    assert value(first, "RequestedProcedureDescription") == "CT WITH CONTRAST"
    assert (value(first, "ScheduledStationAETitle"), value(second, "ScheduledStationAETitle")) == ("CT1", "CT2")
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "SCHEDULED"}


@pytest.mark.parametrize(
    "orc",
    ["ORC|CA|P100^PLACER|F100^FILLER", "ORC|CA|P100", "ORC|CA||F100", "ORC|OC|P100", "ORC|CA|P100|||CA"],
)
def test_a_cancellation_finds_the_order_by_any_of_its_numbers(worklist: Worklist, orc: str) -> None:
    worklist.send(orm())
    worklist.send(orm(number="101", step="S501"))
    worklist.send(message(msh("ORM^O01", "2"), PID, orc))
    assert worklist.statuses() == {"S500": "CANCELED", "S501": "SCHEDULED"}


@pytest.mark.parametrize("obr", ["OBR|1" + "|" * 17 + "A100", "OBR|1\rZDS|1.2.826.0.1.3680043.9.1.100"])
def test_a_cancellation_finds_the_order_by_accession_number_or_study(worklist: Worklist, obr: str) -> None:
    worklist.send(orm(zds=True))
    worklist.send(orm(number="101", step="S501"))
    worklist.send(message(msh("ORM^O01", "2"), PID, "ORC|CA", obr))
    assert worklist.statuses() == {"S500": "CANCELED", "S501": "SCHEDULED"}


def test_orders_of_one_study_are_cancelled_alone(worklist: Worklist) -> None:
    zds = "ZDS|1.2.3"
    groups = [*group(number="1", step="S1"), *group(number="2", step="S2")]
    worklist.send(message(msh("ORM^O01"), PID, *groups, zds))
    assert {value(item, "StudyInstanceUID") for item in worklist.items()} == {"1.2.3"}
    worklist.send(message(msh("ORM^O01", "2"), PID, *group("CA", number="2", step=""), zds))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "CANCELED"}


def test_a_step_is_cancelled_alone_if_it_is_named(worklist: Worklist) -> None:
    worklist.send(omi(ipc("S1"), ipc("S2")))
    worklist.send(omi(ipc("S2"), control="CA", sent="20260301090000"))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "CANCELED"}


def test_cancelling_what_is_not_there_is_acknowledged_and_remembered(worklist: Worklist) -> None:
    assert "no such order" in worklist.send(orm("CA", ordered="20260301090000")).text
    assert worklist.items() == []
    result = worklist.send(orm("NW", ordered="20260301080000"))
    assert worklist.statuses() == {"S500": "CANCELED"}
    assert "came before" in result.text


def test_the_same_numbers_of_another_sender_are_another_order(worklist: Worklist) -> None:
    worklist.send(orm(zds=False))
    worklist.send(orm(zds=False, pid=OTHER_PID).replace("|RIS|HOSP|", "|RIS2|CLINIC|"))
    first, second = worklist.items()
    assert value(first, "StudyInstanceUID") != value(second, "StudyInstanceUID")
    assert (value(first, "PatientID"), value(second, "PatientID")) == ("4711", "4712")


@pytest.mark.parametrize("control", ["NW", "XO", "CA", "DC", "SC"])
@pytest.mark.parametrize("zds", [True, False])
def test_an_order_number_or_study_of_another_patient_is_refused(worklist: Worklist, control: str, zds: bool) -> None:
    worklist.send(orm(zds=zds))
    before = worklist.contents()
    with pytest.raises(MessageError) as caught:
        worklist.send(orm(control, status="IP", zds=zds, pid=OTHER_PID, ordered="20260301090000"))
    assert (caught.value.code, caught.value.location) == (ErrorCode.DUPLICATE_KEY_IDENTIFIER, "PID^1^3")
    assert worklist.contents() == before


def test_a_study_of_another_patient_is_refused_even_with_other_numbers(worklist: Worklist) -> None:
    worklist.send(orm())
    with pytest.raises(MessageError):
        worklist.send(orm(pid=OTHER_PID, number="101", step="S1").replace("9.1.101", "9.1.100"))
    assert len(worklist.items()) == 1


def test_a_patient_is_known_by_any_identifier(worklist: Worklist) -> None:
    worklist.send(orm(pid="PID|1||1^^^A~2^^^B||DOE^J"))
    worklist.send(orm(pid="PID|1||2^^^B~1^^^A||DOE^J", ordered="20260301090000"))
    assert value(worklist.item, "PatientID") == "2"


def test_updates_and_cancellations_leave_the_patient_alone_unless_told(worklist: Worklist) -> None:
    renamed = PID.replace("DOE^JOHN", "MILLER^JIM")
    worklist.send(orm())
    for number, control in enumerate(("XO", "CA", "OC", "DC")):
        worklist.send(orm(control, pid=renamed, ordered=f"2026030109000{number}"))
        assert value(worklist.item, "PatientName") == "DOE^JOHN^A^DR^JR"
    worklist.configure(UpdatesChangePatient=True)
    worklist.send(orm("XO", pid=renamed, ordered="20260301100000"))
    assert value(worklist.item, "PatientName") == "MILLER^JIM^A^DR^JR"


def test_an_order_that_is_sent_again_updates_the_patient(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(orm(pid=PID.replace("DOE^JOHN", "MILLER^JIM"), ordered="20260301090000"))
    assert value(worklist.item, "PatientName") == "MILLER^JIM^A^DR^JR"


def test_a_derived_study_instance_uid_is_always_the_same(worklist: Worklist) -> None:
    worklist.send(orm(zds=False))
    uid = value(worklist.item, "StudyInstanceUID")
    assert uid == "2.25.82109572523859520637442963338295590558"
    worklist.send(orm("XO", zds=False, ordered="20260301090000"))
    assert value(worklist.item, "StudyInstanceUID") == uid
    worklist.clear()
    worklist.send(orm("XO", zds=False))
    assert value(worklist.item, "StudyInstanceUID") == uid


def test_a_study_instance_uid_that_comes_later_replaces_the_derived_one(worklist: Worklist) -> None:
    worklist.send(orm(zds=False))
    worklist.send(orm("XO", ordered="20260301090000"))
    assert value(worklist.item, "StudyInstanceUID") == "1.2.826.0.1.3680043.9.1.100"


def test_a_step_id_that_comes_later_replaces_the_derived_one(worklist: Worklist) -> None:
    worklist.send(orm(step=""))
    assert worklist.statuses() == {"R100": "SCHEDULED"}
    worklist.send(orm("XO", step="S7", ordered="20260301090000"))
    assert worklist.statuses() == {"S7": "SCHEDULED"}


def test_missing_numbers_are_derived_and_long_ones_stay_different(worklist: Worklist) -> None:
    for number in ("2026-RADIOLOGY-000001", "2026-RADIOLOGY-000002"):
        worklist.send(message(msh("ORM^O01", number), PID, f"ORC|NW|{number}", "OBR|1|||CT^CT SCAN"))
    first, second = worklist.items()
    for keyword in ("AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID", "StudyInstanceUID"):
        assert value(first, keyword) != value(second, keyword)
        assert len(value(first, keyword)) <= 64
    assert value(first, "AccessionNumber") == value(first, "ScheduledProcedureStepID")
    assert len(value(first, "AccessionNumber")) == 16


@pytest.mark.parametrize(
    ("control", "status", "expected"),
    [
        ("NW", "", "SCHEDULED"),
        ("NW", "IP", "SCHEDULED"),
        ("NW", "SC", "SCHEDULED"),
        ("XO", "", "SCHEDULED"),
        ("XO", "SC", "SCHEDULED"),
        ("XO", "CM", "COMPLETED"),
        ("CA", "", "CANCELED"),
        ("OC", "", "CANCELED"),
        ("DC", "", "DISCONTINUED"),
        ("OD", "", "DISCONTINUED"),
        ("SC", "IP", "STARTED"),
        ("SC", "CM", "COMPLETED"),
        ("SC", "A", "COMPLETED"),
        ("SC", "DC", "DISCONTINUED"),
        ("SC", "CA", "CANCELED"),
        ("SC", "", "SCHEDULED"),
        ("OK", "", "SCHEDULED"),
    ],
)
def test_order_control(worklist: Worklist, control: str, status: str, expected: str) -> None:
    worklist.send(orm())
    worklist.send(orm(control, status=status, ordered="20260301090000"))
    assert worklist.item.status.value == expected


def test_order_control_is_overridden_by_the_site_and_by_the_sender(worklist: Worklist) -> None:
    own: dict[str, Effect] = {"DC": "IGNORE", "ZZ": "ARRIVED", "XO_IP": "STARTED"}
    worklist.configure(OrderControl=own, Applications={"RIS": {"OrderControl": {"ZZ": "READY"}}})
    worklist.send(orm())
    worklist.send(orm("DC", ordered="20260301090000"))
    assert worklist.item.status is Status.SCHEDULED
    worklist.send(orm("ZZ", ordered="20260301090001"))
    assert worklist.item.status is Status.READY
    worklist.send(orm("XO", status="IP", ordered="20260301090002"))
    assert worklist.item.status is Status.STARTED


@pytest.mark.parametrize("status", [Status.STARTED, Status.ARRIVED, Status.COMPLETED])
def test_an_order_that_is_sent_again_does_not_undo_what_a_modality_said(worklist: Worklist, status: Status) -> None:
    worklist.send(orm())
    with worklist.database.write() as connection:
        store.set_status(connection, worklist.item, status, store.Change.now("MPPS"))
    worklist.send(orm(ordered="20260301090000"))
    assert worklist.item.status is status


def test_a_cancelled_order_is_ordered_again_by_a_newer_message(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(orm("CA", ordered="20260301090000"))
    worklist.send(orm("XO", ordered="20260301093000"))
    assert worklist.item.status is Status.CANCELED
    worklist.send(orm("NW", ordered="20260301100000"))
    assert worklist.item.status is Status.SCHEDULED


def test_what_is_done_is_not_cancelled(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(orm("SC", status="CM", ordered="20260301090000"))
    worklist.send(orm("CA", ordered="20260301100000"))
    assert worklist.item.status is Status.COMPLETED


def test_appointments_are_made_moved_and_cancelled(worklist: Worklist) -> None:
    worklist.configure(FieldMap={"Modality": ["OBR-24", "AIS-3.1"]})
    worklist.send(siu("S12"))
    item = worklist.item
    assert (value(item, "Modality"), value(item, "ScheduledStationAETitle")) == ("CT", "CT1")
    assert value(item, "ScheduledProcedureStepLocation") == "ROOM1"
    assert value(item, "ScheduledPerformingPhysicianName") == "WELBY^M"
    assert (value(item, "AccessionNumber"), value(item, "PlacerOrderNumberImagingServiceRequest")) == ("F1", "P1")
    worklist.send(siu("S13", sent="20260301090000", start="20260303100000"))
    assert value(worklist.item, "ScheduledProcedureStepStartDate") == "20260303"
    worklist.send(siu("S14", sent="20260301090000", start="20260304100000"))
    assert value(worklist.item, "ScheduledProcedureStepStartDate") == "20260304"
    worklist.send(siu("S26", sent="20260301100000"))
    assert worklist.item.status is Status.CANCELED


@pytest.mark.parametrize("event", ["S15", "S17", "S26"])
def test_appointments_that_end_are_cancelled(worklist: Worklist, event: str) -> None:
    worklist.send(siu("S12", "AIS|1||CT^CT|20260302", "AIS|2||MR^MR|20260302"))
    assert set(worklist.statuses().values()) == {"SCHEDULED"}
    worklist.send(siu(event, "AIS|1||CT^CT|20260302", "AIS|2||MR^MR|20260302", sent="20260301090000"))
    assert set(worklist.statuses().values()) == {"CANCELED"} and len(worklist.items()) == 2


def test_an_appointment_for_an_order_that_is_there_changes_it(worklist: Worklist) -> None:
    worklist.send(message(msh("ORM^O01"), PID, "ORC|NW|P1|F1", "OBR|1|||CT^CT SCAN"))
    worklist.send(siu("S12", sent="20260301090000", start="20260309100000"))
    assert value(worklist.item, "ScheduledProcedureStepStartDate") == "20260309"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ORM^O02", ErrorCode.UNSUPPORTED_EVENT_CODE),
        ("SIU^S01", ErrorCode.UNSUPPORTED_EVENT_CODE),
        ("MDM^T02", ErrorCode.UNSUPPORTED_MESSAGE_TYPE),
        ("ORU^R01", ErrorCode.UNSUPPORTED_MESSAGE_TYPE),
    ],
)
def test_other_messages_do_not_stop_who_sends_them_unless_the_site_wants_it(
    worklist: Worklist, kind: str, code: ErrorCode
) -> None:
    assert worklist.send(message(msh(kind), PID)).text == f"{kind} changes nothing here"
    worklist.configure(OtherMessages="Reject")
    with pytest.raises(NotSupported) as caught:
        worklist.send(message(msh(kind), PID))
    assert caught.value.code is code


def test_final_reports_complete_items_if_the_site_wants_it(worklist: Worklist) -> None:
    def oru(status: str) -> str:
        return message(msh("ORU^R01", status), PID, f"OBR|1|P100|F100|CT^CT{'|' * 21}{status}", "OBX|1|TX|1||text")

    worklist.configure(ReportsComplete=True)
    worklist.send(orm())
    assert "not a final report" in worklist.send(oru("P")).text
    assert worklist.item.status is Status.SCHEDULED
    worklist.send(oru("F"))
    assert worklist.item.status is Status.COMPLETED
    worklist.clear()
    assert "no such order" in worklist.send(oru("F")).text
    worklist.send(orm())
    assert worklist.item.status is Status.SCHEDULED


def test_an_order_without_an_event_in_its_type_is_an_order(worklist: Worklist) -> None:
    worklist.send(orm().replace("ORM^O01", "ORM"))
    assert len(worklist.items()) == 1


def test_a_second_patient_is_refused(worklist: Worklist) -> None:
    both = message(msh("ORM^O01"), PID, *group(number="1", step="S1"), OTHER_PID, *group(number="2", step="S2"))
    for text in (both, both.replace("ORM^O01", "SIU^S12").replace("ORC|", "SCH|1\rORC|")):
        with pytest.raises(MessageError) as caught:
            worklist.send(text)
        assert caught.value.location == "PID^2"
    assert worklist.items() == []


def test_a_sender_with_a_very_long_name_finds_its_orders(worklist: Worklist) -> None:
    long = "A" * 300
    worklist.send(orm(zds=False).replace("|RIS|", f"|{long}|"))
    with pytest.raises(MessageError):
        worklist.send(orm("CA", zds=False, pid=OTHER_PID).replace("|RIS|", f"|{long}|"))


def test_too_many_steps_are_refused(worklist: Worklist) -> None:
    with pytest.raises(MessageError, match="200 steps"):
        worklist.send(omi(*(ipc(f"S{number}") for number in range(201))))


def test_the_history_says_what_happened_without_the_patient(worklist: Worklist) -> None:
    worklist.send(orm())
    result = worklist.send(orm("CA", ordered="20260301090000"))
    with worklist.database.read() as connection:
        events = store.history(connection, worklist.item.id)
    assert [event.what for event in events] == ["added as SCHEDULED", "SCHEDULED to CANCELED"]
    assert all(event.who.startswith("hl7 RIS|HOSP ") for event in events)
    assert "DOE" not in f"{result} {events}" and "4711" not in f"{result} {events}"


def test_every_line_of_order_control_is_a_code_of_hl7() -> None:
    assert all(len(part) <= 2 for key in ORDER_CONTROL for part in key.split("_"))
