from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dicomweb.errors import BadAnswer
from gateway.dicomweb.json_model import MAXIMUM_DATA_SET_CHARACTERS, data_sets
from gateway.matching.attributes import Element


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ({"vr": "CS", "Value": ["CT", "SR"]}, Element("CS", "CT\\SR")),
        ({"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}, Element("CS", "ORIGINAL\\\\AXIAL")),
        ({"vr": "PN", "Value": [{"Alphabetic": "A^B", "Phonetic": "p"}]}, Element("PN", "A^B==p")),
        ({"vr": "PN", "Value": [{"Alphabetic": "A^B"}, {"Ideographic": "山"}]}, Element("PN", "A^B\\=山")),
        ({"vr": "PN", "Value": ["A^B"]}, Element("PN", "A^B")),
        ({"vr": "IS", "Value": [3, "4", 5.0]}, Element("IS", "3\\4\\5")),
        ({"vr": "DS", "Value": [0.1, 1e-20, 1 / 3]}, Element("DS", "0.1\\1e-20\\0.333333333")),
        ({"vr": "US", "Value": [512]}, Element("US", "512")),
        ({"vr": "FD", "Value": [2.5, float("nan")]}, Element("FD", "2.5")),
        ({"vr": "LO", "Value": []}, Element("LO", "")),
        ({"vr": "LO", "Value": [True, {"x": 1}, ["y"]]}, Element("LO", "")),
        ({"vr": "LO"}, Element("LO", "")),
        ({"vr": "LO", "Value": "not a list"}, Element("LO", "not a list")),
        ({"vr": "AT", "Value": ["00100010"]}, Element("AT", "00100010")),
        ({"vr": "OB", "InlineBinary": base64.b64encode(b"\x00\xff").decode()}, Element("OB", "\x00\xff")),
        ({"vr": "OB", "InlineBinary": "?"}, Element("OB", "")),
        ({"vr": "OW", "BulkDataURI": "http://nowhere"}, Element("OW", "")),
        (
            {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["X"]}}, None, {}]},
            Element("SQ", ({0x00080100: Element("SH", "X")}, {})),
        ),
        ({"vr": "SQ"}, Element("SQ", ())),
    ],
)
def test_members(member: dict[str, Any], expected: Element) -> None:
    (found,) = data_sets([json.dumps([{"00091001": member}]).encode()])
    assert found == {0x00091001: expected}


def test_without_a_vr_the_dictionary_says_it_and_what_is_no_tag_is_passed_over() -> None:
    text = '[{"0008103e": {"Value": ["a"]}, "PatientName": {"vr": "PN"}, "00100020": 3}]'
    assert list(data_sets([text.encode()])) == [{0x0008103E: Element("LO", "a")}]


@pytest.mark.parametrize("body", [b"", b"[]", b" [ ] ", b"null", b"\xef\xbb\xbf[]"])
def test_nothing_is_nothing(body: bytes) -> None:
    assert list(data_sets([body])) == []


def test_one_data_set_without_an_array() -> None:
    assert list(data_sets([b'{"00100020": {"vr": "LO", "Value": ["1"]}}'])) == [{0x00100020: Element("LO", "1")}]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=100))
def test_data_sets_are_the_same_wherever_the_answer_is_cut(sizes: list[int]) -> None:
    values = [f"Jörg]}},{n}\\" for n in range(40)]
    whole = json.dumps([{"00100020": {"vr": "LO", "Value": [v]}} for v in values], ensure_ascii=False).encode()
    pieces, position = [], 0
    for size in sizes:
        pieces.append(whole[position : position + size])
        position += size
    found = list(data_sets([*pieces, whole[position:]]))
    assert [one[0x00100020].value for one in found] == [value.rstrip("\\") for value in values]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'[{"00100020": {"vr": "LO", "Va',
        b'[{"00100020": {"vr": "SQ", "Value": ' + b"[" * 100_000,
        b'[{"00100020": {"vr": "IS", "Value": [' + b"9" * 5000 + b"]}}]",
        b'[{"00100020": "' + b"x" * MAXIMUM_DATA_SET_CHARACTERS,
    ],
    ids=["a page", "cut off", "nested", "digits", "large"],
)
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        list(data_sets([body]))


def test_data_sets_come_before_the_answer_is_complete() -> None:
    def pieces() -> Any:
        yield b'[{"00100020": {"vr": "LO", "Value": ["1"]}},'
        raise AssertionError("asked for too early")

    assert next(data_sets(pieces()))[0x00100020].value == "1"
