"""Files as DCMTK writes them, and files that nobody should write."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dicom.character_sets import CharacterSet
from gateway.matching.attributes import Element
from tests.support.worklists import dump, write_file
from worklist.completeness import describe, missing
from worklist.files import MAXIMUM_FILE_BYTES, FileError, read_file
from worklist.items import PATIENT_NAME, keys_of, step_of

LATIN1 = CharacterSet(("ISO_IR 100",))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_file(tmp_path / "a.wl")


@pytest.mark.parametrize(
    "options", [(), ("+ti",), ("+te",), ("+tb",), ("-F",), ("-F", "+ti"), ("-g",), ("+e",), ("-e",)]
)
def test_every_encoding_of_dcmtk_is_read(tmp_path: Path, options: tuple[str, ...]) -> None:
    attributes = read_file(write_file(tmp_path / "a.wl", None, *options), LATIN1)
    assert attributes[PATIENT_NAME] == Element("PN", "DOE^JANE")
    assert step_of(attributes)[0x0040_0003] == Element("TM", "0930")
    assert missing(attributes) == ()
    assert not {tag for tag in attributes if tag in (0x0008_0005, 0x0008_0016, 0x0008_0018) or not tag & 0xFFFF}


@pytest.mark.parametrize(
    ("term", "codec", "name"),
    [
        ("ISO_IR 100", "latin-1", "Müller^Eva"),
        ("ISO_IR 101", "iso8859-2", "Łuszcz^Żaneta"),
        ("ISO_IR 144", "iso8859-5", "Иванов^Иван"),
        ("ISO_IR 192", "utf-8", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "gb18030", "Wang^XiaoDong=王^小东"),
        ("\\\\ISO 2022 IR 87", "iso2022_jp", "Yamada^Tarou=山田^太郎"),
        ("\\\\ISO 2022 IR 149", None, "Hong^Gildong=洪^吉洞"),
    ],
)
def test_text_is_unicode_whatever_it_was_encoded_in(tmp_path: Path, term: str, codec: str | None, name: str) -> None:
    # PS3.5 annex I: each part in Korean begins with its escape sequence.
    encoded = name.encode(codec) if codec else b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"
    text = dump(name="@").encode().replace(b"ISO_IR 192", term.replace("\\\\", "\\").encode()).replace(b"@", encoded)
    assert read_file(write_file(tmp_path / "a.wl", text), LATIN1)[PATIENT_NAME] == Element("PN", name)


def test_text_without_a_character_set_is_in_the_default_one(tmp_path: Path) -> None:
    text = dump(name="Müller^Eva").split("\n", 1)[1].encode("latin-1")
    assert read_file(write_file(tmp_path / "a.wl", text), LATIN1)[PATIENT_NAME].value == "Müller^Eva"


def test_several_stations_are_several_keys(tmp_path: Path) -> None:
    attributes = read_file(write_file(tmp_path / "a.wl", dump(station="CT1\\CT2")), LATIN1)
    assert keys_of(attributes).stations == ("CT1", "CT2")


def refusal(path: Path) -> str:
    with pytest.raises(FileError) as caught:
        read_file(path, LATIN1)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    return text


def test_no_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.wl").mkdir()
    os.mkfifo(tmp_path / "pipe.wl")
    (tmp_path / "nowhere.wl").symlink_to(tmp_path / "gone")
    (tmp_path / "empty.wl").touch()
    assert refusal(tmp_path / "folder.wl") == "no regular file"
    assert refusal(tmp_path / "pipe.wl") == "no regular file"
    assert refusal(tmp_path / "nowhere.wl") == "No such file or directory"
    assert refusal(tmp_path / "empty.wl") == "empty"


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.wl"
    with path.open("wb") as opened:
        opened.truncate(2**40)
    assert f"more than the {MAXIMUM_FILE_BYTES}" in refusal(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wl").write_text("PatientName: DOE^JANE\n")
    assert refusal(tmp_path / "text.wl").startswith("cut off, or no DICOM")
    assert refusal(write_file(tmp_path / "deflated.wl", None, "+td")) == "transfer syntax 1.2.840.10008.1.2.1.99"
    item = dump()[dump().index("(fffe,e000)") : dump().index("(fffe,e0dd)")]
    assert "(0040,0100)" in refusal(write_file(tmp_path / "two.wl", dump().replace(item, item * 2)))
    assert "(0040,0100)" in refusal(write_file(tmp_path / "none.wl", dump().replace(item, "")))


def test_what_is_missing_is_said_by_name(tmp_path: Path) -> None:
    text = dump(station="", patient="").replace("(0032,1060) LO [CT head]\n", "")
    lacking = missing(read_file(write_file(tmp_path / "a.wl", text), LATIN1))
    assert describe(lacking) == (
        "ScheduledStationAETitle, RequestedProcedureDescription or RequestedProcedureCodeSequence, PatientID"
    )


def test_a_file_cut_off_anywhere_is_refused_or_lacks_something(file: Path) -> None:
    data = file.read_bytes()
    for length in range(len(data)):
        file.write_bytes(data[:length])
        try:
            attributes = read_file(file, LATIN1)
        except FileError:
            continue
        assert missing(attributes), length


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_bytes_do_harm(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.wl"
    if not path.exists():
        write_file(path)
        path.with_suffix(".good").write_bytes(path.read_bytes())
    mutated = bytearray(path.with_suffix(".good").read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(mutated))
    try:
        keys_of(read_file(path, LATIN1))
    except FileError as error:
        assert "\n" not in str(error)
