"""Instances to send: unique UIDs, pixels that do not compress, one study for every hundred."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

INSTANCES_PER_STUDY = 100


@dataclass(frozen=True)
class Shape:
    """What one kind of instance looks like; `rows` x `columns` samples of `bits` bits."""

    sop_class: UID
    modality: str
    rows: int
    columns: int
    bits: int

    @property
    def pixel_bytes(self) -> int:
        return self.rows * self.columns * self.bits // 8


SHAPES = {
    "ct512": Shape(CTImageStorage, "CT", 512, 512, 16),
    "mr128": Shape(MRImageStorage, "MR", 128, 128, 16),
    "sc1k": Shape(SecondaryCaptureImageStorage, "OT", 16, 16, 8),
}


def generate(folder: Path, shape_name: str, count: int) -> list[Path]:
    """Write `count` Part 10 files of one shape (Explicit VR Little Endian); returned in sending order."""
    folder.mkdir(parents=True)
    return list(_files(folder, SHAPES[shape_name], count))


def study(study_uid: str, shape_name: str, count: int) -> Iterator[bytes]:
    """`count` Part 10 files of one shape, all in one series."""
    series_uid = generate_uid()
    for index in range(count):
        instance = _instance(SHAPES[shape_name], index)
        instance.StudyInstanceUID, instance.SeriesInstanceUID = study_uid, series_uid
        buffer = BytesIO()
        instance.save_as(buffer, enforce_file_format=True)
        yield buffer.getvalue()


def _files(folder: Path, shape: Shape, count: int) -> Iterator[Path]:
    study = series = ""
    for index in range(count):
        if index % INSTANCES_PER_STUDY == 0:
            study, series = generate_uid(), generate_uid()
        path = folder / f"{index:06}.dcm"
        instance = _instance(shape, index)
        instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
        instance.save_as(path, enforce_file_format=True)
        yield path


def _instance(shape: Shape, index: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = shape.sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    instance.SOPClassUID = shape.sop_class
    instance.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    instance.Modality = shape.modality
    instance.PatientID = "BENCH"
    instance.PatientName = "Bench^Store"
    instance.StudyDate = "20240102"
    instance.AccessionNumber = f"A{index // INSTANCES_PER_STUDY:06}"
    instance.StudyID = instance.SeriesNumber = "1"
    instance.InstanceNumber = str(index % INSTANCES_PER_STUDY + 1)
    instance.Rows, instance.Columns = shape.rows, shape.columns
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.PixelRepresentation = 0
    instance.BitsAllocated = instance.BitsStored = shape.bits
    instance.HighBit = shape.bits - 1
    instance.add_new("PixelData", "OW", os.urandom(shape.pixel_bytes))
    return instance
