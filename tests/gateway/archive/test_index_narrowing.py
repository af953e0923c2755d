"""What the query index finds: never fewer entities than match. No Orthanc: resources as it describes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gateway.archive.index.file import IndexFile
from gateway.archive.index.narrowing import narrow
from gateway.archive.interface import Level, Query
from gateway.archive.orthanc_resources import Resource
from gateway.matching.attributes import Element, vr_of
from gateway.matching.keys import InvalidQuery, Key
from gateway.matching.matcher import Matcher

NAME, PATIENT_ID, BIRTH_DATE = 0x00100010, 0x00100020, 0x00100030
STUDY_UID, ACCESSION, DATE, DESCRIPTION = 0x0020000D, 0x00080050, 0x00080020, 0x00081030
SERIES_UID, MODALITY, SOP_UID = 0x0020000E, 0x00080060, 0x00080018

PIECES = st.sampled_from(["A", "a", "Ä", "ß", "B", "1", " ", "^", "=", "\\", "太", "\ud800", "'", "%", "_"])
TEXT = st.text(PIECES, max_size=6)
DATES = st.sampled_from(["20240101", "20240102", "2024.01.02", "202401", "2024", "tomorrow", "", "20231231"])
DATE_KEYS = st.sampled_from(["20240101", "20240101-20240102", "20240102-", "-20240101", "202401", "20240101\\20240102"])
PATTERN = st.text(st.one_of(PIECES, st.sampled_from("*?")), max_size=6)
VALUES = {NAME: TEXT, PATIENT_ID: TEXT, ACCESSION: TEXT, STUDY_UID: TEXT, DATE: DATES, MODALITY: TEXT, SERIES_UID: TEXT}


def resources(values: dict[int, str]) -> tuple[Resource, Resource]:
    def tags(*wanted: int) -> dict[str, str]:
        return {f"{tag >> 16:04x},{tag & 0xFFFF:04x}": values[tag] for tag in wanted}

    study = {
        "ID": "study",
        "ParentPatient": "patient",
        "MainDicomTags": tags(STUDY_UID, ACCESSION, DATE),
        "PatientMainDicomTags": tags(NAME, PATIENT_ID),
    }
    return study, {"ID": "series", "ParentStudy": "study", "MainDicomTags": tags(SERIES_UID, MODALITY)}


@pytest.fixture(scope="module")
def file() -> Iterator[IndexFile]:
    with TemporaryDirectory() as folder:
        file = IndexFile(Path(folder) / "index")
        yield file
        file.close()


@st.composite
def keys_for(draw: st.DrawFn, values: dict[int, str]) -> dict[int, str]:
    """Keys of which many match: a value with wildcards in it, in another case, with blanks around it."""

    def disguised(value: str) -> str:
        characters = [draw(st.sampled_from([character] * 4 + ["*", "?"])) for character in value]
        return draw(st.sampled_from(["", " "])) + draw(st.sampled_from([str, str.lower]))("".join(characters))

    tags = draw(st.lists(st.sampled_from([*VALUES]), min_size=1, max_size=3, unique=True))
    return {
        tag: draw(DATE_KEYS if tag == DATE else st.one_of(st.just(values[tag]), PATTERN))
        if draw(st.booleans())
        else disguised(values[tag])
        for tag in tags
    }


@settings(max_examples=1000, deadline=None)
@given(st.data(), st.fixed_dictionaries(VALUES), st.sampled_from([None, None, "LO", "PN", "UI"]))
def test_what_matches_is_found(file: IndexFile, data: st.DataObject, values: dict[int, str], vr: str | None) -> None:
    wanted = data.draw(keys_for(values))
    query = Query(Level.SERIES, tuple(Key(tag, vr or vr_of(tag), value) for tag, value in wanted.items()))
    try:
        matcher = Matcher(query.keys)
    except InvalidQuery:
        return
    narrowing = narrow(query)
    event("Orthanc is asked" if narrowing is None else "looked up")
    study, series = resources(values)
    with file.transaction(writes=True):
        file.clear()
        file.put([study], [series])
        found = file.find(narrowing) if narrowing is not None else ["series"]
    if matcher.matches({tag: Element(vr_of(tag), value) for tag, value in values.items() if value}):
        event("matches")
        assert found == ["series"]


@given(before=st.fixed_dictionaries(VALUES), after=st.fixed_dictionaries(VALUES))
def test_what_is_put_again_is_found_by_its_new_values(
    file: IndexFile, before: dict[int, str], after: dict[int, str]
) -> None:
    query = Query(Level.SERIES, tuple(Key(tag, vr_of(tag), value) for tag, value in after.items() if tag != DATE))
    narrowing = narrow(query)
    with file.transaction(writes=True):
        file.clear()
        for values in (before, after):
            study, series = resources(values)
            file.put([study], [series])
        if narrowing is not None:
            assert file.find(narrowing) == ["series"]


def key(tag: int, value: str = "", vr: str = "") -> Key:
    return Key(tag, vr or vr_of(tag), value)


@pytest.mark.parametrize(
    ("level", "keys", "count", "is_complete"),
    [
        (Level.STUDY, [key(PATIENT_ID, "X")], 1, True),
        (Level.STUDY, [key(PATIENT_ID), key(NAME, "*")], 0, True),
        (Level.STUDY, [key(NAME, "SMI*"), key(DATE, "20240101")], 2, True),
        (Level.STUDY, [key(NAME, "SMI*"), key(DESCRIPTION, "X")], 1, False),
        (Level.STUDY, [key(0x00080061, "CT\\MR")], 1, True),
        (Level.PATIENT, [key(PATIENT_ID, "A*\\B")], 1, True),
        (Level.IMAGE, [key(STUDY_UID, "1.2"), key(SOP_UID, "1.3")], 1, True),
    ],
)
def test_what_is_looked_up(level: Level, keys: list[Key], count: int, is_complete: bool) -> None:
    narrowing = narrow(Query(level, tuple(keys)))
    assert narrowing is not None
    assert (len(narrowing.conditions), narrowing.is_complete) == (count, is_complete)


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        (Level.STUDY, [key(DESCRIPTION, "Head*")]),
        (Level.PATIENT, [key(BIRTH_DATE, "19600101")]),
        (Level.STUDY, [key(PATIENT_ID, "*X")]),
        (Level.STUDY, [key(PATIENT_ID, "X", vr="PN")]),
        (Level.SERIES, [key(SERIES_UID)]),
        (Level.IMAGE, [key(SOP_UID, "1.2")]),
    ],
)
def test_what_orthanc_narrows_down_better(level: Level, keys: list[Key]) -> None:
    assert narrow(Query(level, tuple(keys))) is None
