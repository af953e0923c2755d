"""Each field arrives in its attribute."""

import pytest
from pydicom.datadict import dictionary_VR

from gateway.matching.attributes import Attributes, Element
from gateway.options.orders import tag_of
from tests.worklist.orders.messages import PID, Worklist, message, msh, orm, value
from worklist.hl7.errors import ErrorCode, MessageError
from worklist.orders.field_map import FIELD_MAP

MINIMAL_ORC = "ORC|NW|P1|F1||||^^^20260302"
MINIMAL_OBR = "OBR|1|||CT^CT SCAN"
IPC = "IPC|A9^ISS|R9|1.2.3|S9|mr|P^PROTO|ST9|ROOM|MRX~MRY"
REASON, PERFORMER, PROCEDURE = "|" * 27, "|" * 30, "|" * 40


def sequence(worklist: Worklist, keyword: str) -> list[dict[str, str]]:
    """A sequence by keywords' tags as text."""
    tag = tag_of(keyword)
    item = worklist.item
    element = item.attributes.get(tag) or item.step.get(tag) or Element("SQ", ())
    assert not isinstance(element.value, str)
    return [{f"{t:08X}": e.value for t, e in one.items() if isinstance(e.value, str)} for one in element.value]


def omg(*segments: str, pid: str = PID) -> str:
    return message(msh("OMG^O19"), pid, *segments)


