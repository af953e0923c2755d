"""Attributes survive SQL, whatever characters are in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.database import Database
from gateway.matching.attributes import Attributes, Element
from tests.support.worklists import add, item_attributes
from worklist import store
from worklist.encoding import from_json, to_json
from worklist.items import PATIENT_ID, PATIENT_NAME, Patient

tags = st.integers(0, 0xFFFFFFFF)
vrs = st.sampled_from(["AE", "CS", "DA", "LO", "PN", "SH", "UI", "US"])
# Every code point, halves of surrogate pairs among them.
texts = st.text(st.characters(exclude_categories=()), max_size=20)


def elements(value: st.SearchStrategy[Attributes]) -> st.SearchStrategy[Element]:
    return st.builds(lambda items: Element("SQ", tuple(items)), st.lists(value, max_size=3))


attributes = st.recursive(
    st.dictionaries(tags, st.builds(Element, vrs, texts), max_size=5),
    lambda inner: st.dictionaries(tags, st.builds(Element, vrs, texts) | elements(inner), max_size=5),
    max_leaves=10,
)


@given(attributes)
def test_what_is_written_is_read(given_attributes: Attributes) -> None:
    text = to_json(given_attributes)
    assert text.isascii()
    assert from_json(text) == given_attributes


@pytest.mark.parametrize(
    "name",
    [
        "Müller^Eva",
        "Иванов^Иван",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "😀^\U0010ffff",
        "a\0b",
        "x\ud800y",
        "",
        "\\",
    ],
)
def test_any_text_is_kept_and_found(database: Database, name: str) -> None:
    added = add(database, item_attributes(PatientName=name, PatientID=name))
    with database.read() as connection:
        item = store.get(connection, added.id)
        found = store.find(connection, patient=Patient(name))
    assert item == added
    assert item.attributes[PATIENT_NAME].value == item.attributes[PATIENT_ID].value == name
    assert found == [item]
