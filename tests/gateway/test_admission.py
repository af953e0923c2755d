"""Admission: what Orthanc's options allow to whom, compared with Orthanc's own SCP."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission, Refusal, Verb, is_ae_title
from gateway.config import parse
from tests.conftest import MakeOrthanc
from tests.support.dcmtk import echoscu, storescu
from tests.support.images import make_ct


def admission(**options: Any) -> Admission:
    return Admission(parse(options, Path("/")))


def modality(aet: str = "MODALITY", **permissions: bool) -> dict[str, Any]:
    return {"AET": aet, "Host": "192.0.2.1", "Port": 104, **permissions}


NOBODY = {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False}


def test_by_default_everybody_may_echo_and_store_to_any_called_ae_title() -> None:
    everybody = admission()
    assert everybody.reject("ANY", "THING") is None
    assert everybody.allows("ANY", Verb.ECHO)
    assert everybody.allows("ANY", Verb.STORE)


@pytest.mark.parametrize(
    ("strict", "called", "accepted"),
    [
        (False, "GATE", True),
        (False, "gate", True),
        (False, "OTHER", False),
        (True, "GATE", True),
        (True, "gate", False),
    ],
)
def test_called_ae_title_is_compared_if_it_is_to_be_checked(strict: bool, called: str, accepted: bool) -> None:
    checking = admission(DicomAet="GATE", DicomCheckCalledAet=True, StrictAetComparison=strict)
    rejection = checking.reject("ANY", called)
    assert (rejection is None) == accepted
    if rejection is not None:
        assert rejection.refusal is Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED
        assert rejection.refusal.value == (1, 7)
        assert "DicomCheckCalledAet" in rejection.explanation
        assert "GATE" in rejection.explanation
    assert admission(DicomAet="GATE").reject("ANY", called) is None


@pytest.mark.parametrize("title", ["", "A" * 17, "A\\B", "A\nB", "Ä", "A\x7f"])
def test_titles_that_are_none_are_rejected(title: str) -> None:
    calling, called = admission().reject(title, "ORTHANC"), admission().reject("MODALITY", title)
    assert calling is not None
    assert calling.refusal is Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED
    assert called is not None
    assert called.refusal is Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\"), min_size=1, max_size=16))
def test_printable_ascii_is_a_title(title: str) -> None:
    assert is_ae_title(title)


def test_strangers_are_rejected_if_nothing_is_allowed_to_everybody() -> None:
    strict = admission(**NOBODY, DicomModalities={"m": modality()})
    rejection = strict.reject("STRANGER", "ORTHANC")
    assert rejection is not None
    assert rejection.refusal is Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED
    assert strict.reject("MODALITY", "ORTHANC") is None
    assert strict.reject("modality", "ORTHANC") is None
    for verb in Verb:
        assert strict.allows("MODALITY", verb)
        assert not strict.allows("STRANGER", verb)


def test_titles_of_modalities_are_compared_exactly_if_told_so() -> None:
    strict = admission(**NOBODY, StrictAetComparison=True, DicomModalities={"m": modality()})
    assert strict.allows("MODALITY", Verb.STORE)
    assert not strict.allows("modality", Verb.STORE)
    assert strict.reject("modality", "ORTHANC") is not None


def test_of_several_entries_with_one_title_all_must_allow() -> None:
    entries = {"one": modality(), "two": modality(AllowStore=False)}
    several = admission(**NOBODY, DicomModalities=entries)
    assert several.allows("MODALITY", Verb.ECHO)
    assert not several.allows("MODALITY", Verb.STORE)


def test_log_names_the_option_that_would_help() -> None:
    one = admission(**NOBODY, DicomModalities={"m": modality(AllowStore=False)})
    assert "AllowStore" in one.option_for("MODALITY", Verb.STORE)
    assert "DicomAlwaysAllowStore" in one.option_for("STRANGER", Verb.STORE)
    assert "DicomAlwaysAllowEcho" in one.option_for("STRANGER", Verb.ECHO)


@pytest.mark.integration
@pytest.mark.parametrize(("always", "allow"), list(product([True, False], repeat=2)))
def test_permissions_are_those_of_orthancs_own_scp(
    make_orthanc: MakeOrthanc, tmp_path: Path, always: bool, allow: bool
) -> None:
    make_ct(tmp_path / "ct.dcm", 16, 16, seed=1)
    options = {
        "DicomAlwaysAllowEcho": always,
        "DicomAlwaysAllowStore": always,
        "DicomModalities": {"m": modality(AllowEcho=allow, AllowStore=allow)},
    }
    ours = admission(**options)
    server = make_orthanc(dicom_server=True, **options)
    server.start()
    for calling in ("MODALITY", "modality", "STRANGER"):
        accepted = ours.reject(calling, "ORTHANC") is None
        answer = echoscu(server.dicom_port, calling=calling)
        echo = "Received Echo Response (Success)" in answer.stdout + answer.stderr  # the status is 0 after an abort
        assert echo == (accepted and ours.allows(calling, Verb.ECHO)), calling
        store = storescu(server.dicom_port, [tmp_path / "ct.dcm"], calling=calling).returncode == 0
        assert store == (accepted and ours.allows(calling, Verb.STORE)), calling
