"""What Orthanc makes of an instance when it is to be sent in another transfer syntax: the same, and nothing stored."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info

from gateway.archive.interface import (
    SOP_INSTANCE_UID,
    ArchiveUnavailable,
    CannotTranscode,
    InstanceReference,
    Level,
    Selection,
)
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.forwarding.transports import Endpoint
from tests.support.images import SAMPLES, Sample
from tests.support.orthanc import Orthanc

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG_LOSSLESS = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70"
LOSSY_OR_JPEG_LS = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.80")
JPEG_2000 = frozenset(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"))
PIXEL_DATA = 0x7FE00010
# DCMTK's tools for what pydicom cannot decompress alone.
DECOMPRESSORS = {
    "1.2.840.10008.1.2.4.5": "dcmdjpeg",
    "1.2.840.10008.1.2.4.7": "dcmdjpeg",
    "1.2.840.10008.1.2.4.8": "dcmdjpls",
}
# 32 bits in each pixel cannot be compressed by DCMTK.
NOT_COMPRESSIBLE = frozenset(("rtdose.dcm", "liver_expb_1frame.dcm"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, samples: list[Path]) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"), verbose=False)
    try:
        orthanc.start()
        for sample in samples:
            orthanc.post("/instances", sample.read_bytes())
        yield orthanc
    finally:
        orthanc.close()


@pytest.fixture(scope="module")
def archive(full: Orthanc) -> OrthancArchive:
    return OrthancArchive(OrthancRest(Endpoint(full.url, timeout_s=30), 4), Options("ORTHANC"))


def reference(archive: OrthancArchive, uid: str) -> InstanceReference:
    (found,) = archive.list_instances(Selection(Level.IMAGE, {SOP_INSTANCE_UID: (uid,)})).instances
    return found


def read(archive: OrthancArchive, instance: InstanceReference, transfer_syntax_uid: str | None) -> Dataset:
    """The instance, decoded."""
    with archive.open(instance, transfer_syntax_uid) as encoded:
        data = b"".join(encoded.chunks)
        assert len(data) == encoded.size_bytes
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = encoded.transfer_syntax_uid
    file = DicomBytesIO()
    file.write(bytes(128) + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=False)
    file.write(data)
    file.seek(0)
    return dcmread(file)


def differences(before: Dataset, after: Dataset, path: str = "") -> set[str]:
    """Names of attributes that are not the same; pixel data and the VRs of private attributes are left out."""
    found = set()
    for tag in {*before.keys(), *after.keys()} - {PIXEL_DATA}:
        name = f"{path}{(before if tag in before else after)[tag].keyword or tag}"
        if tag not in before or tag not in after:
            found.add(name)
        elif before[tag].VR == "SQ":
            items = zip(before[tag].value, after[tag].value, strict=True)
            found |= {one for pair in items for one in differences(*pair, f"{name}.")}
        elif not tag.is_private and _value(before, tag) != _value(after, tag):
            found.add(name)
    return found


def _value(data_set: Dataset, tag: Any) -> Any:
    value = data_set[tag].value
    if data_set[tag].VR == "OW" and not data_set.original_encoding[1]:  # words of 16 bits
        return b"".join(value[i + 1 : i + 2] + value[i : i + 1] for i in range(0, len(value), 2))
    return value


def uncompressed(path: Path, tmp_path: Path) -> FileDataset:
    """A sample as DCMTK's tools, or pydicom, decompress it."""
    original = dcmread(path)
    tool = DECOMPRESSORS.get(original.file_meta.TransferSyntaxUID[:21])
    if tool is None:
        if original.file_meta.TransferSyntaxUID.is_compressed and "PixelData" in original:
            original.decompress()
        return original
    subprocess.run([f"/usr/bin/{tool}", str(path), str(tmp_path / "plain")], check=True, timeout=60)
    return dcmread(tmp_path / "plain")


