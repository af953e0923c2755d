"""Identifiers decoded, answers encoded, and what a peer may do to the reader."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from gateway.dicom.character_sets import ORTHANC_ENCODINGS, UTF_8, CharacterSet, of_orthanc
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Element
from gateway.matching.identifier import MAXIMUM_VALUES, key_of, read_keys
from gateway.matching.keys import InvalidQuery, Key
from tests.support.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT, SYNTAXES, element, encode, item, sequence

LATIN_1 = of_orthanc("Latin1")
NAME, CREATOR, PRIVATE = 0x0010_0010, 0x0009_0010, 0x0009_1001


def identifier() -> Dataset:
    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.QueryRetrieveLevel = "STUDY"
    data_set.PatientName = "Müller^山"
    data_set.Rows = 512
    data_set.FrameIncrementPointer = 0x00181063
    data_set.PixelSpacing = ["0.5", "0.5"]
    data_set.RequestAttributesSequence = [Dataset()]
    data_set.RequestAttributesSequence[0].ScheduledProcedureStepID = "É"
    data_set.add_new(CREATOR, "LO", "ACME")
    data_set.add_new(PRIVATE, "LO", "x")
    return data_set


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_keys_are_read_in_every_transfer_syntax(syntax: str) -> None:
    keys = {key.tag: key for key in read_keys(encode(identifier(), syntax), syntax, LATIN_1)}
    assert keys[NAME].value.strip() == "Müller^山"
    assert keys[0x0028_0010].values == ("512",)
    assert keys[0x0028_0009].values == ("00181063",)
    assert keys[0x0028_0030].values == ("0.5", "0.5")
    assert keys[0x0040_0275].items[0].values == ("É",)
    assert keys[PRIVATE].creator == "ACME"


def test_text_without_character_set_is_in_the_default_encoding() -> None:
    data = element(NAME, "PN", b"M\xfcller")
    assert read_keys(data, EXPLICIT, LATIN_1)[0].value == "Müller"
    assert read_keys(data, EXPLICIT, of_orthanc("Greek"))[0].value == "Mόller"


@pytest.mark.parametrize(
    "data",
    [
        b"\x10",
        element(NAME, "PN", b"x", length=2),
        element(NAME, "  ", b"xx"),
        element(0x0028_0010, "US", b"xxx"),
        sequence(0x0040_0275, item() + item()),
        sequence(0x0040_0275, element(NAME, "PN", b"xx")),
        element(0x0040_0275, "SQ", length=100),
    ],
)
def test_broken_identifiers_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidQuery):
        read_keys(data, EXPLICIT, LATIN_1)


def test_nesting_and_number_of_keys_are_bounded() -> None:
    nested = b""
    for _ in range(5000):
        nested = element(0x0040_0275, "SQ", length=0xFFFFFFFF) + element(0xFFFEE000, "", length=0xFFFFFFFF) + nested
        if len(nested) > 100_000:
            break
    with pytest.raises(InvalidQuery, match="nested"):
        read_keys(nested, EXPLICIT, LATIN_1)
    with pytest.raises(InvalidQuery, match="more than"):
        read_keys(element(NAME, "PN") * 10_000, EXPLICIT, LATIN_1)


def test_lists_are_long_for_uids_only() -> None:
    def encoded(tag: int, value: str) -> bytes:
        values = "\\".join([value] * (MAXIMUM_VALUES + 1)).encode()
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(values)) + values

    (uids,) = read_keys(encoded(0x0020_000D, "1.2"), IMPLICIT, LATIN_1)
    assert len(uids.values) == MAXIMUM_VALUES + 1
    with pytest.raises(InvalidQuery, match="values besides UIDs"):
        read_keys(encoded(0x0010_0020, "P"), IMPLICIT, LATIN_1)


@given(st.binary(max_size=200), st.sampled_from(SYNTAXES))
def test_any_bytes_are_read_or_refused(data: bytes, syntax: str) -> None:
    with contextlib.suppress(InvalidQuery):
        read_keys(data, syntax, LATIN_1)


def decode(data: bytes, syntax: str) -> Dataset:
    read = read_dataset(BytesIO(data), syntax == IMPLICIT, syntax != BIG_ENDIAN)
    read.decode()
    return read


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_answers_hold_what_was_asked_for_and_empty_what_is_missing(syntax: str) -> None:
    keys = read_keys(encode(identifier(), syntax), syntax, LATIN_1)
    attributes = {
        0x0008_0052: Element("CS", "STUDY"),
        NAME: Element("PN", "Müller^J"),
        0x0028_0010: Element("US", "7"),
        0x0028_0009: Element("AT", "00181063"),
        0x0040_0275: Element("SQ", ({0x0040_0009: Element("SH", "a"), 0x0040_1001: Element("SH", "b")},)),
        CREATOR: Element("LO", "ACME"),
        PRIVATE: Element("LO", "p"),
        0x0008_0060: Element("CS", "CT"),
    }
    answer = decode(AnswerEncoder(keys, syntax, LATIN_1).encode(attributes), syntax)
    assert answer.SpecificCharacterSet == "ISO_IR 100"
    assert (answer.PatientName, answer.Rows, answer.FrameIncrementPointer) == ("Müller^J", 7, 0x00181063)
    assert answer.PixelSpacing is None
    assert answer.RequestAttributesSequence[0].ScheduledProcedureStepID == "a"
    assert len(answer.RequestAttributesSequence[0]) == 1
    assert answer[PRIVATE].value in ("p", b"p ")
    assert "Modality" not in answer


def test_what_the_default_encoding_cannot_hold_is_answered_in_utf_8() -> None:
    encoder = AnswerEncoder((Key(NAME, "PN"),), EXPLICIT, LATIN_1)
    assert decode(encoder.encode({NAME: Element("PN", "Müller")}), EXPLICIT).SpecificCharacterSet == "ISO_IR 100"
    answer = decode(encoder.encode({NAME: Element("PN", "山田")}), EXPLICIT)
    assert (answer.SpecificCharacterSet, answer.PatientName) == ("ISO_IR 192", "山田")


TEXTS = [
    "ABC",
    "Müller",
    "Čapek",
    "Ħal",
    "Ķ",
    "Ş",
    "Люкceмбypг",
    "قباني",
    "Διονυσιος",
    "שרון",
    "นาม",
    "ﾔﾏﾀﾞ",
    "山田",
    "김희중",
    "王小东",
]


@pytest.mark.parametrize("name", ORTHANC_ENCODINGS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_encoding_of_orthanc_returns_the_text_or_says_that_it_cannot(name: str, text: str) -> None:
    character_set = of_orthanc(name)
    data = character_set.encode(text)
    assert data is None or character_set.decode(data, "PN") == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *zip(list(ORTHANC_ENCODINGS)[2:8], TEXTS[1:7], strict=True),
        ("Arabic", "قباني"),
        ("Greek", "Διονυσιος"),
        ("Hebrew", "שרון"),
        ("Thai", "นาม"),
        ("Japanese", "ﾔﾏﾀﾞ"),
        ("JapaneseKanji", "山田"),
        ("Korean", "김희중"),
        ("Chinese", "王小东"),
        ("Utf8", "王小东"),
        ("Ascii", "ABC"),
    ],
)
def test_every_encoding_of_orthanc_holds_its_own_script(name: str, text: str) -> None:
    assert of_orthanc(name).encode(text) is not None


def test_character_sets_that_do_not_exist_do_no_harm() -> None:
    assert CharacterSet(("zlib_codec",)).decode("Müller".encode(), "PN") == "Müller"
    assert CharacterSet(("ISO-IR 100",)).decode(b"M\xfcller", "PN") == "Müller"
    assert CharacterSet(("", "ISO 2022 IR 87")).encode("Müller") is None
    assert UTF_8.encode("\ud800") is None
    assert key_of((), NAME) is None


def test_a_key_is_compared_as_what_its_attribute_is() -> None:
    data = element(NAME, "LO", b"doe*") + element(0x0008_0020, "UN", b"2024") + element(PRIVATE, "LO", b"x ")
    assert [key.vr for key in read_keys(data, EXPLICIT, LATIN_1)] == ["PN", "DA", "LO"]


def test_answers_have_no_group_that_a_data_set_does_not_have() -> None:
    asked = (0x0002_0010, 0x0004_1500, 0x0010_0000, NAME, 0xFFFC_FFFC)
    answer = AnswerEncoder(tuple(Key(tag, "UN") for tag in asked), EXPLICIT, LATIN_1).encode({})
    assert [key.tag for key in read_keys(answer, EXPLICIT, LATIN_1)] == [0x0008_0005, NAME]
