"""What a message says, field by field, and that whatever stands in an item arrives as it is."""

import zoneinfo
from datetime import datetime
from typing import Any, Final

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword

from gateway import hl7_character_sets
from gateway.matching.attributes import Attributes
from gateway.options.hl7_receivers import ReceiverSection
from gateway.options.orders import OrderOptions
from tests.support.worklists import item_attributes
from worklist.feedback.message import ORDER_STATUS, Happened, write
from worklist.feedback.writing import Writer
from worklist.hl7.decoding import decode, parse
from worklist.items import Item, Status, with_status
from worklist.orders.conversions import Context
from worklist.orders.groups import orders
from worklist.orders.mapping import FieldMap
from worklist.orders.reader import read_segments

PARIS: Final = zoneinfo.ZoneInfo("Europe/Paris")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


STARTED: Final = at("2026-11-21T09:00:00+00:00")
ENDED: Final = at("2026-11-21T09:20:05+00:00")
SENT: Final = at("2026-11-21T09:20:06+00:00")

ORDER: Final[dict[str, Any]] = {
    "IssuerOfPatientID": "HOSPITAL",
    "IssuerOfPatientIDQualifiersSequence": [
        {"UniversalEntityID": "1.2.9", "UniversalEntityIDType": "ISO", "IdentifierTypeCode": "MR"}
    ],
    "OtherPatientIDsSequence": [{"PatientID": "N7", "IssuerOfPatientID": "NATION", "TypeOfPatientID": "TEXT"}],
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "PatientName": "DOE^JANE^M^Dr^PhD",
    "AdmissionID": "V1",
    "IssuerOfAdmissionIDSequence": [{"LocalNamespaceEntityID": "ADT"}],
    "ReferringPhysicianName": "HOUSE^GREGORY",
    "RequestingPhysician": "WHO^DOCTOR",
    "PlacerOrderNumberImagingServiceRequest": "O1",
    "OrderPlacerIdentifierSequence": [{"LocalNamespaceEntityID": "HIS"}],
    "FillerOrderNumberImagingServiceRequest": "F1",
    "OrderFillerIdentifierSequence": [
        {"LocalNamespaceEntityID": "RIS", "UniversalEntityID": "1.2.3", "UniversalEntityIDType": "ISO"}
    ],
    "RequestedProcedureCodeSequence": [
        {"CodeValue": "CTH", "CodingSchemeDesignator": "L", "CodeMeaning": "CT head & neck"}
    ],
}


def receiver(**options: Any) -> ReceiverSection:
    return ReceiverSection.model_validate({"Name": "RIS", "Host": "ris", "Port": 1, **options})


def item(status: Status = Status.COMPLETED, attributes: Attributes | None = None) -> Item:
    made = item_attributes(1, **ORDER) if attributes is None else attributes
    return Item(7, with_status(made, status), status, "hl7 RIS|HOSPITAL", 0, 0)


def written(happened: Item, *, started_at: int = STARTED, **options: Any) -> bytes:
    told = Happened(happened, ENDED, started_at, "c0ffee")
    return write(told, receiver(**options), SENT, PARIS)


def test_the_message_of_an_order_that_is_done() -> None:
    message = written(
        item(), SendingFacility="RADIOLOGY", ReceivingApplication="RIS^1.2.4^ISO", ReceivingFacility="HOSPITAL"
    )
    assert message.decode().split("\r") == [
        "MSH|^~\\&|DICOM-GATEWAY|RADIOLOGY|RIS^1.2.4^ISO|HOSPITAL|20261121102006+0100||ORM^O01^ORM_O01|c0ffee|P|2.5"
        "||||||UNICODE UTF-8",
        "PID|1||P1^^^HOSPITAL&1.2.9&ISO^MR~N7^^^NATION||DOE^JANE^M^PhD^Dr||19700101|F",
        "PV1|1|U||||||^HOUSE^GREGORY|||||||||||V1^^^ADT",
        "ORC|SC|O1^HIS|F1^RIS^1.2.3^ISO||CM||||20261121102005+0100",
        "OBR|1|O1^HIS|F1^RIS^1.2.3^ISO|CTH^CT head \\T\\ neck^L|||20261121100000+0100|20261121102005+0100"
        "||||||||^WHO^DOCTOR||A1|R1|S1||20261121102005+0100||CT",
        "ZDS|1.2.1^DICOM-GATEWAY^Application^DICOM",
        "",
    ]


def test_an_item_that_says_little_makes_a_message_too() -> None:
    attributes = item_attributes(1, RequestedProcedureDescription="CT head")
    message = written(item(Status.STARTED, attributes), Message="OMG^O19", Version="2.5.1", CharacterSet="8859/1")
    assert message.decode().split("\r") == [
        "MSH|^~\\&|DICOM-GATEWAY||||20261121102006+0100||OMG^O19^OMG_O19|c0ffee|P|2.5.1||||||8859/1",
        "PID|1||P1||DOE^JANE1",
        "ORC|SC||||IP||||20261121102005+0100",
        "OBR|1|||^CT head|||20261121100000+0100|||||||||||A1|R1|S1||20261121102005+0100||CT",
        "ZDS|1.2.1^DICOM-GATEWAY^Application^DICOM",
        "",
    ]


@pytest.mark.parametrize("status", Status)
def test_every_status_has_its_code(status: Status) -> None:
    assert f"ORC|SC|O1^HIS|F1^RIS^1.2.3^ISO||{ORDER_STATUS[status]}|" in written(item(status)).decode()


