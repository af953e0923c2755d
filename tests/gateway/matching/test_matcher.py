"""Matching of PS3.4 C.2.2.2, and the same against a slow and obvious oracle."""

from __future__ import annotations

import time
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.matching.attributes import Attributes, Element
from gateway.matching.keys import InvalidQuery, Key
from gateway.matching.matcher import Matcher

TAG = 0x0008_0050
OTHER = 0x0020_0010


def matches(vr: str, key: str, stored: str | None, *, case_sensitive_pn: bool = False) -> bool:
    attributes = {} if stored is None else {TAG: Element(vr, stored)}
    return Matcher([Key(TAG, vr, key)], case_sensitive_pn=case_sensitive_pn).matches(attributes)


@pytest.mark.parametrize(
    ("vr", "key", "stored", "expected"),
    [
        ("SH", "A1", "A1", True),
        ("SH", "A1", "A1 ", True),
        ("SH", " A1", "A1", True),
        ("SH", "a1", "A1", False),
        ("SH", "A1", "A12", False),
        ("SH", "", "A1", True),
        ("SH", "", None, True),
        ("SH", "*", None, True),
        ("SH", "A1", None, False),
        ("SH", "A1", "", False),
        ("SH", "?*", "", False),
        ("SH", "A*", "A", True),
        ("SH", "A?", "A", False),
        ("SH", "*1", "A11", True),
        ("SH", "A[1]*", "A[1]x", True),
        ("SH", "A[1]*", "A1x", False),
        ("SH", "A1\\B2", "B2", True),
        ("SH", "A1\\B*", "B2", True),
        ("SH", "A1\\B2", "C3", False),
        ("CS", "PRIMARY", "ORIGINAL\\PRIMARY\\AXIAL", True),
        ("CS", "PRIMAR", "ORIGINAL\\PRIMARY", False),
        ("LT", "a\\b", "a\\b", True),
        ("LT", "a", "a\\b", False),
        ("UI", "1.2.3", "1.2.3", True),
        ("UI", "1.2.3\\1.2.4", "1.2.4", True),
        ("UI", "1.2.3", "1.2.34", False),
        ("UI", "*", "1.2", True),
        ("IS", "1", "001", True),
        ("IS", "1", "+1", True),
        ("IS", "20240101", "20240102", False),
        ("UL", "4294967295", "4294967294", False),
        ("DS", "1.50", "1.5\\2", True),
        ("DS", "0.33333334", "0.33333333", True),
        ("US", "512", "512", True),
        ("US", "512", "5120", False),
        ("DA", "20240102", "20240102", True),
        ("DA", "20240102", "2024.01.02", True),
        ("DA", "20240102", "20240103", False),
        ("DA", "20240102-", "20240102", True),
        ("DA", "-20240102", "20240102", True),
        ("DA", "-20240102", "20240103", False),
        ("DA", "20240101-20240131", "20240115", True),
        ("DA", "202401-202402", "20240229", True),
        ("DA", "20240102", "yesterday", False),
        ("DA", "20240102\\20240104", "20240104", True),
        ("DA", "-", None, True),
        ("DA", "-\\-", "20240102", True),
        ("DA", "20240201-20240231", "20240229", True),
        ("DA", "20240201-20240231", "20240301", False),
        ("DA", "20240200-20240299", "20240201", True),
        ("DA", "00000000-99999999", "99991231", True),
        ("DA", "00000000-99999999", "00010101", True),
        ("TM", "-", None, True),
        ("TM", "000000-240000", "235959.999999", True),
        ("TM", "12:00-24:00", "115959", False),
        ("DT", "-", None, True),
        ("TM", "1011", "101112.5", True),
        ("TM", "1011", "101200", False),
        ("TM", "10:11", "101159.999999", True),
        ("TM", "1011-1012", "101259", True),
        ("TM", "1011-1012", "101300", False),
        ("TM", "-1012", "09", True),
        ("TM", "2359-", "235960", True),
        ("DT", "20240102101112", "20240102101112.25", True),
        ("DT", "2024-2025", "20250101", True),
        ("DT", "20240102120000+0200", "20240102100000+0000", True),
        ("DT", "20240102120000+0200", "20240102120000+0000", False),
        ("DT", "20240102120000+0200", "20240102120000", True),
        ("DT", "20240102120000-0500-20240102130000-0500", "20240102173000+0000", True),
        ("DT", "20240102120000-0500", "20240102120000-0500", True),
    ],
)
def test_values_match_as_their_vr_says(vr: str, key: str, stored: str | None, expected: bool) -> None:
    assert matches(vr, key, stored) is expected