@pytest.mark.parametrize(
    ("segments", "keyword", "expected"),
    [
        ([MINIMAL_ORC, MINIMAL_OBR], "PatientName", "DOE^JOHN^A^DR^JR"),
        ([MINIMAL_ORC, MINIMAL_OBR], "PatientID", "4711"),
        ([MINIMAL_ORC, MINIMAL_OBR], "IssuerOfPatientID", "HOSP"),
        ([MINIMAL_ORC, MINIMAL_OBR], "PatientBirthDate", "19500203"),
        ([MINIMAL_ORC, MINIMAL_OBR], "PatientSex", "M"),
        ([MINIMAL_ORC, MINIMAL_OBR], "InstitutionName", "HOSP"),
        (["NTE|1||fasting", MINIMAL_ORC, MINIMAL_OBR], "PatientComments", "fasting"),
        ([MINIMAL_ORC, MINIMAL_OBR, "NTE|1||with\\.br\\contrast"], "RequestedProcedureComments", "with\r\ncontrast"),
        (["AL1|1||^IODINE", "AL1|2||LATEX", MINIMAL_ORC, MINIMAL_OBR], "Allergies", "IODINE"),
        (["AL1|1||1^IODINE", "AL1|2||2^LATEX", MINIMAL_ORC, MINIMAL_OBR], "Allergies", "IODINE\\LATEX"),
        ([MINIMAL_ORC, MINIMAL_OBR, "AL1|1||1^IODINE"], "Allergies", "IODINE"),
        (["OBX|1|NM|29463-7^Body weight^LN||70.5|kg", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", "70.5"),
        (["OBX|1|NM|WT^Body Weight||154.3|lb", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", "69.9893"),
        (["OBX|1|NM|3141-9^^LN||70500|g^gram^UCUM", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", "70.5"),
        (["OBX|1|NM|29463-7^^LN||154|[lb_av]", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", "69.8532"),
        (["OBX|1|NM|29463-7^^LN||70,5", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", "70.5"),
        (["OBX|1|ST|29463-7^^LN||70 kg", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", "70"),
        (["OBX|1|NM|29463-7^^LN||70|furlong", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", ""),
        (["OBX|1|NM|29463-7^^LN||70000|kg", MINIMAL_ORC, MINIMAL_OBR], "PatientWeight", ""),
        (["OBX|1|NM|8302-2^Body height^LN||182|cm", MINIMAL_ORC, MINIMAL_OBR], "PatientSize", "1.82"),
        (["OBX|1|NM|^^^HT^BODY HEIGHT||1.82|m", MINIMAL_ORC, MINIMAL_OBR], "PatientSize", "1.82"),
        (["OBX|1|NM|8302-2||71.65|[in_i]", MINIMAL_ORC, MINIMAL_OBR], "PatientSize", "1.81991"),
        ([MINIMAL_ORC, MINIMAL_OBR, "OBX|1|NM|8302-2||182|cm"], "PatientSize", "1.82"),
        (["PV1|1|I|WARD^12^A^HOSP&1.2&ISO", MINIMAL_ORC, MINIMAL_OBR], "CurrentPatientLocation", "WARD 12 A HOSP"),
        (["PV1|1|I||||||7^WELBY^M", MINIMAL_ORC, MINIMAL_OBR], "ReferringPhysicianName", "WELBY^M"),
        (["PV1|1|I|||||||||||||B6", MINIMAL_ORC, MINIMAL_OBR], "PregnancyStatus", "3"),
        (["DG1|1||S72^FRACTURE^I10", MINIMAL_ORC, MINIMAL_OBR], "ReasonForTheRequestedProcedure", "FRACTURE"),
        ([MINIMAL_ORC, MINIMAL_OBR + REASON + "P^PAIN"], "ReasonForTheRequestedProcedure", "PAIN"),
        ([MINIMAL_ORC, MINIMAL_OBR], "RequestedProcedureDescription", "CT SCAN"),
        ([MINIMAL_ORC, "OBR|1|||CT"], "RequestedProcedureDescription", "CT"),
        ([MINIMAL_ORC, MINIMAL_OBR + PROCEDURE + "7^HEAD"], "RequestedProcedureDescription", "HEAD"),
        ([MINIMAL_ORC, "OBR|1|||CT^CT SCAN^L^P7^NATIVE^X"], "ScheduledProcedureStepDescription", "NATIVE"),
        ([MINIMAL_ORC, MINIMAL_OBR + PERFORMER + "12&WELBY&M"], "ScheduledPerformingPhysicianName", "WELBY^M"),
        ([MINIMAL_ORC, MINIMAL_OBR + PERFORMER + "12^WELBY^M"], "ScheduledPerformingPhysicianName", "WELBY^M"),
        ([MINIMAL_ORC, MINIMAL_OBR], "PlacerOrderNumberImagingServiceRequest", "P1"),
        ([MINIMAL_ORC, MINIMAL_OBR], "FillerOrderNumberImagingServiceRequest", "F1"),
        (["ORC|NW", "OBR|1|P2|F2|CT"], "FillerOrderNumberImagingServiceRequest", "F2"),
        ([MINIMAL_ORC, MINIMAL_OBR], "ScheduledProcedureStepStartDate", "20260302"),
        ([MINIMAL_ORC, MINIMAL_OBR], "ScheduledProcedureStepStartTime", "000000"),
        (["ORC|NW|P1", "TQ1|1||||||20260302101500+0100||S", MINIMAL_OBR], "ScheduledProcedureStepStartTime", "101500"),
        (["ORC|NW|P1", "TQ1|1||||||20260302101500+0100||S", MINIMAL_OBR], "TimezoneOffsetFromUTC", "+0100"),
        (["ORC|NW|P1", "TQ1|1||||||20260302101500||S", MINIMAL_OBR], "RequestedProcedurePriority", "STAT"),
        (["ORC|NW|P1", MINIMAL_OBR], "ScheduledProcedureStepStartDate", "20260301"),
        (["ORC|NW|P1", MINIMAL_OBR], "ScheduledProcedureStepStartTime", "080000"),
        ([MINIMAL_ORC, MINIMAL_OBR, IPC], "AccessionNumber", "A9"),
        ([MINIMAL_ORC, MINIMAL_OBR, IPC], "ScheduledStationAETitle", "MRX\\MRY"),
        ([MINIMAL_ORC, MINIMAL_OBR, IPC], "ScheduledProcedureStepDescription", "PROTO"),
        ([MINIMAL_ORC, MINIMAL_OBR, IPC], "Modality", "MR"),
        ([MINIMAL_ORC, MINIMAL_OBR, IPC], "StudyInstanceUID", "1.2.3"),
        ([MINIMAL_ORC, MINIMAL_OBR, "ZDS|1.2.4^100^Application^DICOM"], "StudyInstanceUID", "1.2.4"),
        ([MINIMAL_ORC, MINIMAL_OBR, "OBX|1|HD|113014^DICOM Study^DCM||1.2.5"], "StudyInstanceUID", "1.2.5"),
    ],
)  # fmt: skip
def test_fields_arrive_in_their_attributes(
    worklist: Worklist, segments: list[str], keyword: str, expected: str
) -> None:
    worklist.send(omg(*segments))
    assert value(worklist.item, keyword) == expected


@pytest.mark.parametrize(
    ("sent", "sex"), [("M", "M"), ("f", "F"), ("A", "O"), ("N", "O"), ("O", "O"), ("U", ""), ("", ""), ("?", "")]
)
def test_sexes(worklist: Worklist, sent: str, sex: str) -> None:
    worklist.send(omg(MINIMAL_ORC, MINIMAL_OBR, pid=f"PID|1||4711||DOE^J|||{sent}"))
    assert value(worklist.item, "PatientSex") == sex


def test_all_identifiers_of_the_patient_arrive_with_their_issuers(worklist: Worklist) -> None:
    pid = "PID|1||1^^^A&1.2.3&ISO^MR~2^^^B^PI~3^^^&1.2.9&ISO||DOE^J"
    worklist.send(omg(MINIMAL_ORC, MINIMAL_OBR, pid=pid))
    item = worklist.item
    assert (value(item, "PatientID"), value(item, "IssuerOfPatientID")) == ("1", "A")
    assert sequence(worklist, "IssuerOfPatientIDQualifiersSequence") == [
        {"00400032": "1.2.3", "00400033": "ISO", "00400035": "MR"}
    ]
    assert sequence(worklist, "OtherPatientIDsSequence") == [
        {"00100020": "2", "00100021": "B", "00100022": "TEXT"},
        {"00100020": "3", "00100021": "1.2.9", "00100022": "TEXT"},
    ]


def test_the_patient_id_is_that_of_the_configured_authority(worklist: Worklist) -> None:
    worklist.configure(AssigningAuthority="B")
    worklist.send(omg(MINIMAL_ORC, MINIMAL_OBR, pid="PID|1||1^^^A~2^^^B||DOE^J"))
    assert value(worklist.item, "PatientID") == "2"
    assert sequence(worklist, "OtherPatientIDsSequence")[0]["00100020"] == "1"
    worklist.clear()
    worklist.send(omg(MINIMAL_ORC, MINIMAL_OBR, pid="PID|1||9||DOE^J"))
    assert value(worklist.item, "IssuerOfPatientID") == "B"


def test_codes_and_order_numbers_arrive_as_sequences(worklist: Worklist) -> None:
    long = "A-CODE-THAT-IS-TOO-LONG-FOR-SH"
    worklist.send(omg("ORC|NW|P1^PLACER^1.2^ISO|F1^FILLER", f"OBR|1|||{long}^CT OF^LN^ABD^ABDOMEN"))
    assert sequence(worklist, "RequestedProcedureCodeSequence") == [
        {"00080119": long, "00080102": "LN", "00080104": "CT OF"}
    ]
    assert sequence(worklist, "ScheduledProtocolCodeSequence") == [
        {"00080100": "ABD", "00080102": "L", "00080104": "ABDOMEN"}
    ]
    assert sequence(worklist, "OrderPlacerIdentifierSequence") == [
        {"00400031": "PLACER", "00400032": "1.2", "00400033": "ISO"}
    ]
    assert sequence(worklist, "OrderFillerIdentifierSequence") == [{"00400031": "FILLER"}]


@pytest.mark.parametrize(
    ("segments", "location", "code"),
    [
        (["ORC|NW|P1|||||^^^soon", MINIMAL_OBR], "ORC^1^7^1^4", ErrorCode.DATA_TYPE_ERROR),
        (["ORC|NW|P1|||||^^^202613", MINIMAL_OBR], "ORC^1^7^1^4", ErrorCode.DATA_TYPE_ERROR),
        (["ORC|NW|P1|||||^^^2026", MINIMAL_OBR], "ORC^1^7^1^4", ErrorCode.DATA_TYPE_ERROR),
        ([MINIMAL_ORC, MINIMAL_OBR, "ZDS|not a uid"], "ZDS^1^1^1^1", ErrorCode.DATA_TYPE_ERROR),
        ([MINIMAL_ORC, "OBR|1"], "OBR^1^4^1^5", ErrorCode.REQUIRED_FIELD_MISSING),
        (["ORC|NW", "OBR|1|||CT"], "ORC^1^2^1^1", ErrorCode.REQUIRED_FIELD_MISSING),
        (["ORC||P1", MINIMAL_OBR], "ORC^1^1", ErrorCode.REQUIRED_FIELD_MISSING),
        (["ORC|QQ|P1", MINIMAL_OBR], "ORC^1^1", ErrorCode.TABLE_VALUE_NOT_FOUND),
        (["ORC|NW|P1", MINIMAL_OBR, "ORC|QQ|P2", MINIMAL_OBR], "ORC^2^1", ErrorCode.TABLE_VALUE_NOT_FOUND),
        ([], "ORC^1", ErrorCode.SEGMENT_SEQUENCE_ERROR),
    ],
)  # fmt: skip
def test_what_cannot_become_an_item_is_refused_with_its_place(
    worklist: Worklist, segments: list[str], location: str, code: ErrorCode
) -> None:
    with pytest.raises(MessageError) as caught:
        worklist.send(omg(*segments))
    assert (caught.value.location, caught.value.code) == (location, code)
    assert worklist.items() == []


@pytest.mark.parametrize(
    ("pid", "location"),
    [("PID|1||||DOE^J", "PID^1^3"), ('PID|1||""||DOE^J', "PID^1^3"), ("PID|1||7", "PID^1^5"), ("", "PID^1^3")],
)
def test_a_patient_without_name_or_identifier_is_refused(worklist: Worklist, pid: str, location: str) -> None:
    with pytest.raises(MessageError) as caught:
        worklist.send(omg(MINIMAL_ORC, MINIMAL_OBR, pid=pid))
    # The name is looked at first.
    assert caught.value.location in (location, "PID^1^5")
    assert worklist.items() == []


def test_a_station_that_nobody_names_is_refused_with_a_hint(worklist: Worklist) -> None:
    worklist.configure(StationRules=[])
    with pytest.raises(MessageError, match="StationRules"):
        worklist.send(orm())


def test_an_empty_field_changes_nothing_and_null_deletes(worklist: Worklist) -> None:
    worklist.send(orm())
    worklist.send(orm(pid=PID.replace("19500203", "").replace("|M", '|""'), ordered="20260301090000"))
    assert value(worklist.item, "PatientBirthDate") == "19500203"
    assert value(worklist.item, "PatientSex") == ""


def test_what_belongs_to_a_value_goes_with_it(worklist: Worklist) -> None:
    """A code, or an issuer, of the value before must not stay with the new one."""
    worklist.send(omg("ORC|NW|P1^ISSUER", "OBR|1|||CT^CT SCAN"))
    worklist.send(omg("ORC|XO|P1", "OBR|1|||^MR SCAN"))
    assert value(worklist.item, "RequestedProcedureDescription") == "MR SCAN"
    assert sequence(worklist, "RequestedProcedureCodeSequence") == []


def test_times_are_shifted_to_the_time_zone_of_the_site_only_if_it_is_configured(worklist: Worklist) -> None:
    order = omg("ORC|NW|P1", "TQ1|1||||||20260302003000+0000", MINIMAL_OBR)
    worklist.send(order)
    assert value(worklist.item, "ScheduledProcedureStepStartTime") == "003000"
    worklist.clear()
    worklist.configure(TimeZone="America/New_York")
    worklist.send(order)
    item = worklist.item
    assert value(item, "ScheduledProcedureStepStartDate") == "20260301"
    assert value(item, "ScheduledProcedureStepStartTime") == "193000"
    assert value(item, "TimezoneOffsetFromUTC") == "-0500"
    assert value(item, "PatientBirthDate") == "19500203"


def test_the_time_zone_of_the_header_is_that_of_the_message(worklist: Worklist) -> None:
    worklist.send(message(msh("OMG^O19", sent="20260301080000+0200"), PID, MINIMAL_ORC + "1015", MINIMAL_OBR))
    assert value(worklist.item, "TimezoneOffsetFromUTC") == "+0200"


def test_the_map_has_one_line_for_an_attribute_and_its_representation() -> None:
    keywords = [row.attribute for row in FIELD_MAP]
    assert len(set(keywords)) == len(keywords)


def test_values_have_the_representation_of_their_attributes(worklist: Worklist) -> None:
    worklist.send(
        omg(
            "NTE|1||x", "PV1|1|I|W^1|||7^A^B|7^A|8^B^C|||||||B6|V|||77^^^H|||||||||||||||||||||||||20260101",
            "AL1|1||1^IODINE", "OBX|1|NM|8302-2||182|cm", "OBX|2|NM|29463-7||82|kg", "DG1|1||S72^FX^I10",
            MINIMAL_ORC + "0815+0100", MINIMAL_OBR, "IPC|A^B|R|1.2|S|CT|P^Q|N|L|AE",
        )
    )  # fmt: skip
    check_representations(worklist.item.attributes)


def check_representations(attributes: Attributes) -> None:
    for tag, element in attributes.items():
        assert element.vr == dictionary_VR(tag), f"{tag:08X}"
        if not isinstance(element.value, str):
            for item in element.value:
                check_representations(item)