@pytest.mark.parametrize("status", [Status.DISCONTINUED, Status.COMPLETED, Status.STARTED])
def test_times_that_are_not_known_are_not_said(status: Status) -> None:
    obr = next(line for line in written(item(status), started_at=0).decode().split("\r") if line.startswith("OBR"))
    fields = obr.split("|")
    assert (fields[7], fields[8]) == ("", "")
    assert fields[22] == "20261121102005+0100"


def test_names_in_several_scripts_are_repetitions() -> None:
    attributes = item_attributes(1, PatientName="YAMADA^TAROU=山田^太郎=やまだ^たろう")
    message = written(item(attributes=attributes), CharacterSet="~ISO IR87")
    assert "|YAMADA^TAROU^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P\r" in message.decode("iso2022_jp_ext")
    assert b"||||||~ISO IR87\r" in message


def test_version_2_3_knows_no_structure_in_msh_9() -> None:
    assert b"||ORM^O01|c0ffee|P|2.3|" in written(item(), Version="2.3")


IDENTIFYING: Final = (
    *(keyword for keyword in ORDER if keyword not in ("OtherPatientIDsSequence", "IssuerOfAdmissionIDSequence")),
    *("PatientID", "AccessionNumber", "StudyInstanceUID", "RequestedProcedureID"),
)


def test_a_receiver_finds_the_order_by_what_it_had_sent() -> None:
    """Read back by the field map of orders, everything that identifies patient, order and step is as it was."""
    attributes = item_attributes(1, **ORDER)
    decoded = decode(written(item(attributes=attributes)), "8859/1")
    header = decoded.header
    segments = read_segments(parse(decoded), header.field_separator, header.encoding_characters, "utf-8")
    (order,) = orders(segments)
    read = FieldMap(OrderOptions().field_map).read(order.part, Context()).attributes()
    for keyword in IDENTIFYING:
        tag = tag_for_keyword(keyword)
        assert tag is not None
        assert read[tag] == attributes[tag], keyword


CHARACTER_SETS: Final = (
    "UNICODE UTF-8",
    "ASCII",
    *(f"8859/{part}" for part in (1, 2, 5, 7, 8, 9, 15)),
    "WINDOWS-1252",
    "~ISO IR87",
    "~ISO IR159",
    "ISO IR14",
    "SHIFT_JIS",
    "EUC-JP",
    "KS X 1001",
    "GB 18030-2000",
    "BIG-5",
)


# A name's text as DICOM has it: components and groups are the name's, backslashes separate values.
NAME: Final = st.text(st.characters(blacklist_characters="^=\\"), max_size=20)
ANY: Final = st.text(st.one_of(st.sampled_from('|^~\\&"EFRSTX.é€¥‾ヤ表山한Ж'), st.characters()), max_size=30)


def _is_changed(character: str, codec: str) -> bool:
    return character.encode(codec, "replace").decode(codec, "replace") != character


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
@given(texts=st.lists(ANY, min_size=1, max_size=5))
def test_any_text_arrives_as_it_was_sent(character_set: str, texts: list[str]) -> None:
    """python-hl7 takes apart what was put together, and undoes its escapes: nothing is forged, nothing lost."""
    codec = hl7_character_sets.encoder_of(character_set)
    assert codec is not None
    writer = Writer(codec)
    sent = [_plain(text, codec) for text in texts]
    segment = writer.segment("OBR", {1: "1", 2: writer.components("x", *sent, "x")})
    name = character_set.encode()
    data = b"MSH|^~\\&|A|B|C|D|1||ORM^O01|1|P|2.5||||||" + name + b"\r" + segment
    message = hl7.parse(decode(data, "8859/1").text)
    assert len(message) == 2
    assert len(message.segment("OBR")[2][0]) == len(sent) + 2
    for number, text in enumerate(sent, 2):
        assert message.extract_field("OBR", 1, 2, 1, number, 1) == text


def _plain(text: str, codec: str) -> str:
    """The text as far as the character set has it, without control characters, blanks at its ends and line breaks."""
    kept = "".join(c for c in text if c.isprintable() and not _is_changed(c, codec))
    return "" if kept.strip() == '""' else kept.strip()


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
@given(name=NAME, more=ANY)
def test_any_item_makes_a_message_that_can_be_read(character_set: str, name: str, more: str) -> None:
    attributes = item_attributes(
        1, PatientName=name or "X", RequestedProcedureDescription=more, PatientID=more, StudyInstanceUID=more
    )
    message = written(item(attributes=attributes), CharacterSet=character_set)
    decoded = decode(message, "8859/1")
    parsed = parse(decoded)
    names = [str(segment[0]) for segment in parsed]
    assert names == ["MSH", "PID", "ORC", "OBR", *(["ZDS"] if names[-1] == "ZDS" else [])]
    assert str(parsed.segment("ORC")[5]) == "CM"
    assert str(parsed.segment("OBR")[18]) == "A1"


def test_line_breaks_are_formatted_and_null_is_not_said() -> None:
    writer = Writer("utf-8")
    assert writer.text("one\r\ntwo\nthree\rfour") == b"one\\.br\\two\\.br\\three\\.br\\four"
    assert writer.text('""') == b""
    assert writer.text("a\x0b\x1cb\x00") == b"a  b"


@pytest.mark.parametrize("character_set", ["ISO IR14", "SHIFT_JIS"])
def test_the_yen_sign_does_not_become_an_escape(character_set: str) -> None:
    codec = hl7_character_sets.encoder_of(character_set)
    assert codec is not None
    assert "\\" not in Writer(codec).text("¥F¥‾").decode(codec)
