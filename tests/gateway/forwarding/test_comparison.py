"""Is Orthanc's copy the same instance? Against a real Orthanc."""

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from gateway.forwarding.comparison import CopyError, is_same_instance
from gateway.forwarding.transports import Endpoint, HttpTransport, Unreachable
from tests.conftest import MakeOrthanc
from tests.support.data_sets import element
from tests.support.images import SAMPLES, make_ct
from tests.support.orthanc import Orthanc

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("comparison"), OverwriteInstances=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with a sequence in it."""
    path = tmp_path / "image.dcm"
    make_ct(path, 16, 16, seed=1)
    data_set = dcmread(path)
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = "2.25.42"
    data_set.ReferencedImageSequence = Sequence([item, Dataset()])
    data_set.save_as(path)
    return path


def changed(path: Path, change: Callable[[FileDataset], Any]) -> Path:
    """A copy of the file, changed and written anew."""
    data_set = dcmread(path)
    change(data_set)
    copy = path.with_name(f"{path.stem}-changed.dcm")
    data_set.save_as(copy)
    return copy


def encoded(path: Path, transfer_syntax: str) -> Path:
    """A copy of the file in another uncompressed transfer syntax."""

    def encode(data_set: FileDataset) -> None:
        data_set.file_meta.TransferSyntaxUID = transfer_syntax

    return changed(path, encode)


def split(path: Path) -> tuple[bytes, bytes]:
    """The file up to its data set, and the data set."""
    content = path.read_bytes()
    start = 144 + dcmread(path, stop_before_pixels=True).file_meta.FileMetaInformationGroupLength
    return content[:start], content[start:]


def with_group_length(path: Path, target: Path) -> Path:
    """A copy of the file with a Group Length (pydicom writes none): the same content in other bytes."""
    meta, data_set = split(path)
    target.write_bytes(meta + element(0x00080000, "UL", bytes(4)) + data_set)
    return target


def same(server: Orthanc, theirs: Path, ours: Path) -> bool:
    """Whether `ours` is found to be what Orthanc has after `theirs` was posted."""
    identifier = server.post("/instances", theirs.read_bytes())["ID"]
    return is_same_instance(HttpTransport(Endpoint(server.url)), identifier, ours)


def test_identical(server: Orthanc, image: Path) -> None:
    assert same(server, image, image)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_each_sample_is_itself(server: Orthanc, samples: list[Path], sample: Any) -> None:
    (path,) = (path for path in samples if path.name == sample.name)
    assert same(server, path, path)


def test_file_meta_information_does_not_matter(server: Orthanc, image: Path) -> None:
    def send_from_elsewhere(data_set: FileDataset) -> None:
        data_set.file_meta.SendingApplicationEntityTitle = "ELSEWHERE"
        data_set.file_meta.ImplementationVersionName = "OTHER"

    assert same(server, image, changed(image, send_from_elsewhere))


def test_another_pixel_differs(server: Orthanc, image: Path) -> None:
    ours = image.with_name("pixel.dcm")
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    ours.write_bytes(content)
    assert not same(server, image, ours)


@pytest.mark.parametrize("keyword", ["PatientName", "InstanceNumber", "StudyID"])
def test_another_or_a_missing_attribute_differs(server: Orthanc, image: Path, keyword: str) -> None:
    assert not same(server, image, changed(image, lambda data_set: setattr(data_set, keyword, "20")))
    assert not same(server, image, changed(image, lambda data_set: delattr(data_set, keyword)))


def test_another_item_of_a_sequence_differs(server: Orthanc, image: Path) -> None:
    def change(data_set: FileDataset) -> None:
        data_set.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "2.25.43"

    assert not same(server, image, changed(image, change))
    assert not same(server, image, changed(image, lambda data_set: data_set.ReferencedImageSequence.pop()))


def test_defined_and_undefined_lengths_are_the_same(server: Orthanc, image: Path) -> None:
    def leave_undefined(data_set: FileDataset) -> None:
        data_set["ReferencedImageSequence"].is_undefined_length = True
        for item in data_set.ReferencedImageSequence:
            item.is_undefined_length_sequence_item = True

    ours = changed(image, leave_undefined)
    assert ours.stat().st_size > image.stat().st_size
    assert same(server, image, ours)
    assert same(server, ours, image)


def test_group_lengths_and_padding_are_the_same(server: Orthanc, image: Path) -> None:
    ours = with_group_length(image, image.with_name("ours.dcm"))
    ours.write_bytes(ours.read_bytes() + element(0xFFFCFFFC, "OB", bytes(100)))
    assert same(server, image, ours)
    assert same(server, ours, image)


@pytest.mark.parametrize("ours", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("theirs", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_transfer_syntaxes_are_the_same(server: Orthanc, image: Path, theirs: str, ours: str) -> None:
    one = encoded(image, theirs).rename(image.with_name("theirs.dcm"))
    other = encoded(image, ours)
    assert dcmread(one).file_meta.TransferSyntaxUID == theirs
    assert same(server, one, other)
    assert not same(server, one, changed(other, lambda data_set: setattr(data_set, "PatientID", "SOMEBODY")))


def test_deflated_by_another_compressor_is_the_same(server: Orthanc, samples: list[Path], tmp_path: Path) -> None:
    (sample,) = (path for path in samples if path.name == "image_dfl.dcm")
    meta, deflated = split(sample)
    content = zlib.decompress(deflated, wbits=-zlib.MAX_WBITS)
    compressor = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    again = compressor.compress(content) + compressor.flush()
    assert again != deflated
    (tmp_path / "ours.dcm").write_bytes(meta + again)
    assert same(server, sample, tmp_path / "ours.dcm")
    compressor = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    (tmp_path / "other.dcm").write_bytes(meta + compressor.compress(content[:-1] + b"\x55") + compressor.flush())
    assert not same(server, sample, tmp_path / "other.dcm")


def test_compressed_pixel_data_must_be_the_same_bytes(server: Orthanc, samples: list[Path], tmp_path: Path) -> None:
    (sample,) = (path for path in samples if path.name == "MR_small_RLE.dcm")
    ours = with_group_length(sample, tmp_path / "ours.dcm")
    assert same(server, sample, ours)
    content = bytearray(ours.read_bytes())
    content[len(content) // 2] ^= 1
    ours.write_bytes(content)
    assert not same(server, sample, ours)


def test_compressed_and_uncompressed_differ(server: Orthanc, samples: list[Path], tmp_path: Path) -> None:
    (sample,) = (path for path in samples if path.name == "MR_small_RLE.dcm")
    plain = next(path for path in samples if path.name == "MR_small.dcm")
    data_set = dcmread(plain)
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = dcmread(sample).SOPInstanceUID
    data_set.save_as(tmp_path / "plain.dcm")
    assert not same(server, tmp_path / "plain.dcm", sample)


def test_big_endian_is_the_same_as_itself_only(server: Orthanc, samples: list[Path]) -> None:
    (sample,) = (path for path in samples if path.name == "MR_small_bigendian.dcm")
    assert dcmread(sample).file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    assert same(server, sample, sample)
    assert not same(server, sample, changed(sample, lambda data_set: setattr(data_set, "PatientID", "X")))


def test_copy_that_orthanc_transcoded_on_arrival_is_the_same(make_orthanc: MakeOrthanc, image: Path) -> None:
    server = make_orthanc(IngestTranscoding="1.2.840.10008.1.2.4.70")
    server.start()
    identifier = server.post("/instances", image.read_bytes())["ID"]
    assert dcmread(BytesIO(server.file(identifier))).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    transport = HttpTransport(Endpoint(server.url))
    assert is_same_instance(transport, identifier, image)
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    assert not is_same_instance(transport, identifier, image)


def test_what_cannot_be_parsed_is_the_same_by_its_bytes_only(server: Orthanc, image: Path) -> None:
    identifier = server.post("/instances", image.read_bytes())["ID"]
    transport = HttpTransport(Endpoint(server.url))
    for content in (image.read_bytes()[:-5], image.read_bytes()[:200], b"no DICOM", b""):
        ours = image.with_name("broken.dcm")
        ours.write_bytes(content)
        assert not is_same_instance(transport, identifier, ours)


def test_copy_that_orthanc_has_lost_is_an_error_of_its_own(make_orthanc: MakeOrthanc, image: Path) -> None:
    server = make_orthanc(IndexDirectory="index")
    server.start()
    identifier = server.post("/instances", image.read_bytes())["ID"]
    transport = HttpTransport(Endpoint(server.url))
    with pytest.raises(CopyError):
        is_same_instance(transport, identifier.replace(identifier[0], "0"), image)
    server.stop()
    for path in Path(server.configuration["StorageDirectory"]).rglob("*"):
        if path.is_file():
            path.unlink()
    server.start()
    with pytest.raises(CopyError):
        is_same_instance(transport, identifier, image)


def test_orthanc_that_cannot_be_asked_is_unreachable(make_orthanc: MakeOrthanc, image: Path) -> None:
    server = make_orthanc(AuthenticationEnabled=True, RegisteredUsers={"gateway": "secret"})
    server.start()
    identifier = server.post("/instances", image.read_bytes())["ID"]
    with pytest.raises(Unreachable, match="401"):
        is_same_instance(HttpTransport(Endpoint(server.url)), identifier, image)
    server.stop()
    with pytest.raises(Unreachable):
        is_same_instance(HttpTransport(Endpoint(server.url, credentials=("gateway", "secret"))), identifier, image)


def test_file_of_ours_that_is_gone_is_told_apart(server: Orthanc, image: Path) -> None:
    identifier = server.post("/instances", image.read_bytes())["ID"]
    with pytest.raises(FileNotFoundError):
        is_same_instance(HttpTransport(Endpoint(server.url)), identifier, image.with_name("gone.dcm"))
