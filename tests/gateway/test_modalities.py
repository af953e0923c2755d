"""The list of modalities: what Orthanc says, the file that all processes look at, and which of them counts."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.modalities import FILE_NAME, KnownModalities, ModalitiesError, configured_modalities, read_answer
from gateway.options.config import Configuration, parse
from gateway.options.orthanc import Modality
from gateway.options.orthanc_json import ConfigurationError

CT: Final = {"AET": "CT", "Host": "192.0.2.1", "Port": 104}
MR: Final = {"AET": "MR", "Host": "192.0.2.2", "Port": 104, "AllowStore": False}


def configuration(directory: Path, **options: Any) -> Configuration:
    section = {"StateDirectory": str(directory), **options.pop("DicomGateway", {})}
    return parse({"DicomModalities": {"ct": CT}, **options, "DicomGateway": section}, Path("/"))


def modality(**keys: Any) -> Modality:
    return Modality.model_validate(keys)


def test_list_is_that_of_the_configuration_until_one_is_saved(tmp_path: Path) -> None:
    known = KnownModalities(configuration(tmp_path))
    assert known.current() == {"ct": modality(**CT)}
    assert not known.is_saved
    known.save({"mr": modality(**MR)})
    assert known.current() == {"mr": modality(**MR)}
    assert known.is_saved


def test_list_is_the_same_object_until_it_changes(tmp_path: Path) -> None:
    known, other = KnownModalities(configuration(tmp_path)), KnownModalities(configuration(tmp_path))
    first = known.current()
    assert known.current() is first
    for n in range(100):  # whatever inode and time the next file gets
        other.save({"mr": modality(**{**MR, "Port": 1 + n})})
        assert known.current()["mr"].port == 1 + n
        assert known.current() is known.current()


def test_saved_list_survives_a_restart_with_the_same_configuration_only(tmp_path: Path) -> None:
    KnownModalities(configuration(tmp_path)).save({"mr": modality(**MR)})
    assert KnownModalities(configuration(tmp_path)).current() == {"mr": modality(**MR)}
    edited = KnownModalities(configuration(tmp_path, DicomModalities={"ct": {**CT, "Port": 105}}))
    assert edited.current() == {"ct": modality(**{**CT, "Port": 105})}


def test_without_refresh_a_saved_list_does_not_count(tmp_path: Path) -> None:
    KnownModalities(configuration(tmp_path)).save({"mr": modality(**MR)})
    off = KnownModalities(configuration(tmp_path, DicomGateway={"ModalitiesRefresh": 0}))
    assert off.current() == {"ct": modality(**CT)}


def test_modalities_of_the_file_do_not_count_if_they_are_in_the_database(tmp_path: Path) -> None:
    database = configuration(tmp_path, DicomModalitiesInDatabase=True)
    assert configured_modalities(database) == {}
    known = KnownModalities(database)
    assert known.current() == {}
    known.save({"mr": modality(**MR)})
    # The file's entries may change as they like.
    later = configuration(tmp_path, DicomModalitiesInDatabase=True, DicomModalities={})
    assert KnownModalities(later).current() == {"mr": modality(**MR)}


def test_modalities_in_the_database_need_the_refresh(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ModalitiesRefresh: expected more than 0 with DicomModalitiesIn"):
        configuration(tmp_path, DicomModalitiesInDatabase=True, DicomGateway={"ModalitiesRefresh": 0})


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"{}", b'{"configured": 1}', b'{"configured": null}', b"\xff"])
def test_unreadable_file_changes_nothing(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    known = KnownModalities(configuration(tmp_path))
    known.save({"mr": modality(**MR)})
    assert known.current() == {"mr": modality(**MR)}
    (tmp_path / FILE_NAME).write_bytes(content)
    before = {"ct": modality(**CT)} if b"configured" in content else {"mr": modality(**MR)}
    assert known.current() == before  # a list of another configuration is readable, and does not count
    known.save({})
    assert known.current() == {}


def test_answer_of_orthanc_says_all_and_the_file_does_not_count() -> None:
    configured = {"ct": modality(**CT, AllowEcho=False)}
    answer = {"ct": {**CT, "AllowEcho": True}, "new": ["NEW", "192.0.2.3", "104"]}
    modalities, useless = read_answer(json.dumps(answer).encode(), configured)
    assert modalities == {"ct": modality(**CT), "new": modality(AET="NEW", Host="192.0.2.3", Port=104)}
    assert useless == []


def test_what_an_older_orthanc_does_not_say_comes_from_the_file() -> None:
    configured = {"ct": modality(**CT, AllowFindWorklist=False, AllowStorageCommitment=False, AllowEcho=False)}
    modalities, _useless = read_answer(json.dumps({"ct": {**CT, "AllowEcho": True}}).encode(), configured)
    merged = modalities["ct"]
    assert merged.allow_echo
    assert not merged.allow_find_worklist
    assert not merged.allow_n_action
    assert not merged.allow_event_report


@pytest.mark.parametrize(
    "entry",
    [{**CT, "AET": title} for title in ("", "Ä", "A\nB", "A\\B", "A" * 17)] + [{}, None, 5, ["CT"], {**CT, "Port": 0}],
)
def test_entry_that_no_peer_can_have_spoils_no_other(entry: Any) -> None:
    modalities, useless = read_answer(json.dumps({"bad": entry, "ct": CT}).encode(), {})
    assert modalities == {"ct": modality(**CT)}
    assert useless == ["bad"]


@pytest.mark.parametrize("answer", [b"", b"[]", b"null", b"<html>", b'{"ct": ', b"\xff", b"[" * 100_000])
def test_answer_that_is_no_list_is_none(answer: bytes) -> None:
    with pytest.raises(ModalitiesError):
        read_answer(answer, {})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5)


@given(st.dictionaries(st.text(), st.dictionaries(st.sampled_from(sorted({*CT, "Timeout", "LocalAet"})), JSON) | JSON))
def test_any_answer_is_a_list_or_none(answer: Any) -> None:
    modalities, useless = read_answer(json.dumps(answer).encode(), {})
    assert modalities.keys() | set(useless) == answer.keys()
