"""ADT messages change the items that are there, and never stop who sends them."""

from pathlib import Path

import pytest

from gateway.dicom.character_sets import UTF_8
from gateway.options.worklist import WorklistFolder
from tests.support.processes import wait_until
from tests.support.worklists import dump, write_file
from tests.worklist.orders.messages import PID, PV1, Worklist, message, msh, orm, value
from worklist.folders import FolderImport
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.items import Status, first_item, text_of
from worklist.orders.identity import OTHER_PATIENT_IDS_SEQUENCE
from worklist.orders.patients import MAXIMUM_PATIENTS

RENAMED = PID.replace("DOE^JOHN^A^JR^DR", "MILLER^JIM").replace("19500203", "19500204")
# Two patients whose hospitals gave them the same number.
TWINS = (PID.replace("HOSP^MR", "A^MR"), PID.replace("HOSP^MR", "B^MR"))


def adt(event: str, *segments: str, sent: str = "20260301090000") -> str:
    return message(msh(f"ADT^{event}", f"{event}{sent}", sent), f"EVN|{event}|{sent}", *segments)


@pytest.mark.parametrize("event", ["A01", "A02", "A04", "A05", "A06", "A07", "A08", "A12", "A13", "A28", "A31"])
def test_a_patient_is_updated_in_all_open_items(worklist: Worklist, event: str) -> None:
    worklist.send(orm())
    worklist.send(orm(number="101", step="S501"))
    worklist.send(orm(number="102", step="S502"))
    worklist.send(orm("CA", number="102", step="S502", ordered="20260301083000"))
    result = worklist.send(adt(event, RENAMED))
    assert len(result.changes) == 2
    assert [value(item, "PatientName") for item in worklist.items()] == [
        "MILLER^JIM",
        "MILLER^JIM",
        "DOE^JOHN^A^DR^JR",
    ]
    assert value(worklist.items()[0], "PatientBirthDate") == "19500204"


