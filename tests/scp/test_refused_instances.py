"""C-STORE requests that are refused or just pass: status, Error Comment, log line, and nothing left in the spool."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydicom import dcmread
from pydicom.uid import UID

from tests.scp.conftest import MIB, Log, half_received, spooled
from tests.support.data_sets import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PIXEL_DATA,
    REFERENCED_IMAGE_SEQUENCE,
    deflate,
    element,
    item,
    sequence,
)
from tests.support.rawdicom import CT_IMAGE, MR_IMAGE, WITHOUT_DATA_SET, Context, RawPeer, image, store_rq
from tests.support.standalone import Gateway

CONTEXTS: Final = (
    Context(1, CT_IMAGE, (EXPLICIT,)),
    Context(3, CT_IMAGE, (DEFLATED,)),
    Context(5, CT_IMAGE, (IMPLICIT,)),
)

INVALID_SOP_INSTANCE, SOP_CLASS_NOT_SUPPORTED = 0x0117, 0x0122
DATA_SET_DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0xA900, 0xC000
SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
STUDY_INSTANCE_UID, SERIES_INSTANCE_UID = 0x0020000D, 0x0020000E

UID_1 = "2.25.1234"


@pytest.fixture
def peer(intact: Gateway) -> Iterator[RawPeer]:
    with RawPeer(intact.dicom_port) as connected:
        connected.associate(CONTEXTS)
        yield connected


def _nested(depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = sequence(REFERENCED_IMAGE_SEQUENCE, item(content, undefined=True), undefined=True)
    return content


def _refused(gateway: Gateway, peer: RawPeer, data_set: bytes, context_id: int = 1) -> tuple[int, str, int | None]:
    """Sends the data set, looks for what every refusal has to leave, returns what it is refused with."""
    log, before = Log(gateway), spooled(gateway)
    answer = peer.store(UID_1, data_set, context_id, message_id=7)
    assert answer.status != 0
    assert (answer.message_id, answer.context_id) == (7, context_id)
    assert answer.comment
    log.expect("WARNING", "peer=127.0.0.1", "calling=RAW", "message_id=7", f"0x{answer.status:04X}", answer.comment)
    assert spooled(gateway) == before
    assert half_received(gateway) == []
    assert peer.store(UID_1).status == 0, "the association does not go on"
    return answer.status, answer.comment, answer.offending_element


@pytest.mark.parametrize(
    ("data_set", "comment"),
    [
        pytest.param(b"", "empty data set", id="empty"),
        pytest.param(b"garbage, not a data set" * 40, "exceeds its container", id="garbage"),
        pytest.param(os.urandom(64) * 20, "", id="noise"),
        pytest.param(bytes(4000), "", id="zeros"),
        pytest.param(image(UID_1)[:-3], "", id="cut short"),
        pytest.param(image(UID_1, rest=element(PIXEL_DATA, "OW", b"ab", length=0x7FFFFFF0)), "", id="length of 2 GB"),
        pytest.param(image(UID_1, rest=_nested(33)), "nest", id="nested too deeply"),
        pytest.param(image(UID_1, rest=_nested(20_000)), "nest", id="nested 20,000 deep"),
        pytest.param(image(UID_1, syntax=IMPLICIT), "", id="other transfer syntax"),
        pytest.param(bytes(128) + b"DICM" + image(UID_1), "", id="Part 10 file"),
    ],
)
def test_data_set_that_cannot_be_read_is_refused_with_cannot_understand(
    intact: Gateway, peer: RawPeer, data_set: bytes, comment: str
) -> None:
    status, said, _ = _refused(intact, peer, data_set)
    assert status == CANNOT_UNDERSTAND
    assert comment in said


def test_request_without_data_set_is_refused_with_cannot_understand(intact: Gateway, peer: RawPeer) -> None:
    log = Log(intact)
    peer.message(1, store_rq(UID_1, data_set_type=WITHOUT_DATA_SET))
    answer = peer.response()
    assert (answer.status, answer.comment) == (CANNOT_UNDERSTAND, "empty data set")
    log.expect("WARNING", "calling=RAW", "0xC000", "empty data set")
    assert peer.store(UID_1).status == 0


@pytest.mark.parametrize("absent", [None, "", "\0\0"], ids=["missing", "empty", "padding only"])
@pytest.mark.parametrize(
    ("argument", "name", "tag"),
    [
        ("study", "Study Instance UID", STUDY_INSTANCE_UID),
        ("series", "Series Instance UID", SERIES_INSTANCE_UID),
    ],
)
def test_instance_without_a_uid_that_orthanc_needs_is_refused_by_name_of_the_attribute(
    intact: Gateway, peer: RawPeer, argument: str, name: str, tag: int, absent: str | None
) -> None:
    data_set = image(UID_1, **{argument: absent})  # type: ignore[arg-type]
    assert _refused(intact, peer, data_set) == (CANNOT_UNDERSTAND, f"{name} is missing or empty", tag)


@pytest.mark.parametrize(
    ("data_set", "name", "tag"),
    [
        pytest.param(image(UID_1, sop_class_uid=""), "SOP Class UID", SOP_CLASS_UID, id="class"),
        pytest.param(image(""), "SOP Instance UID", SOP_INSTANCE_UID, id="instance"),
    ],
)
def test_instance_with_an_empty_sop_uid_is_refused_by_name_of_the_attribute(
    intact: Gateway, peer: RawPeer, data_set: bytes, name: str, tag: int
) -> None:
    assert _refused(intact, peer, data_set) == (CANNOT_UNDERSTAND, f"{name} is missing or empty", tag)


@pytest.mark.parametrize(
    ("data_set", "name", "tag"),
    [
        pytest.param(image(UID_1, sop_class_uid=MR_IMAGE), "SOP Class UID", SOP_CLASS_UID, id="class"),
        pytest.param(image("2.25.99"), "SOP Instance UID", SOP_INSTANCE_UID, id="instance"),
        pytest.param(image(UID_1 + ".0"), "SOP Instance UID", SOP_INSTANCE_UID, id="longer instance"),
    ],
)
def test_data_set_that_differs_from_its_command_does_not_match(
    intact: Gateway, peer: RawPeer, data_set: bytes, name: str, tag: int
) -> None:
    assert _refused(intact, peer, data_set) == (
        DATA_SET_DOES_NOT_MATCH,
        f"{name} differs from the request's",
        tag,
    )


@pytest.mark.parametrize(
    "uid",
    [
        "1" * 65,
        "2.25." + "1" * 65,
        "../../../escaped",
        "..\\escaped",
        "/escaped",
        "1.2.3/../../../ready/x.dcm",
        "1.2\0.3",
        "1.2\n3",
        "1.2 3",
        "1.2.\xe4",
        "",
    ],
)
def test_sop_instance_uid_that_is_none_is_refused_and_names_no_file(
    intact: Gateway, peer: RawPeer, uid: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log, before = Log(intact), _everything_below(tmp_path_factory.getbasetemp())
    answer = peer.store(uid)
    assert answer.status == INVALID_SOP_INSTANCE
    assert answer.comment.startswith("SOP Instance UID")
    log.expect("WARNING", "calling=RAW", "0x0117", answer.comment)
    assert _everything_below(tmp_path_factory.getbasetemp()) <= before
    assert not Path("/escaped").exists()
    assert peer.store(UID_1).status == 0


def _everything_below(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))


@pytest.mark.parametrize("uid", ["", "../x", "1.2 3", "CT\n"])
def test_sop_class_uid_that_is_none_is_refused(intact: Gateway, peer: RawPeer, uid: str) -> None:
    log = Log(intact)
    peer.message(1, store_rq(UID_1, sop_class_uid=uid), image(UID_1, sop_class_uid=uid))
    assert peer.response().status == SOP_CLASS_NOT_SUPPORTED
    log.expect("WARNING", "calling=RAW", "0x0122", "SOP Class UID is no UID")
    assert peer.store(UID_1).status == 0


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    "uid", ["1.02.3", "1.2.3.", ".1.2", "1..2", "1.2.3-4", "1.2.ABC_x", "0", "9" * 64], ids=lambda uid: uid[:12]
)
def test_ugly_uid_passes_and_is_kept(intact: Gateway, peer: RawPeer, uid: str) -> None:
    before = spooled(intact)
    assert peer.store(uid, image(uid, study=uid, series=uid)).status == 0
    (name,) = set(spooled(intact)) - set(before)
    stored = dcmread(intact.state_directory / "spool" / "ready" / name)
    assert stored.file_meta.MediaStorageSOPInstanceUID == uid
    assert {stored.SOPInstanceUID, stored.StudyInstanceUID, stored.SeriesInstanceUID} == {UID(uid)}


@pytest.mark.parametrize("padding", [b" ", b"\0", b"  ", b"\0\0\0", b" \0"], ids=repr)
@pytest.mark.parametrize("where", ["command", "data set"])
def test_padding_of_a_uid_is_not_part_of_it(peer: RawPeer, padding: bytes, where: str) -> None:
    padded = UID_1 + padding.decode()
    if where == "command":
        peer.message(1, store_rq(padded.encode()), image(UID_1))
    else:
        peer.message(1, store_rq(UID_1), image(padded))
    assert peer.response().status == 0


@pytest.mark.parametrize("patient_id", [None, "", " ", "\xc4\xd6 \\ / 1"], ids=["missing", "empty", "blank", "odd"])
def test_patient_id_may_be_anything(peer: RawPeer, patient_id: str | None) -> None:
    assert peer.store(UID_1, image(UID_1, patient_id=patient_id)).status == 0


def test_deepest_permitted_nesting_passes(peer: RawPeer) -> None:
    assert peer.store(UID_1, image(UID_1, rest=_nested(32))).status == 0


@pytest.mark.parametrize(
    ("bomb", "comment"),
    [
        pytest.param(element(PIXEL_DATA, "OW", bytes(64 * MIB)), "", id="one value"),
        pytest.param(element(0x00090010, "LO", b"AB") * 1_000_000, f"inflates to more than {MIB} bytes", id="elements"),
        pytest.param(
            sequence(REFERENCED_IMAGE_SEQUENCE, item() * 1_000_000, undefined=True),
            f"inflates to more than {MIB} bytes",
            id="items",
        ),
    ],
)
def test_deflated_bomb_is_refused_quickly(intact: Gateway, peer: RawPeer, bomb: bytes, comment: str) -> None:
    deflated = deflate(image(UID_1, rest=bomb))
    assert len(deflated) < 100_000
    started = time.monotonic()
    status, said, _ = _refused(intact, peer, deflated, context_id=3)
    assert time.monotonic() - started < 5
    assert status == CANNOT_UNDERSTAND
    assert comment in said


def test_deflated_data_set_within_the_limit_passes(peer: RawPeer) -> None:
    small = deflate(image(UID_1, rest=element(PIXEL_DATA, "OW", bytes(MIB // 2))))
    assert peer.store(UID_1, small, context_id=3).status == 0


@pytest.mark.parametrize("broken", [b"", b"\xff" * 50, deflate(image(UID_1))[:-20], image(UID_1)])
def test_broken_deflated_data_set_is_refused(intact: Gateway, peer: RawPeer, broken: bytes) -> None:
    assert _refused(intact, peer, broken, context_id=3)[0] == CANNOT_UNDERSTAND


def test_a_thousand_refusals_leave_the_association_as_it_was(peer: RawPeer) -> None:
    for number in range(1000):
        peer.message(1, store_rq(UID_1, message_id=number), image("2.25.99"))
    for number in range(1000):
        answer = peer.response()
        assert (answer.status, answer.message_id) == (DATA_SET_DOES_NOT_MATCH, number)
    assert peer.store(UID_1).status == 0


def test_spool_that_fails_is_out_of_resources_until_it_works_again(intact: Gateway, peer: RawPeer) -> None:
    log = Log(intact)
    incoming = intact.state_directory / "spool" / "incoming"
    hidden = incoming.with_name("hidden")
    incoming.rename(hidden)
    try:
        answer = peer.store(UID_1)
    finally:
        hidden.rename(incoming)
    assert answer.status == 0xA700
    assert answer.comment == "the spool failed: No such file or directory"
    log.expect("WARNING", "calling=RAW", "0xA700", "the spool failed")
    assert peer.store(UID_1).status == 0
