"""In which character set a modality gets the worklist, to the byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset

from tests.scp.conftest import Log, StartGateway
from tests.support.data_sets import element
from tests.support.standalone import Gateway
from tests.support.worklist_queries import WorklistQuerier, add_items, an_item, nested

NAME = 0x00100010
NAMES = {
    "ASCII": "Doe^John",
    "LATIN1": "Müller^Jörg",
    "LATIN2": "Żółć^Łukasz",
    "CYRILLIC": "Иванов^Иван",
    "GREEK": "Παπαδόπουλος^Νίκος",
    "JAPANESE": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "KOREAN": "Hong^Gildong=洪^吉洞=홍^길동",
    "CHINESE": "Wang^XiaoDong=王^小东",
}


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Gateway:
    sets = {"OLD": "Ascii", "OLDLATIN": "Latin1", "KANJI": "JapaneseKanji"}
    running = start_gateway(
        DicomGateway={"Worklist": {"CharacterSets": sets}}, DicomAlwaysAllowFindWorklist=True, DefaultEncoding="Latin1"
    )
    add_items(running, *(an_item(number, PatientID=key, PatientName=NAMES[key]) for number, key in enumerate(NAMES)))
    return running


@pytest.fixture
def querier(gateway: Gateway) -> Iterator[WorklistQuerier]:
    with WorklistQuerier(gateway.dicom_port) as peer:
        yield peer.open()


def name_bytes(answer: Dataset) -> bytes:
    return bytes(answer.get_item(NAME).value).rstrip(b" ")


def asking(key: str, character_set: str | None) -> Dataset:
    terms = character_set.split("\\") if character_set is not None else None
    return nested(PatientID=key, PatientName="", SpecificCharacterSet=terms)


@pytest.mark.parametrize(
    ("key", "requested", "said", "encoded"),
    [
        ("ASCII", None, None, b"Doe^John"),
        ("ASCII", "", None, b"Doe^John"),
        ("ASCII", "ISO_IR 101", "ISO_IR 101", b"Doe^John"),
        ("ASCII", "ISO_IR 192", "ISO_IR 192", b"Doe^John"),
        # what DefaultEncoding holds, then what one byte for each character holds
        ("LATIN1", None, "ISO_IR 100", "Müller^Jörg".encode("latin-1")),
        ("LATIN2", None, "ISO_IR 101", "Żółć^Łukasz".encode("iso8859-2")),
        ("CYRILLIC", None, "ISO_IR 144", "Иванов^Иван".encode("iso8859-5")),
        ("GREEK", None, "ISO_IR 126", "Παπαδόπουλος^Νίκος".encode("iso8859-7")),
        ("JAPANESE", None, "ISO_IR 192", NAMES["JAPANESE"].encode()),
        ("KOREAN", None, "ISO_IR 192", NAMES["KOREAN"].encode()),
        ("CHINESE", None, "ISO_IR 192", NAMES["CHINESE"].encode()),
        # what the modality asks for
        ("LATIN1", "ISO_IR 192", "ISO_IR 192", "Müller^Jörg".encode()),
        ("LATIN1", "ISO_IR 101", "ISO_IR 101", "Müller^Jörg".encode("iso8859-2")),
        # PS3.5 H.3.1, example 1
        (
            "JAPANESE",
            "\\ISO 2022 IR 87",
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        # PS3.5 I.2
        (
            "KOREAN",
            "\\ISO 2022 IR 149",
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        ),
        # PS3.5 J.3
        ("CHINESE", "GB18030", "GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
        # asked for, but it cannot hold this
        ("CYRILLIC", "ISO_IR 100", "ISO_IR 144", "Иванов^Иван".encode("iso8859-5")),
        ("KOREAN", "ISO_IR 100", "ISO_IR 192", NAMES["KOREAN"].encode()),
        ("GREEK", "\\ISO 2022 IR 87", "ISO_IR 126", "Παπαδόπουλος^Νίκος".encode("iso8859-7")),
        # misspelt, and unknown
        ("LATIN1", "ISO-IR 101", "ISO_IR 101", "Müller^Jörg".encode("iso8859-2")),
        ("LATIN1", "ISO_IR 999", "ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    ],
)
def test_answers_are_in_what_was_asked_for_or_the_smallest_set_that_holds_them(
    querier: WorklistQuerier, key: str, requested: str | None, said: str | None, encoded: bytes
) -> None:
    (answer,) = querier.find(asking(key, requested)).answers
    if said is None:
        assert "SpecificCharacterSet" not in answer  # PS3.4 C.2.2.2: never of zero length
    else:
        terms = answer.SpecificCharacterSet
        assert (terms if isinstance(terms, str) else "\\".join(terms)) == said
    assert name_bytes(answer) == encoded


def test_the_whole_answer_is_in_one_set(querier: WorklistQuerier) -> None:
    """The sequence's texts count too, and need no set of their own."""
    identifier = asking("LATIN1", None)
    (answer,) = querier.find(identifier).answers
    assert answer.SpecificCharacterSet == "ISO_IR 100"
    identifier.ScheduledProcedureStepSequence = [nested(CodeValue="")]
    (answer,) = querier.find(identifier).answers
    assert "SpecificCharacterSet" not in answer.ScheduledProcedureStepSequence[0]