@pytest.mark.parametrize(
    ("key", "stored", "expected"),
    [
        ("Doe^John", "DOE^JOHN", True),
        ("doe^john", "Doe^John^^", True),
        ("Doe^John^^^", "Doe^John", True),
        ("Doe", "Doe^John", False),
        ("Doe*", "Doe^John", True),
        ("D?e^*", "Doe^John", True),
        ("müller", "MÜLLER", True),
        ("muller", "Müller", False),
        ("STRASSE", "Straße", False),
        ("yamada^tarou", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("山田*", "Yamada^Tarou=山田^太郎", True),
        ("=山田^太郎", "Yamada^Tarou=山田^太郎", True),
        ("=山田^太郎", "山田^太郎", False),
        ("Yamada*=田中*", "Yamada^Tarou=山田^太郎", False),
        ("Doe ^ John", "Doe^John", True),
    ],
)
def test_person_names_match_by_component_groups(key: str, stored: str, expected: bool) -> None:
    assert matches("PN", key, stored) is expected


def test_case_of_names_counts_where_orthanc_is_told_so() -> None:
    assert not matches("PN", "doe^john", "Doe^John", case_sensitive_pn=True)
    assert matches("PN", "Doe^J*", "Doe^John", case_sensitive_pn=True)


@pytest.mark.parametrize(
    ("vr", "key"),
    [
        ("DA", "2024*"),
        ("DA", "20241301"),
        ("DA", "A"),
        ("TM", "25"),
        ("TM", "2400"),
        ("TM", "10-2401"),
        ("DT", "2024-x"),
        ("UI", "1.2.*"),
        ("IS", "1?"),
        ("AS", "03?Y"),
    ],
)
def test_a_value_that_is_none_is_refused_with_its_tag(vr: str, key: str) -> None:
    with pytest.raises(InvalidQuery) as refusal:
        Matcher([Key(TAG, vr, key)])
    assert refusal.value.tag == TAG


def test_one_item_of_a_sequence_must_match_all_its_keys() -> None:
    key = Key(TAG, "SQ", items=(Key(OTHER, "SH", "A"), Key(TAG, "SH", "B")))

    def item(other: str, tag: str) -> Attributes:
        return {OTHER: Element("SH", other), TAG: Element("SH", tag)}

    matcher = Matcher([key])
    assert matcher.matches({TAG: Element("SQ", (item("x", "y"), item("A", "B")))})
    assert not matcher.matches({TAG: Element("SQ", (item("A", "y"), item("x", "B")))})
    assert not matcher.matches({TAG: Element("SQ", ())})
    assert not matcher.matches({})
    assert Matcher([Key(TAG, "SQ", items=(Key(OTHER, "SH"),))]).matches({})


def test_a_pattern_of_many_asterisks_costs_no_more_than_its_length() -> None:
    matcher = Matcher([Key(TAG, "UT", "*a" * 200 + "b")])
    started = time.process_time()
    assert not matcher.matches({TAG: Element("UT", "a" * 20_000)})
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("vr", "value"), [("IS", "1"), ("DA", "20240102-"), ("LO", "a*b"), ("LO", "ab")])
def test_a_list_costs_no_more_than_its_length(vr: str, value: str) -> None:
    started = time.process_time()
    assert not Matcher([Key(TAG, vr, "\\".join([value] * 20_000))]).matches({TAG: Element(vr, "0")})
    assert time.process_time() - started < 5


def glob(pattern: str, value: str) -> bool:
    """What a wildcard means, written down."""
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(glob(pattern[1:], value[start:]) for start in range(len(value) + 1))
    return bool(value) and pattern[0] in ("?", value[0]) and glob(pattern[1:], value[1:])


@given(st.text("ab*?", min_size=1, max_size=7), st.text("ab", min_size=1, max_size=8))
def test_wildcards_match_what_the_oracle_matches(pattern: str, value: str) -> None:
    expected = glob(pattern, value)
    assert matches("LO", pattern, value) is expected
    assert matches("PN", pattern, value) is expected


DAYS = st.dates(date(1900, 1, 1), date(2100, 12, 31))


@given(DAYS, DAYS, st.integers(-2, 2), st.sampled_from(["", "lower", "upper", "both"]))
def test_dates_match_ranges_as_days(lower: date, upper: date, near: int, ends: str) -> None:
    stored = (lower if ends != "upper" else upper) + timedelta(near)
    text = {
        "": f"{lower:%Y%m%d}",
        "lower": f"{lower:%Y%m%d}-",
        "upper": f"-{upper:%Y%m%d}",
        "both": f"{lower:%Y%m%d}-{upper:%Y%m%d}",
    }[ends]
    above = stored >= lower if ends != "upper" else True
    below = stored <= {"": lower, "lower": stored, "upper": upper, "both": upper}[ends]
    assert matches("DA", text, f"{stored:%Y%m%d}") is (above and below)


TIMES = st.integers(0, 24 * 3600 - 1)


def shown(seconds: int, parts: int) -> str:
    return f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"[: 2 * parts]


@given(TIMES, TIMES, TIMES, st.tuples(*[st.integers(1, 3)] * 3))
def test_times_of_any_precision_match_where_their_seconds_meet(
    lower: int, upper: int, stored: int, parts: tuple[int, int, int]
) -> None:
    step = {1: 3600, 2: 60, 3: 1}
    periods = [
        range(value // step[part] * step[part], (value // step[part] + 1) * step[part])
        for value, part in zip((lower, upper, stored), parts, strict=True)
    ]
    text = f"{shown(lower, parts[0])}-{shown(upper, parts[1])}"
    expected = periods[2][-1] >= periods[0][0] and periods[2][0] <= periods[1][-1]
    assert matches("TM", text, shown(stored, parts[2])) is expected


@given(st.lists(st.sampled_from(["1.2", "1.2.3", "1.22"]), min_size=1), st.sampled_from(["1.2", "1.2.3", "1.22", "1"]))
def test_uid_lists_match_their_members(uids: list[str], stored: str) -> None:
    assert matches("UI", "\\".join(uids), stored) is (stored in uids)