def test_a_visit_is_updated_in_the_items_of_that_visit(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(adt("A08", PID, PV1.replace("WARD7", "WARD9").replace("V100", "V999")))
    assert value(worklist.item, "CurrentPatientLocation") == "WARD7 12 A HOSP"
    worklist.send(adt("A08", PID, PV1.replace("WARD7", "WARD9"), sent="20260301090001"))
    assert value(worklist.item, "CurrentPatientLocation") == "WARD9 12 A HOSP"


def test_other_patients_are_left_alone(worklist: Worklist) -> None:
    worklist.send(orm())
    before = worklist.contents()
    assert worklist.send(adt("A08", RENAMED.replace("4711", "4712"))).changes == ()
    assert worklist.send(adt("A08", RENAMED.replace("HOSP^MR", "OTHER^MR"))).changes == ()
    assert worklist.contents() == before


def test_an_identifier_of_two_issuers_is_refused_without_one(worklist: Worklist) -> None:
    for number, pid in enumerate(TWINS):
        worklist.send(orm(number=str(number), step=f"S{number}", pid=pid))
    with pytest.raises(MessageError) as caught:
        worklist.send(adt("A08", RENAMED.replace("^^^HOSP^MR", "")))
    assert (caught.value.code, caught.value.location) == (ErrorCode.UNKNOWN_KEY_IDENTIFIER, "PID^1^3")
    worklist.send(adt("A08", RENAMED.replace("HOSP^MR", "B^MR")))
    assert [value(item, "PatientName")[:3] for item in worklist.items()] == ["DOE", "MIL"]


def test_two_patients_change_their_beds(worklist: Worklist) -> None:
    rooms = [PV1, PV1.replace("WARD7", "WARD9").replace("V100", "V200")]
    pids = [PID, PID.replace("4711", "4712")]
    for number in (0, 1):
        made = orm(number=str(number), step=f"S{number}", pid=pids[number]).replace(PV1, rooms[number])
        worklist.send(made)
    swapped = [rooms[1].replace("V200", "V100"), rooms[0].replace("V100", "V200")]
    worklist.send(adt("A17", pids[0], swapped[0], pids[1], swapped[1]))
    assert [value(item, "CurrentPatientLocation")[:5] for item in worklist.items()] == ["WARD9", "WARD7"]


@pytest.mark.parametrize("event", ["A18", "A34", "A36", "A40"])
def test_a_merge_moves_the_items_to_the_patient_that_remains(worklist: Worklist, event: str) -> None:
    worklist.send(orm())
    worklist.send(orm("CA", number="101", step="S501", ordered="20260301083000"))
    survivor = "PID|1||9999^^^HOSP^MR||DOE^JONATHAN||19500203|M"
    worklist.send(adt(event, survivor, "MRG|4711^^^HOSP^MR"))
    item = worklist.item
    assert (value(item, "PatientID"), value(item, "PatientName")) == ("9999", "DOE^JONATHAN")
    assert text_of(first_item(item.attributes, OTHER_PATIENT_IDS_SEQUENCE), 0x0010_0020) == "4711"


def test_orders_that_still_name_the_patient_who_was_merged_are_found(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(adt("A40", "PID|1||9999^^^HOSP^MR||DOE^JONATHAN", "MRG|4711^^^HOSP^MR"))
    worklist.send(orm("CA", ordered="20260301100000"))
    assert worklist.item.status is Status.CANCELED


def test_an_order_behind_the_update_of_its_patient_has_what_the_order_says(worklist: Worklist) -> None:
    worklist.send(adt("A08", RENAMED, sent="20260301090000"))
    worklist.send(orm(sent="20260301091000", ordered="20260301091000"))
    assert value(worklist.item, "PatientName") == "DOE^JOHN^A^DR^JR"


def test_a_merge_changes_an_item_of_a_file_until_the_file_is_written_anew(worklist: Worklist, tmp_path: Path) -> None:
    def look() -> None:
        wait_until(lambda: importing.look() and not importing.fresh(), 20, "the file is never read")

    importing = FolderImport(worklist.database, "ours", [WorklistFolder(tmp_path, False)], UTF_8)
    importing.open()
    file = tmp_path / "1.wl"
    write_file(file, dump())
    look()
    before = value(worklist.item, "PatientID")
    worklist.send(adt("A40", "PID|1||9999^^^HOSP^MR||DOE^JONATHAN", f"MRG|{before}^^^HOSP^MR"))
    look()
    assert (value(worklist.item, "PatientID"), value(worklist.item, "PatientName")) == ("9999", "DOE^JONATHAN")
    assert worklist.item.origin.startswith("file ")
    file.unlink()
    write_file(file, dump())
    look()
    assert value(worklist.item, "PatientID") == before


def test_former_identifiers_are_known_after_further_merges_and_updates(worklist: Worklist) -> None:
    worklist.send(orm(pid=PID.replace("^MR|", "^MR~N1^^^NHS|")))
    for number, (prior, now) in enumerate([("4711", "5001"), ("5001", "5002")]):
        sent = f"2026030111000{number}"
        worklist.send(adt("A40", f"PID|1||{now}^^^HOSP^MR||DOE^JOHN", f"MRG|{prior}^^^HOSP^MR", sent=sent))
    worklist.send(adt("A08", "PID|1||5002^^^HOSP^MR~N2^^^NHS||DOE^JOHN", sent="20260301120000"))
    # What others say of the patient is as they say it now.
    others = worklist.item.attributes[OTHER_PATIENT_IDS_SEQUENCE].value
    assert [text_of(one, 0x0010_0020) for one in others if not isinstance(one, str)] == ["N2", "4711", "5001"]
    worklist.send(orm("CA", ordered="20260301130000"))
    assert worklist.item.status is Status.CANCELED


def test_several_merges_in_one_message(worklist: Worklist) -> None:
    for number in ("1", "2"):
        worklist.send(orm(number=number, step=f"S{number}", pid=f"PID|1||{number}^^^HOSP||DOE^J{number}"))
    pairs = [("PID|1||11^^^HOSP||DOE^J1", "MRG|1^^^HOSP"), ("PID|1||22^^^HOSP||DOE^J2", "MRG|2^^^HOSP~3^^^HOSP")]
    worklist.send(adt("A40", *(segment for pair in pairs for segment in pair)))
    assert [value(item, "PatientID") for item in worklist.items()] == ["11", "22"]


def test_a_merge_is_the_same_when_it_comes_twice(worklist: Worklist) -> None:
    worklist.send(orm())
    merge = adt("A40", "PID|1||9999^^^HOSP^MR||DOE^JONATHAN", "MRG|4711^^^HOSP^MR")
    worklist.send(merge)
    before = worklist.contents()
    assert worklist.send(merge).changes == ()
    assert worklist.contents() == before


def test_a_change_of_identifier(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(adt("A47", PID.replace("4711", "4799"), "MRG|4711^^^HOSP^MR"))
    assert value(worklist.item, "PatientID") == "4799"


@pytest.mark.parametrize(
    ("segments", "location"),
    [((PID,), "MRG^1^1"), ((PID, "MRG|"), "MRG^1^1"), (("PID|1", "MRG|1"), "PID^1^3"), ((), "PID^1")],
)
def test_a_merge_without_its_identifiers_is_refused(
    worklist: Worklist, segments: tuple[str, ...], location: str
) -> None:
    with pytest.raises(MessageError) as caught:
        worklist.send(adt("A40", *segments))
    assert caught.value.location == location


def test_a_patient_who_arrives_is_there_for_what_is_scheduled_until_today(worklist: Worklist) -> None:
    worklist.send(orm(step="S1"))
    worklist.send(orm(number="101", step="S2").replace("20260302093000", "20260303093000"))
    assert worklist.statuses() == {"S1": "SCHEDULED", "S2": "SCHEDULED"}
    worklist.send(adt("A10", PID, PV1, sent="20260302080000"))
    assert worklist.statuses() == {"S1": "ARRIVED", "S2": "SCHEDULED"}


def test_a_patient_who_arrives_for_another_visit_is_not_there_for_this_one(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(adt("A10", PID, PV1.replace("V100", "V200"), sent="20260302080000"))
    assert worklist.item.status is Status.SCHEDULED


@pytest.mark.parametrize("event", ["A03", "A11", "A29", "A60", "Z99", ""])
def test_other_events_are_acknowledged_and_change_nothing(worklist: Worklist, event: str) -> None:
    worklist.send(orm())
    before = worklist.contents()
    result = worklist.send(adt(event, RENAMED))
    assert "change" in result.text and result.changes == ()
    assert worklist.contents() == before


def test_other_events_can_be_made_to_count(worklist: Worklist) -> None:
    worklist.configure(PatientEvents={"A03": "UPDATE", "A08": "IGNORE"})
    worklist.send(orm())
    worklist.send(adt("A08", RENAMED))
    assert value(worklist.item, "PatientName") == "DOE^JOHN^A^DR^JR"
    worklist.send(adt("A03", RENAMED))
    assert value(worklist.item, "PatientName") == "MILLER^JIM"


def test_an_older_update_does_not_undo_a_newer_one(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(adt("A08", RENAMED, sent="20260301110000"))
    result = worklist.send(adt("A08", PID, sent="20260301100000"))
    assert "older" in result.text
    assert value(worklist.item, "PatientName") == "MILLER^JIM"


def test_a_name_that_is_deleted_is_refused(worklist: Worklist) -> None:
    worklist.send(orm())
    with pytest.raises(MessageError) as caught:
        worklist.send(adt("A08", PID.replace("DOE^JOHN^A^JR^DR", '""')))
    assert caught.value.location == "PID^1^5"


def test_an_update_of_a_patient_without_items_is_acknowledged(worklist: Worklist) -> None:
    assert worklist.send(adt("A08", PID)).text == "nothing to change"


@pytest.mark.parametrize(
    ("segments", "location"),
    [
        ([PID.replace("4711", f"P{n + 1}") + f"\rMRG|P{n}^^^HOSP^MR" for n in range(MAXIMUM_PATIENTS + 1)], ""),
        ([PID, "MRG|" + "~".join(f"P{n}^^^HOSP^MR" for n in range(MAXIMUM_PATIENTS + 1))], "MRG^1^1"),
    ],
    ids=["patients", "identifiers"],
)
def test_merges_of_a_message_are_few(worklist: Worklist, segments: list[str], location: str) -> None:
    with pytest.raises(MessageError, match=f"more than {MAXIMUM_PATIENTS}") as caught:
        worklist.send(adt("A40", *segments))
    assert caught.value.location == location
