"""Instances in a spool, as a worker puts them there."""

from pathlib import Path

from pydicom import dcmread

from gateway.part10 import FileMeta, orthanc_id
from gateway.spool import Delivery, IncomingFile, Spool, SpoolWriter

META = FileMeta(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid="2.25.1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    sending_ae_title="MODALITY",
    receiving_ae_title="ORTHANC",
    sending_address="dicom://192.0.2.1:50000",
    receiving_address="dicom://192.0.2.2:4242",
)


class Receiver:
    """One writer on one spool."""

    def __init__(self, state_directory: Path) -> None:
        self.spool = Spool(state_directory)
        self.spool.prepare()
        self.writer = SpoolWriter(self.spool)

    def ready(self, file: Path) -> Delivery:
        """Acknowledge the instance of this Part 10 file."""
        incoming, delivery = self._receive(file)
        incoming.commit()
        return Delivery(incoming.ready_path, *delivery)

    def incoming(self, file: Path) -> Delivery:
        """Receive the instance without acknowledging it (`Acknowledge` "Stored")."""
        incoming, delivery = self._receive(file)
        return Delivery(incoming.hand_over(), *delivery)

    def _receive(self, file: Path) -> tuple[IncomingFile, tuple[int, str, str]]:
        content = file.read_bytes()
        read = dcmread(file, stop_before_pixels=True)
        meta = FileMeta(
            sop_class_uid=str(read.file_meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(read.file_meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(read.file_meta.TransferSyntaxUID),
            sending_ae_title="MODALITY",
            receiving_ae_title="ORTHANC",
            sending_address="dicom://192.0.2.1:50000",
            receiving_address="dicom://192.0.2.2:4242",
        )
        incoming = self.writer.create(meta)
        incoming.write((content[144 + int(read.file_meta.FileMetaInformationGroupLength) :],))
        uids = (read.StudyInstanceUID, read.SeriesInstanceUID, read.SOPInstanceUID)
        identifier = orthanc_id(str(read.get("PatientID", "")), *map(str, uids))
        return incoming, (incoming.size, str(read.SOPInstanceUID), identifier)
