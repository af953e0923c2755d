"""Orthanc's own DICOM server and the gateway with the same content and the same options, to be asked the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from tests.support.orthanc import Orthanc


@contextmanager
def built_in_and_gateway(directory: Path, files: Iterable[bytes], **options: Any) -> Iterator[tuple[Orthanc, Orthanc]]:
    """Both, with `files` in them; `options` are Orthanc's."""
    (directory / "built_in").mkdir()
    (directory / "gateway").mkdir()
    built_in = Orthanc(directory / "built_in", dicom_server=True, verbose=False, **options)
    gateway = Orthanc(directory / "gateway", gateway=True, verbose=False, **options)
    try:
        for server in (built_in, gateway):
            server.start()
        for file in files:
            for server in (built_in, gateway):
                server.post("/instances", file)
        yield built_in, gateway
    finally:
        built_in.close()
        gateway.close()


def instance(uid: str, **values: Any) -> bytes:
    """A Part 10 file of an instance with these attributes; with None an attribute is missing."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data_set.SOPClassUID = MRImageStorage if values["Modality"] == "MR" else CTImageStorage
    data_set.SOPInstanceUID = uid
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data_set.SOPClassUID, uid
    for name, value in values.items():
        if value is not None:
            setattr(data_set, name, value)
    if uid.endswith(".0.0"):
        step = Dataset()
        step.ScheduledProcedureStepID = "STEP"
        data_set.RequestAttributesSequence = [step]
    data_set.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "private")
    file = BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    return file.getvalue()
