"""Reading STOW-RS answers: both models, and what servers and others make of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forwarding.stow_answer import StowAnswer, parse_answer
from gateway.forwarding.stow_verdicts import judge_failure
from gateway.forwarding.verdicts import Verdict
from tests.support.stow_origin import stow_json, stow_xml

NOTHING = StowAnswer()


@pytest.mark.parametrize("write", [stow_json, stow_xml])
def test_outcomes_are_read_from_both_models(write: object) -> None:
    body = write(["1.1", "1.2"], {"1.3": 0x0110, "1.4": None})  # type: ignore[operator]
    assert parse_answer(body) == StowAnswer(frozenset({"1.1", "1.2"}), {"1.3": 0x0110, "1.4": None})


def test_an_instance_in_both_sequences_has_failed() -> None:
    assert parse_answer(stow_json(["1.1"], {"1.1": 0xC000})) == StowAnswer(frozenset(), {"1.1": 0xC000})


def test_an_array_of_data_sets_is_read() -> None:
    both = [json.loads(stow_json(["1.1"])), json.loads(stow_json([], {"1.2": 1}))]
    assert parse_answer(json.dumps(both).encode()) == StowAnswer(frozenset({"1.1"}), {"1.2": 1})


@pytest.mark.parametrize(
    ("reason", "number"),
    [("272", 272), (" 272 ", 272), (272.0, 272), ("x", None), ([], None), (True, 1), ("9" * 99, 999999999)],
)
def test_failure_reasons_are_numbers_or_their_text(reason: object, number: int | None) -> None:
    item = {"00081155": {"Value": ["1.1\0"]}, "00081197": {"Value": [reason]}}
    assert parse_answer(json.dumps({"00081198": {"Value": [item]}}).encode()).failed == {"1.1": number}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<",
        b"<html>",
        b"<html><body>welcome</body></html>",
        b'"stored"',
        b'{"00081199": {"Value": "1.1"}}',
        b'{"00081199": {"Value": [null, 1, {"00081155": {"Value": [1]}}]}}',
        b'{"00081199": null}',
        b"[" * 1_000_000,
        b"<a>" * 1_000_000,
        b'<?xml version="1.0" encoding="nothing"?><a/>',
        b'<!DOCTYPE a [<!ENTITY b "1.1">]><NativeDicomModel><DicomAttribute tag="00081199"><Item>'
        b'<DicomAttribute tag="00081155"><Value>&b;</Value></DicomAttribute></Item></DicomAttribute>'
        b"</NativeDicomModel>",
    ],
)
def test_what_is_no_answer_says_nothing(body: bytes) -> None:
    assert parse_answer(body) == NOTHING


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | st.from_type(bytes).map(lambda b: b"<" + b))
def test_no_answer_is_an_error(body: bytes) -> None:
    parse_answer(body)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (None, Verdict.RETRY),
        (0x0110, Verdict.RETRY),
        (0x0111, Verdict.ALREADY_STORED),
        (0x0122, Verdict.REFUSED),
        (0xA700, Verdict.RETRY),
        (0xA7FF, Verdict.RETRY),
        (0xA900, Verdict.REFUSED),
        (0xB00E, Verdict.ALREADY_STORED),
        (0xC122, Verdict.REFUSED),
        (0xCFFF, Verdict.REFUSED),
        (0xD000, Verdict.RETRY),
        (-5, Verdict.RETRY),
    ],
)
def test_failure_reasons_mean(reason: int | None, verdict: Verdict) -> None:
    assert judge_failure(reason).verdict is verdict