@pytest.mark.parametrize(
    ("calling", "key", "said", "encoded", "is_replaced"),
    [
        ("OLD", "ASCII", None, b"Doe^John", False),
        ("OLD", "LATIN1", None, b"M?ller^J?rg", True),
        ("OLD", "CYRILLIC", None, b"??????^????", True),
        # ideographic and phonetic groups say the same again: they are left out
        ("OLD", "JAPANESE", None, b"Yamada^Tarou", True),
        ("OLDLATIN", "LATIN1", "ISO_IR 100", "Müller^Jörg".encode("latin-1"), False),
        ("oldlatin", "LATIN2", "ISO_IR 100", "?ó??^?ukasz".encode("latin-1"), True),
        ("KANJI", "ASCII", "\\ISO 2022 IR 87", b"Doe^John", False),
        ("KANJI", "KOREAN", "\\ISO 2022 IR 87", b"Hong^Gildong=\x1b$B9?\x1b(B^\x1b$B5HF6\x1b(B", True),
    ],
)
def test_a_set_that_is_configured_is_forced(
    gateway: Gateway, calling: str, key: str, said: str | None, encoded: bytes, is_replaced: bool
) -> None:
    log = Log(gateway)
    with WorklistQuerier(gateway.dicom_port) as peer:
        (answer,) = peer.open(calling=calling).find(asking(key, "ISO_IR 192")).answers
    terms = answer.get("SpecificCharacterSet")
    assert (terms if terms is None or isinstance(terms, str) else "\\".join(terms)) == said
    assert name_bytes(answer) == encoded
    log.expect("C-FIND answered", f"calling={calling}")
    replaced = "replaced by question marks" in gateway.log_text()[log._start :]
    assert replaced is is_replaced


def test_what_a_modality_types_is_read_in_its_own_set(gateway: Gateway) -> None:
    for calling, character_set, typed in (
        ("FINDER", "ISO_IR 192", "мв*".upper()),
        ("FINDER", "ISO_IR 144", "ИВАНОВ*"),
        ("FINDER", "ISO_IR 144", "иванов^ИВАН"),
        ("FINDER", "\\ISO 2022 IR 87", "*=山田*"),
    ):
        expected = {"И": "CYRILLIC", "и": "CYRILLIC", "*": "JAPANESE"}.get(typed[0])
        with WorklistQuerier(gateway.dicom_port) as peer:
            identifier = nested(PatientID="", PatientName="")
            identifier.SpecificCharacterSet = character_set.split("\\")
            identifier.PatientName = typed
            found = peer.open(calling=calling).find(identifier).values("PatientID")
        assert found == ([expected] if expected else [])


def test_a_query_without_a_character_set_is_read_in_the_forced_or_the_default_one(gateway: Gateway) -> None:
    for calling in ("FINDER", "OLDLATIN"):
        with WorklistQuerier(gateway.dicom_port) as peer:
            data = element(NAME, "PN", "müller*".encode("latin-1") + b" ") + element(0x00100020, "LO")
            assert peer.open(calling=calling).find(data).values("PatientID") == ["LATIN1"]