@pytest.mark.parametrize(
    "sample", [one for one in SAMPLES if one.transfer_syntax not in JPEG_2000], ids=lambda one: one.name
)
def test_nothing_but_the_encoding_changes_and_nothing_is_stored(
    archive: OrthancArchive, full: Orthanc, samples: list[Path], sample: Sample, tmp_path: Path
) -> None:
    path = next(one for one in samples if one.name == sample.name)
    original, plain = dcmread(path), uncompressed(path, tmp_path)
    instance = reference(archive, original.SOPInstanceUID)
    stored, changes = full.statistics(), full.get("/changes?last")
    # decompression of colours that JPEG had turned into others; a mark that DCMTK adds
    allowed = {"PhotometricInterpretation"} if "JPEG" in sample.transfer_syntax.name else set()
    if "Near" in sample.transfer_syntax.name:
        allowed.add("LossyImageCompression")
    for wanted in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED):
        found = read(archive, instance, wanted)
        assert found.original_encoding == (wanted == IMPLICIT, wanted != BIG_ENDIAN)
        assert differences(original, found) <= allowed
        if "PixelData" in original and wanted != BIG_ENDIAN:
            assert found.PixelData.rstrip(b"\0") == _little_endian(plain).rstrip(b"\0")
    if sample.name in NOT_COMPRESSIBLE:
        with pytest.raises(CannotTranscode):
            read(archive, instance, JPEG_LOSSLESS)
    else:
        found = read(archive, instance, JPEG_LOSSLESS)
        assert differences(original, found) <= allowed | {"DerivationDescription", "PlanarConfiguration"}
    assert found.SOPInstanceUID == original.SOPInstanceUID
    assert (full.statistics(), full.get("/changes?last")) == (stored, changes)


def _little_endian(data_set: FileDataset) -> bytes:
    value: bytes = data_set.PixelData
    if data_set.file_meta.TransferSyntaxUID == BIG_ENDIAN and data_set[PIXEL_DATA].VR == "OW":
        size = 2
        return b"".join(value[i : i + size][::-1] for i in range(0, len(value), size))
    return value


def test_jpeg_2000_cannot_be_transcoded_without_a_plugin(archive: OrthancArchive, samples: list[Path]) -> None:
    for path in samples:
        original = dcmread(path, stop_before_pixels=True)
        if original.file_meta.TransferSyntaxUID in JPEG_2000:
            instance = reference(archive, original.SOPInstanceUID)
            with pytest.raises(CannotTranscode, match="HTTP 500"):
                read(archive, instance, EXPLICIT)
            assert read(archive, instance, None).SOPInstanceUID == original.SOPInstanceUID


@pytest.mark.parametrize("wanted", LOSSY_OR_JPEG_LS)
def test_lossy_compression_and_jpeg_ls_are_not_asked_for(archive: OrthancArchive, full: Orthanc, wanted: str) -> None:
    instance = reference(archive, dcmread(BytesIO(full.file(full.instances()[0]))).SOPInstanceUID)
    with pytest.raises(CannotTranscode, match="nothing is transcoded"):
        read(archive, instance, wanted)


def test_an_instance_that_is_gone_is_not_one_that_cannot_be_transcoded(archive: OrthancArchive) -> None:
    gone = InstanceReference("00000000-" * 4 + "00000000", "1.2", "1.3", IMPLICIT, 1000)
    with pytest.raises(ArchiveUnavailable, match="404"):
        read(archive, gone, EXPLICIT)
    with pytest.raises(ArchiveUnavailable, match="404"):
        read(archive, gone, None)


def test_data_sets_without_file_meta_information_are_read(archive: OrthancArchive, full: Orthanc) -> None:
    """Orthanc stores them as they come, and says what it took them for."""
    original = dcmread(SAMPLES[0].path)
    original.SOPInstanceUID = "1.2.3.4.5"
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, True
    write_dataset(file, original)
    identifier = full.post("/instances", file.getvalue())["ID"]
    try:
        instance = reference(archive, "1.2.3.4.5")
        assert differences(original, read(archive, instance, None)) == set()
        assert differences(original, read(archive, instance, EXPLICIT)) == set()
    finally:
        full.delete(f"/instances/{identifier}")
