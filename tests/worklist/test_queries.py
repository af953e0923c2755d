"""Which items a worklist query matches and what is answered (PS3.4 Annex K), without a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from gateway.dicom.character_sets import CharacterSet
from gateway.matching.attributes import Attributes, Element, vr_of
from gateway.matching.identifier import read_keys
from gateway.matching.keys import InvalidQuery, Key
from tests.support.data_sets import EXPLICIT, encode
from tests.support.worklist_queries import an_item, attributes_of, nested
from worklist.items import (
    PATIENT_ID,
    PATIENT_NAME,
    SCHEDULED_PROCEDURE_STEP_SEQUENCE,
    SCHEDULED_PROCEDURE_STEP_STATUS,
    SCHEDULED_STATION_AE_TITLE,
    Item,
    Status,
    with_status,
)
from worklist.matching_keys import ATTRIBUTES, Attribute
from worklist.queries import HIDDEN_STATUSES, MAXIMUM_VALUES, View, WorklistQuery
from worklist.scheduled_start import ScheduledStart

LATIN_1 = CharacterSet(("ISO_IR 100",))
STEP = SCHEDULED_PROCEDURE_STEP_SEQUENCE
# Values of VRs that have a form of their own: one that is stored, and one that is not.
VALUES = {
    "DA": ("20240102", "20250102"),
    "TM": ("101112", "111213"),
    "UI": ("1.2.3", "1.2.4"),
    "US": ("3", "4"),
    "CS": ("STORED", "OTHER"),
}


def an(item: Dataset, status: Status = Status.SCHEDULED) -> Item:
    return Item(1, with_status(attributes_of(item), status), status, "test", 0, 0)


def keys(identifier: Dataset) -> tuple[Key, ...]:
    return read_keys(encode(identifier, EXPLICIT), EXPLICIT, LATIN_1)


def matches(item: Item, view: View | None = None, **values: Any) -> bool:
    return WorklistQuery(keys(nested(**values)), view or View()).matches(item)


def paths(attributes: Any = ATTRIBUTES, above: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Attribute]]:
    for tag, attribute in attributes.items():
        if attribute.items:
            yield from paths(attribute.items, (*above, tag))
        else:
            yield (*above, tag), attribute


def holding(path: tuple[int, ...], value: str) -> Attributes:
    """Attributes with `value` at the end of `path`."""
    tag, *rest = path
    if rest:
        return {tag: Element("SQ", (holding(tuple(rest), value),))}
    return {tag: Element(vr_of(tag), value)}


def asking(path: tuple[int, ...], value: str) -> Key:
    tag, *rest = path
    if rest:
        return Key(tag, "SQ", "", (asking(tuple(rest), value),))
    return Key(tag, vr_of(tag), value)


LEAVES = [
    pytest.param(path, attribute, id=">".join(f"{tag:08X}" for tag in path))
    for path, attribute in paths()
    if path[-1] != SCHEDULED_PROCEDURE_STEP_STATUS  # of the item's own
]


@pytest.mark.parametrize(("path", "attribute"), LEAVES)
def test_every_attribute_of_the_table_is_matched_or_said_not_to_be(path: tuple[int, ...], attribute: Attribute) -> None:
    stored, other = VALUES.get(vr_of(path[-1]), ("Stored^One", "Other^One"))
    item = Item(1, holding(path, stored), Status.SCHEDULED, "test", 0, 0)
    same, different = (WorklistQuery((asking(path, value),), View()) for value in (stored, other))
    if attribute.is_matched:
        assert same.matches(item) and not same.unsupported
        assert not different.matches(item)
        assert not same.matches(Item(1, {}, Status.SCHEDULED, "test", 0, 0))
    else:
        assert same.unsupported == different.unsupported == [path[-1]]
        assert different.matches(item)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"PatientName": "müller^*"}, True),
        ({"PatientName": "MÜLLER^JÖRG"}, True),
        ({"PatientName": "M?ller*"}, True),
        ({"PatientName": "Muller*"}, False),
        ({"PatientName": "*=ミュラー*"}, False),
        ({"PatientName": "Müller^Jörg^^"}, True),
        ({"PatientName": "Müller"}, False),
        ({"PatientID": "p1"}, False),
        ({"PatientID": "P*"}, True),
        ({"PatientSex": "o"}, True),
        ({"Modality": "ct"}, True),
        ({"Modality": "MR\\CT"}, True),
        ({"Modality": "C?"}, True),
        ({"Modality": "MR"}, False),
        ({"ScheduledStationAETitle": "CT1"}, True),
        ({"ScheduledStationAETitle": "CT2"}, True),
        ({"ScheduledStationAETitle": "CT3"}, False),
        ({"ScheduledStationAETitle": "ct1"}, False),
        ({"ScheduledStationAETitle": "CT?"}, True),
        ({"ScheduledStationAETitle": "CT1", "Modality": "MR"}, False),
        ({"StudyInstanceUID": "1.2\\2.25.1001"}, True),
        ({"StudyInstanceUID": "1.2"}, False),
        ({"AccessionNumber": "A1\\A2"}, True),
        ({"PatientBirthDate": "1970"}, True),
        ({"PatientBirthDate": "-"}, True),
        ({"PatientBirthDate": "-19691231"}, False),
        ({"ReferringPhysicianName": "*"}, True),
        ({"AdmissionID": "*"}, True),
        ({"AdmissionID": "?*"}, False),
        ({"ScheduledProcedureStepStatus": "SCHEDULED"}, True),
        ({"ScheduledProcedureStepStatus": "arrived\\scheduled"}, True),
        ({"ScheduledProcedureStepStatus": "COMPLETED"}, False),
    ],
)
def test_single_values_lists_and_wildcards(values: dict[str, str], expected: bool) -> None:
    item = an_item(1, PatientName="Müller^Jörg", ScheduledStationAETitle=["CT1", "CT2"])
    identifier = nested(**values)
    identifier.SpecificCharacterSet = "ISO_IR 192"
    assert WorklistQuery(keys(identifier), View()).matches(an(item)) is expected


def test_names_are_case_sensitive_if_told_so() -> None:
    item = an(an_item(1, PatientName="Doe^John", ScheduledPerformingPhysicianName="Welby^M"))
    strict = View(case_sensitive_pn=True)
    for keyword, value in (("PatientName", "doe*"), ("ScheduledPerformingPhysicianName", "welby*")):
        assert matches(item, **{keyword: value})
        assert not matches(item, strict, **{keyword: value})
        assert matches(item, strict, **{keyword: value.title()})


def starts(stored: tuple[str, str], wanted: tuple[str, str]) -> bool:
    date_key, time_key = (Key(tag, vr, text) for tag, vr, text in zip((1, 2), ("DA", "TM"), wanted, strict=True))
    start = ScheduledStart(date_key if wanted[0] else None, time_key if wanted[1] else None)
    step: Attributes = {0x0040_0002: Element("DA", stored[0]), 0x0040_0003: Element("TM", stored[1])}
    first, last = start.days
    matched = start.matches(step)
    if matched and stored[0]:
        assert (not first or first <= stored[0]) and (not last or stored[0] <= last), "SQL would not have found it"
    return matched


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        # the example of table K.6-1
        (("20240705", "0959"), ("20240705-20240707", "1000-1800"), False),
        (("20240705", "1000"), ("20240705-20240707", "1000-1800"), True),
        (("20240706", "0300"), ("20240705-20240707", "1000-1800"), True),
        (("20240707", "180059"), ("20240705-20240707", "1000-1800"), True),
        (("20240707", "1801"), ("20240705-20240707", "1000-1800"), False),
        # one end: the same form too
        (("20240705", "0900"), ("20240705-", "1000-"), False),
        (("20240706", "0900"), ("20240705-", "1000-"), True),
        (("20240704", "1900"), ("-20240705", "-1800"), True),
        (("20240705", "1900"), ("-20240705", "-1800"), False),
        # another form: each on its own (PS3.4 C.2.2.2.5.4)
        (("20240706", "0900"), ("20240705-20240707", "1000-"), False),
        (("20240706", "1100"), ("20240705-20240707", "1000-"), True),
        (("20240706", "0900"), ("20240705-", "1000-1800"), False),
        (("20240706", "1015"), ("20240705-20240707", "1015"), True),
        (("20240706", "1016"), ("20240705-20240707", "1015"), False),
        (("20240705", "1100"), ("20240705", "1000-1800"), True),
        (("20240705", "1900"), ("20240705", "1000-1800"), False),
        (("20240705", "101530"), ("20240705", "1015"), True),
        (("20240706", "101530"), ("20240705", "1015"), False),
        # a time alone, over midnight too
        (("20240705", "2300"), ("", "2200-0600"), True),
        (("20240705", "0500"), ("", "2200-0600"), True),
        (("20240705", "1200"), ("", "2200-0600"), False),
        (("20240705", "2300"), ("20240705", "2200-0600"), True),
        (("20240705", "0500"), ("20240705-20240705", "2200-0600"), True),
        (("20240705", "1200"), ("20240705-20240705", "2200-0600"), False),
        (("20240705", "2300"), ("20240705-20240706", "2200-0600"), True),
        (("20240706", "0500"), ("20240705-20240706", "2200-0600"), True),
        (("20240705", "0500"), ("20240705-20240706", "2200-0600"), False),
        (("20240706", "2300"), ("20240705-20240706", "2200-0600"), False),
        # lists
        (("20240706", "1000"), ("20240705\\20240706", ""), True),
        (("20240707", "1000"), ("20240705\\20240706", ""), False),
        # what is stored without a time may be at any; without a date at none
        (("20240705", ""), ("20240705", "1000"), True),
        (("20240705", ""), ("20240705-20240706", "1000-1800"), True),
        (("20240705", ""), ("", "1000"), False),
        (("", "1000"), ("20240705", ""), False),
        (("", ""), ("", ""), True),
        # ends far away
        (("20240705", "10"), ("00010101-99991231", "00-23"), True),
    ],
)
def test_date_and_time(stored: tuple[str, str], wanted: tuple[str, str], expected: bool) -> None:
    assert starts(stored, wanted) is expected


@pytest.mark.parametrize("status", Status)
def test_what_is_finished_is_hidden_unless_a_status_is_asked_for(status: Status) -> None:
    item = an(an_item(1), status)
    assert matches(item, PatientID="P1") is (status not in HIDDEN_STATUSES)
    assert matches(item, ScheduledProcedureStepStatus="") is (status not in HIDDEN_STATUSES)
    assert matches(item, ScheduledProcedureStepStatus="*")
    assert matches(item, ScheduledProcedureStepStatus=status.value)
    assert not matches(item, ScheduledProcedureStepStatus="READY" if status is not Status.READY else "ARRIVED")
    assert matches(item, View(hidden_statuses=frozenset()), PatientID="P1")


def test_a_station_of_the_view_takes_the_place_of_the_one_that_is_asked_for() -> None:
    item = an(an_item(1, ScheduledStationAETitle=["CT1", "CT2"]))
    for asked in ("", "*", "CT1", "MR1"):
        assert matches(item, View(station="CT2"), ScheduledStationAETitle=asked)
        assert not matches(item, View(station="MR1"), ScheduledStationAETitle=asked)
    assert not matches(item, View(station="MR1"), PatientID="P1")


@pytest.mark.parametrize(
    ("keyword", "value", "tag"),
    [
        ("ScheduledProcedureStepStartDate", "tomorrow", 0x0040_0002),
        ("ScheduledProcedureStepStartDate", "20240102-tomorrow", 0x0040_0002),
        ("ScheduledProcedureStepStartTime", "noon", 0x0040_0003),
        ("PatientBirthDate", "1970*", 0x0010_0030),
        ("StudyInstanceUID", "1.2*", 0x0020_000D),
        ("PatientID", "\\".join(["x"] * (MAXIMUM_VALUES + 1)), 0x0010_0020),
    ],
)
def test_what_is_no_value_is_refused_by_name(keyword: str, value: str, tag: int) -> None:
    with pytest.raises(InvalidQuery) as caught:
        WorklistQuery(keys(nested(**{keyword: value})), View())
    assert (caught.value.tag, caught.value.mismatch) == (tag, True)


def test_dates_and_times_are_not_joined_by_the_million() -> None:
    days = "\\".join(["20240102-20240103"] * 100)
    times = "\\".join(["0800-1200"] * 100)
    with pytest.raises(InvalidQuery, match="pairs of date and time"):
        WorklistQuery(keys(nested(ScheduledProcedureStepStartDate=days, ScheduledProcedureStepStartTime=times)), View())


def test_a_value_that_is_not_compared_need_not_be_one() -> None:
    query = WorklistQuery(keys(nested(ScheduledProcedureStepEndDate="tomorrow")), View())
    assert query.unsupported == [0x0040_0004]


@pytest.mark.parametrize(
    "wrong", [Key(STEP, "LO", "x"), Key(PATIENT_NAME, "SQ", "", (Key(PATIENT_ID, "LO", "x"),))], ids=["LO", "SQ"]
)
def test_a_sequence_is_a_sequence(wrong: Key) -> None:
    with pytest.raises(InvalidQuery) as caught:
        WorklistQuery((wrong,), View())
    assert (caught.value.tag, caught.value.mismatch) == (wrong.tag, True)


def test_a_key_twice_is_no_identifier() -> None:
    with pytest.raises(InvalidQuery) as caught:
        WorklistQuery((Key(PATIENT_ID, "LO", "x"), Key(PATIENT_ID, "LO", "y")), View())
    assert (caught.value.tag, caught.value.mismatch) == (PATIENT_ID, False)


def test_what_speaks_of_others_is_no_unsupported_key() -> None:
    structural = (Key(0x0008_0005, "CS", "ISO_IR 100"), Key(0x0010_0000, "UL", "8"), Key(0x0011_0010, "LO", "ACME"))
    assert not WorklistQuery(structural, View()).unsupported
    private = Key(0x0011_1001, "LO", "x", creator="ACME")
    assert WorklistQuery((*structural, private), View()).unsupported == [private.tag]


def response(item: Dataset, identifier: Dataset) -> Attributes:
    query = WorklistQuery(keys(identifier), View())
    return query.response(an(item))


CODE = nested(CodeValue="C1", CodingSchemeDesignator="99X", CodeMeaning="One")


def test_only_what_was_asked_for_is_answered() -> None:
    answer = response(an_item(1), nested(PatientID="", PatientWeight="", Modality=""))
    assert answer.keys() == {PATIENT_ID, STEP}
    assert answer[STEP].value == ({0x0008_0060: Element("CS", "CT")},)


@pytest.mark.parametrize("empty", [Sequence(), Sequence([Dataset()])], ids=["no item", "an empty item"])
def test_a_sequence_without_keys_is_returned_in_full(empty: Sequence) -> None:
    item = an_item(1, ScheduledProtocolCodeSequence=Sequence([CODE]))
    item.ScheduledProcedureStepSequence[0].ScheduledProcedureStepModificationDateTime = "20240101"
    (step,) = response(item, nested(ScheduledProcedureStepSequence=empty))[STEP].value
    assert isinstance(step, dict)
    # what it has, in the table or not, and empty what it could have
    assert step[SCHEDULED_STATION_AE_TITLE].value == "CT1"
    assert step[SCHEDULED_PROCEDURE_STEP_STATUS].value == "SCHEDULED"
    assert step[0x0040_4010].value == "20240101"
    assert step[0x0040_0012] == Element("LO", "")
    assert step[0x0018_990C] == Element("SQ", ())
    assert ATTRIBUTES[STEP].items.keys() <= step.keys()
    # codes in it, in full too
    (code,) = step[0x0040_0008].value
    assert {tag: element.value for tag, element in code.items()} == {
        0x0008_0100: "C1",
        0x0008_0102: "99X",
        0x0008_0103: "",
        0x0008_0104: "One",
    }


def test_items_that_are_mere_templates_are_left_out() -> None:
    template = nested(CodeValue="", CodingSchemeDesignator="", CodeMeaning="")
    half = nested(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="")
    item = an_item(
        1,
        RequestedProcedureCodeSequence=Sequence([template, CODE]),
        ScheduledProtocolCodeSequence=Sequence([template]),
        ReferencedStudySequence=Sequence([half]),
        ReferencedPatientSequence=Sequence([nested(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.3")]),
        IssuerOfAccessionNumberSequence=Sequence([nested(LocalNamespaceEntityID="")]),
    )
    identifier = nested(ScheduledProtocolCodeSequence=Sequence([nested(CodeValue="")]))
    for keyword in ("RequestedProcedureCode", "ReferencedStudy", "ReferencedPatient", "IssuerOfAccessionNumber"):
        setattr(identifier, f"{keyword}Sequence", Sequence())
    answer = response(item, identifier)
    assert [len(answer[tag].value) for tag in (0x0032_1064, 0x0008_1110, 0x0008_1120, 0x0008_0051)] == [1, 0, 1, 0]
    assert answer[STEP].value == ({0x0040_0008: Element("SQ", ())},)


def test_private_attributes_are_found_by_their_creator() -> None:
    item = an_item(1)
    item.add_new(0x00110020, "LO", "ACME")
    item.add_new(0x00112001, "LO", "theirs")
    for creator, expected in (("ACME", "theirs"), ("OTHER", None)):
        identifier = nested(PatientID="")
        identifier.add_new(0x00110010, "LO", creator)
        identifier.add_new(0x00111001, "LO", "")
        answer = response(item, identifier)
        assert answer[0x0011_0010].value == creator
        assert (answer[0x0011_1001].value if 0x0011_1001 in answer else None) == expected
