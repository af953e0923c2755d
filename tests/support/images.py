"""DICOM files to send: pydicom's sample files, and synthetic CT images of a chosen size."""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Final

import pydicom.data
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

SAMPLE_DIRECTORY: Final = Path(pydicom.data.__file__).parent / "test_files"


@dataclass(frozen=True)
class Sample:
    """A file that pydicom brings along (no download) and that Orthanc 1.10.1 accepts."""

    name: str
    transfer_syntax: UID

    @property
    def path(self) -> Path:
        return SAMPLE_DIRECTORY / self.name


# Several of these share a SOP Instance UID (the MR_small family): see unique_samples().
# Not here: what Orthanc refuses for its missing UIDs (JPEGLSNearLossless_*, SC_rgb_jls_*), truncated
# files, and files without a file meta group, which storescu cannot send.
SAMPLES: Final = (
    Sample("CT_small.dcm", ExplicitVRLittleEndian),
    Sample("MR_small.dcm", ExplicitVRLittleEndian),
    Sample("SC_rgb_small_odd.dcm", ExplicitVRLittleEndian),
    Sample("examples_overlay.dcm", ExplicitVRLittleEndian),
    Sample("examples_palette.dcm", ExplicitVRLittleEndian),
    Sample("reportsi.dcm", ExplicitVRLittleEndian),
    Sample("test-SR.dcm", ExplicitVRLittleEndian),
    Sample("waveform_ecg.dcm", ExplicitVRLittleEndian),
    Sample("MR_small_implicit.dcm", ImplicitVRLittleEndian),
    Sample("rtdose.dcm", ImplicitVRLittleEndian),
    Sample("rtplan.dcm", ImplicitVRLittleEndian),
    Sample("ExplVR_BigEnd.dcm", ExplicitVRBigEndian),
    Sample("MR_small_bigendian.dcm", ExplicitVRBigEndian),
    Sample("liver_expb_1frame.dcm", ExplicitVRBigEndian),
    Sample("image_dfl.dcm", DeflatedExplicitVRLittleEndian),
    Sample("SC_rgb_dcmtk_+eb+cr.dcm", JPEGBaseline8Bit),
    Sample("examples_ybr_color.dcm", JPEGBaseline8Bit),
    Sample("JPEG-lossy.dcm", JPEGExtended12Bit),
    Sample("SC_rgb_jpeg_gdcm.dcm", JPEGLosslessSV1),
    Sample("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
    Sample("JPEGLSNearLossless_16.dcm", JPEGLSNearLossless),
    Sample("MR_small_jp2klossless.dcm", JPEG2000Lossless),
    Sample("examples_jpeg2k.dcm", JPEG2000Lossless),
    Sample("693_J2KI.dcm", JPEG2000),
    Sample("JPEG2000.dcm", JPEG2000),
    Sample("MR_small_RLE.dcm", RLELossless),
    Sample("SC_rgb_rle_2frame.dcm", RLELossless),
)


def unique_samples(directory: Path) -> list[Path]:
    """Copies of all SAMPLES, each with a SOP Instance UID of its own and with the UIDs that Orthanc needs.

    Transfer syntax and pixel data stay as they are; the data set is written anew by pydicom.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, sample in enumerate(SAMPLES):
        dataset = dcmread(sample.path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = _uid(3, number)
        dataset.setdefault("StudyInstanceUID", _uid(1, number))
        dataset.setdefault("SeriesInstanceUID", _uid(2, number))
        path = directory / sample.name
        dataset.save_as(path)
        paths.append(path)
    return paths


def make_ct(path: Path, rows: int, columns: int, seed: int, series: int = 0) -> UID:
    """Writes a 16-bit CT image (Explicit VR Little Endian) and returns its SOP Instance UID.

    128 x 128 makes 33 KB, 512 x 512 makes 512 KB. The same arguments make the same file. Another `seed`
    makes another instance of the same series, another `series` one of another series and study.
    """
    template = _template(rows, columns)
    sop_instance_uid = _uid(3, seed, series, rows, columns)
    data = template.replace(_uid(3, 0).encode(), sop_instance_uid.encode())
    data = data.replace(_uid(1, 0).encode(), _uid(1, 0, series).encode())
    data = data.replace(_uid(2, 0).encode(), _uid(2, 0, series).encode())
    # The first pixels tell the instances apart, so that a mix-up shows in the pixel data.
    pixels = len(data) - rows * columns * 2
    path.write_bytes(data[:pixels] + seed.to_bytes(8, "little") + data[pixels + 8 :])
    return sop_instance_uid


def make_cts(directory: Path, count: int, rows: int = 128, columns: int = 128, series: int = 0) -> list[Path]:
    """Writes the instances of seeds 0 to `count` - 1 of one series and returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{series:04}-{seed:06}.dcm" for seed in range(count)]
    for seed, path in enumerate(paths):
        make_ct(path, rows, columns, seed, series)
    return paths


def sop_instance_uid(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)


def _uid(kind: int, seed: int, series: int = 0, rows: int = 0, columns: int = 0) -> UID:
    """A UID of always the same length: 2.25 and a number (below 2 to the 128) with these in its digits."""
    return UID(f"2.25.1{kind:02}{seed:012}{series:012}{rows:06}{columns:06}")


@lru_cache(maxsize=4)
def _template(rows: int, columns: int) -> bytes:
    """A CT image with the UIDs of seed 0: writing one with pydicom takes longer than patching many."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(3, 0)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = _uid(3, 0)
    image.StudyDate = "20240102"
    image.StudyTime = "030405"
    image.AccessionNumber = "A1"
    image.Modality = "CT"
    image.PatientName = "Phantom^Synthetic"
    image.PatientID = "PHANTOM"
    image.PatientBirthDate = "19700101"
    image.PatientSex = "O"
    image.StudyInstanceUID = _uid(1, 0)
    image.SeriesInstanceUID = _uid(2, 0)
    image.StudyID = "1"
    image.SeriesNumber = "1"
    image.InstanceNumber = "1"
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows = rows
    image.Columns = columns
    image.BitsAllocated = 16
    image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = 0
    image.PixelData = Random(rows * columns).randbytes(rows * columns * 2)
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
