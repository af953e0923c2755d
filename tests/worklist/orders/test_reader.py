"""Messages are read as they were meant: groups, parts, escape sequences, what is empty and what is null."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.options.hl7_sources import parse_source
from tests.worklist.orders.messages import message, msh, received
from worklist.orders.escapes import Escapes
from worklist.orders.groups import Order, appointment, orders
from worklist.orders.reader import Segment, read_segments

PLAIN = Escapes("|", "^~\\&", "utf-8")


def segments_of(*segments: str) -> list[Segment]:
    taken = received(message(msh("ORM^O01"), *segments))
    return read_segments(taken.message, "|", "^~\\&", "utf-8")


def orders_of(*segments: str) -> list[Order]:
    return orders(segments_of(*segments))


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("Head \\T\\ Neck", "Head & Neck"),
        ("a\\F\\b\\S\\c\\R\\d\\E\\e", "a|b^c~d\\e"),
        ("caf\\XC3A9\\", "café"),
        ("caf\\XC3\\\\XA9\\", "café"),
        ("\\X0D\\", "\r"),
        ("\\XFF\\", "\ufffd"),
        ("one\\.br\\two\\.sp 3\\three", "one\r\ntwo\r\nthree"),
        ("\\H\\bold\\N\\ plain", "bold plain"),
        ("\\C2842\\\\M242842\\\\Z1\\x", "x"),
        ("unterminated \\F", "unterminated \\F"),
        ("C:\\dicom\\in", "C:\\dicom\\in"),
        ("\\X4\\", "\\X4\\"),
        ("\\.spX\\", "\\.spX\\"),
        ("\\\\", "\\\\"),
    ],
)
def test_escape_sequences_are_undone_and_nothing_is_lost(sent: str, meant: str) -> None:
    assert PLAIN.undo(sent) == meant


def test_escape_sequences_are_of_the_character_set_and_the_delimiters_of_the_message() -> None:
    assert Escapes("#", "$@%!", "iso8859-5").undo("%XBC%%S%%F%%T%") == "М$#!"


@given(st.text())
def test_a_text_that_was_escaped_arrives_as_it_was(text: str) -> None:
    table = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"})
    assert PLAIN.undo(text.translate(table)) == text


@given(st.text("\\XFSTREZCM.br0123456789ABCabc^"))
def test_no_text_breaks_the_escapes(text: str) -> None:
    PLAIN.undo(text)


def test_parts_of_fields_know_where_they_stand() -> None:
    pid = segments_of("PID|1||1^^^A&1.2&ISO^MR~2^^^B")[1]
    first, second = pid.repetitions(3)
    assert (first.text(1), first.part(4).text(2), first.code(4), second.text(4)) == ("1", "1.2", "A", "B")
    assert first.location == "PID^1^3"
    assert first.part(4).part(2).location == "PID^1^3^1^4^2"
    assert second.part(1).location == "PID^1^3^2^1"


def test_absent_empty_and_null_are_told_apart() -> None:
    pid = segments_of('PID|1||^^^|""|a~""|x^""^z')[1]
    assert pid.repetitions(3) == [] and pid.repetitions(99) == []
    assert [value.is_null for value in pid.repetitions(4)] == [True]
    assert [value.is_null for value in pid.repetitions(5)] == [False, True]
    assert [pid.value(6).text(number) for number in (1, 2, 3)] == ["x", "", "z"]


def test_a_subcomponent_separator_that_was_not_escaped_stays_in_the_text() -> None:
    assert segments_of("OBR|1|||CT^Head & Neck")[1].text(4, 2) == "Head & Neck"


def test_segments_without_fields_are_harmless() -> None:
    segments = segments_of("ZZZ", "Q", "PID|1")
    assert [segment.name for segment in segments] == ["MSH", "ZZZ", "Q", "PID"]
    assert segments[1].repetitions(1) == []


def test_each_order_has_its_own_segments_and_those_of_the_patient() -> None:
    first, second, third = orders_of(
        "PID|1||7",
        "NTE|1||about the patient",
        "ORC|NW|P1",
        "TQ1|1",
        "OBR|1||F1",
        "NTE|1||about the first",
        "ORC|NW|P2",
        "OBR|2||F2",
        "OBR|3||F3",
    )
    assert [order.part.text("OBR", 3) for order in (first, second, third)] == ["F1", "F2", "F3"]
    assert [order.part.text("PID", 3) for order in (first, second, third)] == ["7"] * 3
    of_patient, of_order = parse_source("PID/NTE-3"), parse_source("OBR/NTE-3")
    assert [value.text() for value in first.part.values(of_patient)] == ["about the patient"]
    assert [value.text() for value in first.part.values(of_order)] == ["about the first"]
    assert second.part.values(of_order) == []


def test_one_zds_at_the_end_is_for_all_orders_and_two_are_for_their_own() -> None:
    uid = parse_source("ZDS-1.1")
    shared = orders_of("ORC|NW", "OBR|1", "ORC|NW", "OBR|2", "ZDS|1.2^x")
    assert [[value.text() for value in order.part.values(uid)] for order in shared] == [["1.2"], ["1.2"]]
    own = orders_of("ORC|NW", "OBR|1", "ORC|NW", "OBR|2", "ZDS|1.2^x", "ORC|NW", "ZDS|1.3^x")
    assert [[value.text() for value in order.part.values(uid)] for order in own] == [[], ["1.2"], ["1.3"]]


def test_each_ipc_is_a_step_of_its_order() -> None:
    first, second = orders_of("ORC|NW|P1", "OBR|1", "IPC|A|R|1.2|S1", "IPC|A|R|1.2|S2", "ORC|NW|P2", "OBR|2")
    assert [step.text("IPC", 4) for step in first.steps] == ["S1", "S2"]
    assert [step.text("ORC", 2) for step in first.steps] == ["P1", "P1"]
    assert len(second.steps) == 1 and second.step_segment == ""


def test_each_ais_is_a_step_of_its_appointment_with_its_own_resources() -> None:
    order = appointment(
        segments_of("SCH|1", "PID|1||7", "RGS|1", "AIS|1||CT", "AIL|1||ROOM1", "AIS|2||MR", "AIL|1||ROOM2")
    )
    assert [(step.text("AIS", 3), step.text("AIL", 3)) for step in order.steps] == [("CT", "ROOM1"), ("MR", "ROOM2")]


@pytest.mark.parametrize("text", ["OBR", "OBR-", "OBR-0", "obr-4", "OBR-4.5-3", "OBX[]-5", "OBR-4.1.2.3", "", "OBR-4 "])
def test_places_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|ends before"):
        parse_source(text)
