"""Messages are decoded as their senders meant them, or refused with the place where they cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hl7_character_sets import find_codec
from tests.support.mllp import order
from worklist.hl7 import decoding
from worklist.hl7.errors import ErrorCode, NotSupported, Refusal
from worklist.hl7.header import Header, read_header

DEFAULT = "8859/1"


def decoded_name(message: bytes, default: str = DEFAULT) -> str:
    decoded = decoding.decode(message, default)
    return str(decoding.parse(decoded).segment("PID")[5])


def refusal_of(message: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        decoding.parse(decoding.decode(message, DEFAULT))
    return caught.value


@pytest.mark.parametrize(
    ("msh18", "codec", "name"),
    [
        ("", "latin-1", "MÜLLER^JÜRGEN"),
        ("ASCII", "latin-1", "MÜLLER^JÜRGEN"),
        ("8859/1", "latin-1", "Ñandú^José"),
        ("8859/1", "cp1252", "Šimek^Œuvre"),
        ("8859/2", "iso8859-2", "ŁUKASZ^Černý"),
        ("8859/5", "iso8859-5", "Люкceмбypг^Иван"),
        ("8859/7", "iso8859-7", "Διονυσιος^Γεωργιος"),
        ("8859/15", "iso8859-15", "Œuvre^€"),
        ("8859/8", "iso8859-8", "שרון^דבורה"),
        ("8859/6", "iso8859-6", "قباني^لنزار"),
        ("WINDOWS-1252", "cp1252", "Žižek^Slavoj"),
        ("UNICODE UTF-8", "utf-8", "山田^太郎^Ž"),
        ("UNICODE", "utf-8", "山田^太郎"),
        ("utf8", "utf-8", "김희중^Ł"),
        ("ISO IR87", "iso2022_jp", "山田^太郎"),
        ("~ISO IR87", "iso2022_jp", "山田^太郎"),
        ("ASCII~ISO IR87~ISO IR159", "iso2022_jp_2", "山田^太郎^丂"),
        ("ISO IR14", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("KS X 1001", "euc_kr", "김희중^홍길동"),
        ("GB 18030-2000", "gb18030", "王^小东^㐀"),
        ("BIG-5", "big5", "王^小東"),
    ],
)
def test_names_arrive_as_they_left(msh18: str, codec: str, name: str) -> None:
    assert decoded_name(order("1", msh18=msh18, name=name, codec=codec)) == name


@pytest.mark.parametrize(
    ("default", "msh18", "sent", "read"),
    [
        ("8859/1", "", "MÜLLER^山田", "MÜLLER^山田"),
        ("8859/1", "ASCII", "MÜLLER^JÜRGEN", "MÜLLER^JÜRGEN"),
        # Who says what it is is believed, and in other character sets such pairs of letters are words.
        ("8859/1", "8859/1", "MÜLLER^JÜRGEN", "MÃœLLER^JÃœRGEN"),
        ("8859/5", "", "\u00b0", "ТА"),
    ],
)
def test_utf_8_that_is_not_declared_is_not_taken_for_iso_8859_1(default: str, msh18: str, sent: str, read: str) -> None:
    assert decoded_name(order("1", msh18=msh18, name=sent, codec="utf-8"), default) == read


def test_two_messages_in_one_frame_are_refused() -> None:
    refusal = refusal_of(order("1") + order("2"))
    assert (refusal.code, refusal.location) == (ErrorCode.SEGMENT_SEQUENCE_ERROR, "MSH^2")


def test_korean_with_the_escape_sequence_of_iso_2022() -> None:
    message = order("1", msh18="KS X 1001", name="김^희중", codec="euc_kr").replace(b"PID", b"PID", 1)
    escaped = message.replace("김".encode("euc_kr"), b"\x1b$)C" + "김".encode("euc_kr"))
    assert decoded_name(escaped) == "김^희중"


def test_the_default_character_set_is_that_of_messages_without_msh_18() -> None:
    assert decoded_name(order("1", name="Łódź", codec="iso8859-2"), "8859/2") == "Łódź"


def test_an_unknown_character_set_is_an_error_where_it_matters() -> None:
    assert decoded_name(order("1", msh18="KLINGON")) == "DOE^JANE"
    refusal = refusal_of(order("1", msh18="KLINGON", name="MÜLLER"))
    assert (refusal.code, refusal.location) == (ErrorCode.TABLE_VALUE_NOT_FOUND, "MSH^1^18")
    assert "KLINGON" in refusal.text


def test_bytes_of_another_character_set_are_an_error_with_its_place() -> None:
    refusal = refusal_of(order("1", msh18="UNICODE UTF-8", name="MÜLLER", codec="latin-1"))
    assert (refusal.code, refusal.location) == (ErrorCode.DATA_TYPE_ERROR, "PID^1^5")
    assert "UNICODE UTF-8" in refusal.text
    second = order("1", msh18="UTF-8", rest="NTE|1||ok\rNTE|2||Ü", codec="latin-1")
    assert refusal_of(second).location == "NTE^2^3"
    assert refusal_of(order("1", msh18="UTF-8", msh6="Ü", codec="latin-1")).location == "MSH^1^6"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\r\n"])
def test_segments_may_end_as_they_like_and_empty_ones_are_dropped(end: str) -> None:
    message = order("1").replace(b"\r", end.encode())
    decoded = decoding.decode(b"\r\n" + message + b"\r\n\0", DEFAULT)
    assert [line[:3] for line in decoded.text.split("\r")] == ["MSH", "PID", "ORC", "OBR", ""]
    assert len(decoding.parse(decoded)) == 4


def test_control_characters_are_dropped() -> None:
    assert decoded_name(order("1", name="DOE\0^\x07JANE")) == "DOE^JANE"


def test_a_byte_order_mark_is_no_part_of_a_message() -> None:
    assert decoded_name(b"\xef\xbb\xbf" + order("1", msh18="UTF-8")) == "DOE^JANE"


@pytest.mark.parametrize("message", [b"", b"MSH", b"PID|1", b"\xff\xfe", b"MSHA", b"hello"])
def test_what_has_no_header_is_a_segment_sequence_error(message: bytes) -> None:
    assert refusal_of(message).code is ErrorCode.SEGMENT_SEQUENCE_ERROR


@pytest.mark.parametrize("batch", [b"BHS|^~\\&|RIS\r", b"FHS|^~\\&|RIS\r"])
def test_batches_are_not_supported(batch: bytes) -> None:
    assert isinstance(refusal_of(batch + order("1")), NotSupported)


def test_a_message_of_delimiters_is_not_taken_apart() -> None:
    assert "20000" in refusal_of(order("1", rest="ZZZ|" + "^~" * 20_000)).text


@pytest.mark.parametrize("delimiters", ["^^\\&", "abcd", "^~ &"])
def test_what_cannot_be_delimiters_is_refused(delimiters: str) -> None:
    refusal = refusal_of(order("1").replace(b"^~\\&", delimiters.encode(), 1))
    assert (refusal.code, refusal.location) == (ErrorCode.DATA_TYPE_ERROR, "MSH^1^2")


@pytest.mark.parametrize("delimiters", ["^~\\&#", "^~\\", "^"])
def test_delimiters_may_be_more_or_fewer(delimiters: str) -> None:
    assert decoded_name(order("1").replace(b"^~\\&", delimiters.encode(), 1)) == "DOE^JANE"


def test_delimiters_that_are_left_out_are_none_of_the_others() -> None:
    decoded = decoding.decode(order("1", name="A~B").replace(b"^~\\&", b"~", 1), DEFAULT)
    assert decoding.parse(decoded).extract_field("PID", field_num=5, component_num=2) == "B"


def test_a_message_without_type_is_refused() -> None:
    assert refusal_of(order("1", msh9="")).location == "MSH^1^9"
    assert refusal_of(b"MSH|^~\\&|RIS").location == "MSH^1^9"


@given(st.text(max_size=300))
def test_the_header_reader_never_fails(text: str) -> None:
    for each in (text, "MSH" + text, "MSH|" + text, "MSH|^~\\&|" + text):
        header = read_header(each)
        if header is not None:
            assert len({header.field_separator, *header.encoding_characters}) == 5
            for number in range(3, 30):
                header.field(number)
                header.component(number, 2)


@given(st.binary(max_size=400))
def test_no_bytes_do_worse_than_being_refused(data: bytes) -> None:
    for message in (data, b"MSH" + data, b"MSH|^~\\&|||||||||||||||" + data, order("1") + data, order("1")[:30] + data):
        try:
            decoding.parse(decoding.decode(message, DEFAULT))
        except Refusal as refusal:
            assert refusal.text


def test_a_short_header_has_empty_fields() -> None:
    header = read_header("MSH|^~\\&|A")
    assert header == Header(fields=("A",))
    assert (header.sending_application, header.control_id, header.version, header.trigger_event) == ("A", "", "", "")


def test_delimiters_of_the_sender_are_those_of_the_header() -> None:
    header = read_header("MSH#*!?+#A#B###20240101##ORM*O01#7#P#2.3")
    assert header is not None
    assert (header.field_separator, header.encoding_characters) == ("#", "*!?+")
    assert (header.type_and_event, header.control_id) == ("ORM^O01", "7")


@pytest.mark.parametrize(
    "name", ["ISO_IR 100", "ISO IR100", "iso_ir100", "8859/1", "ISO-8859-1", "iso8859/1", "Latin1"]
)
def test_character_sets_may_be_spelt_as_people_do(name: str) -> None:
    assert find_codec([name]) == "cp1252"
