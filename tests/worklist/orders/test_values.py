"""Names, texts, numbers and times of HL7 as values of DICOM."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.matching import times
from tests.worklist.orders.messages import message, msh, received
from worklist.orders.names import CNN, XCN, XPN, Shape, person_name
from worklist.orders.reader import Value, read_segments
from worklist.orders.texts import MAXIMUM_CHARACTERS, decimal_number, fit, is_uid
from worklist.orders.timestamps import parse

DELIMITERS = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"})


def values_of(field: str) -> list[Value]:
    taken = received(message(msh("ORM^O01"), f"ZZZ|{field}"))
    return read_segments(taken.message, "|", "^~\\&", "utf-8")[1].repetitions(1)


@pytest.mark.parametrize(
    ("shape", "field", "name"),
    [
        # The suffix stands before the prefix in HL7, behind it in DICOM.
        (XPN, "DOE^JOHN^ADAM^JR^DR", "DOE^JOHN^ADAM^DR^JR"),
        (XPN, "DOE^JOHN^^JR^^MD", "DOE^JOHN^^^JR MD"),
        (XPN, "VAN DER BERG&VAN DER&BERG^ANNA", "VAN DER BERG^ANNA"),
        (XPN, "DOE", "DOE"),
        (XPN, "^JOHN", "^JOHN"),
        (XPN, '""^JOHN', "^JOHN"),
        (XPN, "MAIDEN^JANE^^^^^M~DOE^JANE^^^^^L", "DOE^JANE"),
        (XPN, "DOE^JANE~ALIAS^JANE^^^^^A", "DOE^JANE"),
        (
            XPN,
            "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (XPN, "山田^太郎^^^^^L^I~ﾔﾏﾀﾞ^ﾀﾛｳ^^^^^L^P", "=山田^太郎=ﾔﾏﾀﾞ^ﾀﾛｳ"),
        (XPN, "A\\S\\B=C\\E\\D^E", "A B C D^E"),
        (XCN, "0815^WELBY^MARCUS^M^III^DR^MD", "WELBY^MARCUS^M^DR^III MD"),
        (XCN, "0815^WELBY^MARCUS~0816^KILDARE^JAMES", "WELBY^MARCUS"),
        (XCN, "0815", ""),
        (CNN, "0815^WELBY^MARCUS^M^III^DR^MD", "WELBY^MARCUS^M^DR^III MD"),
    ],
)
def test_names_become_those_of_dicom(shape: Shape, field: str, name: str) -> None:
    assert person_name(values_of(field), shape) == name


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])), min_size=1, max_size=8))
def test_no_name_forges_components_groups_or_values(parts: list[str]) -> None:
    field = "^".join(part.translate(DELIMITERS) for part in parts)
    values = values_of(field)
    if not values:
        return
    name = person_name(values, XPN)
    assert "\\" not in name
    groups = name.split("=")
    assert len(groups) <= 3
    assert all(len(group) <= 64 and group.count("^") <= 4 for group in groups)


@given(st.sampled_from(("AE", "CS", "SH", "LO", "LT", "ST", "UT")), st.text(max_size=200))
def test_texts_fit_their_value_representation(vr: str, text: str) -> None:
    value = fit(vr, text * 200 if vr in ("ST", "LT") else text)
    assert len(value) <= MAXIMUM_CHARACTERS[vr]
    assert "\0" not in value
    value.encode()
    if vr not in ("LT", "ST", "UT"):
        assert "\\" not in value and "\n" not in value and value == value.strip()
    assert fit(vr, value) == value


def test_texts_are_cut_on_characters() -> None:
    assert fit("SH", "Übermäßig großes Gerät") == "Übermäßig großes"
    assert fit("SH", "漢" * 20) == "漢" * 16
    assert fit("LO", "é" * 70) == "é" * 64


def test_lines_remain_where_dicom_has_them() -> None:
    assert fit("LT", "one\ntwo\r\nthree\r") == "one\r\ntwo\r\nthree"
    assert fit("LO", "one\r\ntwo\\three") == "one two three"


@pytest.mark.parametrize(
    ("text", "number"),
    [("70", 70), ("70.5 kg", 70.5), ("70,5", 70.5), (" +1.", 1), (".5", 0.5), ("", None), ("kg", None), ("1e9", 1)],
)
def test_numbers_are_forgiven_their_units(text: str, number: float | None) -> None:
    assert decimal_number(text) == number


@pytest.mark.parametrize(("text", "is_one"), [("1.2.3", True), ("1", False), ("1..2", False), ("1." * 40, False)])
def test_uids_are_told_from_other_texts(text: str, is_one: bool) -> None:
    assert is_uid(text) is is_one


@pytest.mark.parametrize(
    ("text", "date", "time", "offset"),
    [
        ("20260302", "20260302", "", ""),
        ("202603020930", "20260302", "093000", ""),
        ("20260302093015.25+0130", "20260302", "093015.25", "+0130"),
        ("20260302093015-0500", "20260302", "093015", "-0500"),
        ("2026030224", None, None, None),
        ("20260230", None, None, None),
        ("20260302093060", "20260302", "093059", ""),
        ("2026", "", "", ""),
        ("202603", "", "", ""),
        ("0000", None, None, None),
        ("20260302+9900", None, None, None),
        ("tomorrow", None, None, None),
        ("", None, None, None),
    ],
)
def test_timestamps_become_dates_and_times(text: str, date: str | None, time: str | None, offset: str | None) -> None:
    stamp = parse(text)
    assert (stamp and (stamp.date, stamp.time, stamp.offset_text)) == (None if date is None else (date, time, offset))


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.integers(-13 * 60, 13 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_moment_is_the_same_in_every_time_zone(moment: datetime, zone: timezone) -> None:
    here = moment.replace(tzinfo=zone)
    one = parse(here.strftime("%Y%m%d%H%M%S.%f%z"))
    other = parse(here.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f%z")) if moment.year < 2100 else one
    assert one is not None and other is not None
    assert one.instants(None) == other.instants(None)
    there = one.in_zone(ZoneInfo("Asia/Tokyo"))
    assert there.offset_text in ("+0900", "+1000", "+0918")
    assert times.period("DA", one.date) and times.period("TM", one.time)


@given(st.text("0123456789+-.", max_size=30))
def test_no_text_breaks_the_timestamps(text: str) -> None:
    stamp = parse(text)
    if stamp is not None:
        first, last = stamp.instants(None)
        assert first <= last
        assert not stamp.date or times.period("DA", stamp.date)
        assert not stamp.time or times.period("TM", stamp.time)


def test_a_clock_without_a_zone_is_read_in_that_of_the_site() -> None:
    stamp = parse("20260701120000")
    assert stamp is not None
    assert stamp.instants(ZoneInfo("Europe/Paris"))[0] == stamp.instants(UTC)[0] - 2 * 3600 * 10**6
