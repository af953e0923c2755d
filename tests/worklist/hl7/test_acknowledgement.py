"""Acknowledgements say what HL7 says they say, in the sender's delimiters and character set."""

from datetime import UTC, datetime

import hl7
import pytest

from tests.support.mllp import order
from worklist.hl7.acknowledgement import ACCEPTED, Outcome, acknowledge
from worklist.hl7.errors import MEANINGS, ErrorCode, MessageError, NotSupported
from worklist.hl7.framing import FrameReader
from worklist.hl7.header import Header, read_header

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
WELL = Outcome(ACCEPTED, "noted")
WRONG = Outcome.refused(MessageError(ErrorCode.REQUIRED_FIELD_MISSING, "PID^1^5^2", "a | b ^ c"))
NOT_OURS = Outcome.refused(NotSupported(ErrorCode.UNSUPPORTED_EVENT_CODE, "no ADT^A99 here"))


def header_of(message: bytes) -> Header:
    header = read_header(message.decode())
    assert header is not None
    return header


def answers(header: Header | None, outcome: Outcome, codec: str = "utf-8") -> list[str]:
    reader = FrameReader(100_000)
    reader.feed(acknowledge(header, outcome, NOW, codec))
    found = []
    while (frame := reader.next()) is not None:
        found.append(frame.body.decode(codec))
    return found


def test_accepted() -> None:
    header = header_of(order("42", msh18="UNICODE UTF-8"))
    assert answers(header, WELL) == [
        "MSH|^~\\&|GATEWAY|RADIOLOGY|RIS|HOSPITAL|20240102030405+0000||ACK^O01^ACK|42|P|2.5||||||UNICODE UTF-8\r"
        "MSA|AA|42|noted\r"
    ]


def test_wrong_with_the_error_segment_of_2_5() -> None:
    [answer] = answers(header_of(order("42")), WRONG)
    assert answer.split("\r")[1:] == [
        "MSA|AE|42|a \\F\\ b \\S\\ c",
        "ERR||PID^1^5^2|101^Required field missing^HL70357|E||||a \\F\\ b \\S\\ c",
        "",
    ]


@pytest.mark.parametrize("version", ["2.2", "2.3", "2.3.1", "2.4"])
def test_wrong_with_the_error_segment_before_2_5(version: str) -> None:
    [answer] = answers(header_of(order("42", msh12=version)), WRONG)
    assert answer.split("\r")[1:] == [
        "MSA|AE|42|a \\F\\ b \\S\\ c|||101^Required field missing^HL70357",
        "ERR|PID^1^5^101&Required field missing&HL70357",
        "",
    ]


def test_not_supported_is_a_rejection() -> None:
    [answer] = answers(header_of(order("42")), NOT_OURS)
    assert "MSA|AR|42|no ADT\\S\\A99 here\rERR||MSH^1^9|201^Unsupported event code^HL70357|E" in answer


@pytest.mark.parametrize(
    ("accept", "application", "accepted", "wrong", "rejected"),
    [
        ("", "", ["AA"], ["AE"], ["AR"]),
        ("AL", "AL", ["CA", "AA"], ["CA", "AE"], ["CA", "AR"]),
        ("AL", "NE", ["CA"], ["CE"], ["CR"]),
        ("AL", "", ["CA"], ["CE"], ["CR"]),
        ("NE", "AL", ["AA"], ["AE"], ["AR"]),
        ("", "AL", ["AA"], ["AE"], ["AR"]),
        ("NE", "NE", [], [], []),
        ("NE", "ER", [], ["AE"], ["AR"]),
        ("NE", "SU", ["AA"], [], []),
        ("ER", "NE", [], ["CE"], ["CR"]),
        ("SU", "NE", ["CA"], [], []),
        ("AL", "ER", ["CA"], ["CA", "AE"], ["CA", "AR"]),
        ("AL", "SU", ["CA", "AA"], ["CE"], ["CR"]),
        ("ER", "AL", ["AA"], ["AE"], ["AR"]),
        ("al", "ne", ["CA"], ["CE"], ["CR"]),
        ("??", "NE", ["CA"], ["CE"], ["CR"]),
    ],
)
def test_enhanced_mode(
    accept: str, application: str, accepted: list[str], wrong: list[str], rejected: list[str]
) -> None:
    header = header_of(order("42", msh15=accept, msh16=application))
    for outcome, expected in ((WELL, accepted), (WRONG, wrong), (NOT_OURS, rejected)):
        found = answers(header, outcome)
        assert [answer.split("\rMSA|")[1].split("|")[0] for answer in found] == expected
        # Whoever is told of an error is told which.
        assert ["ERR" in answer for answer in found] == [code in ("AE", "AR", "CE", "CR") for code in expected]


def test_the_senders_delimiters_are_kept_and_escaped() -> None:
    header = read_header("MSH#*!?+#RIS*1.2*ISO#H###20240101##ORM*O01#7#P#2.5")
    [answer] = answers(header, Outcome.refused(MessageError(ErrorCode.DATA_TYPE_ERROR, "PID^1^5", "a#b*c!d?e+f|g")))
    assert answer.startswith("MSH#*!?+###RIS*1.2*ISO#H#")
    assert answer.split("\r")[2] == "ERR##PID*1*5#102*Data type error*HL70357#E####a?F?b?S?c?R?d?E?e?T?f|g"
    assert hl7.parse(answer).extract_field("ERR", field_num=8) == "a#b*c!d?e+f|g"


def test_the_message_without_header_gets_an_acknowledgement_to_nobody() -> None:
    [answer] = answers(None, WRONG)
    assert answer.startswith("MSH|^~\\&|||||20240102030405+0000||ACK|")
    assert "\rMSA|AE||a " in answer


def test_what_is_copied_is_bounded_and_holds_no_control_characters() -> None:
    header = header_of(order("9" * 5000, msh3="R\x1bIS", msh5="A" * 5000))
    [answer] = answers(header, WELL)
    assert len(answer) < 1200
    assert "\x1b" not in answer
    assert answer.count("\r") == 2


def test_texts_are_bounded() -> None:
    [answer] = answers(header_of(order("1")), Outcome.refused(MessageError(ErrorCode.DATA_TYPE_ERROR, "", "x" * 999)))
    fields = {line[:3]: line.split("|") for line in answer.split("\r")}
    assert len(fields["MSA"][3]) == 80
    assert len(fields["ERR"][8]) == 250


def test_null_is_no_value() -> None:
    [answer] = answers(header_of(order("42", msh15='""', msh16='""', msh18='""')), WELL)
    assert answer.split("\r")[1] == "MSA|AA|42|noted"
    assert '""' not in answer


def test_what_the_character_set_cannot_hold_becomes_a_question_mark() -> None:
    assert "MSA|AA|42|n?ted" in answers(header_of(order("42")), Outcome(ACCEPTED, "nŁted"), "cp1252")[0]


def test_every_code_has_the_words_of_the_table() -> None:
    assert set(MEANINGS) == set(ErrorCode)
