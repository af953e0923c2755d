"""Instances in a spool, as a worker puts them there."""

from pathlib import Path

from pydicom import dcmread

from gateway.dicom.part10 import FileMeta
from gateway.forwarding.identify import read_delivery
from gateway.spool import ORTHANC, Delivery, IncomingFile, Spool, SpoolWriter

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

    def ready(self, file: Path, destination: str = ORTHANC) -> Delivery:
        """Acknowledge the instance of this Part 10 file."""
        incoming = self._receive(file, destination)
        incoming.commit()
        return read_delivery(incoming.ready_path)

    def incoming(self, file: Path, destination: str = ORTHANC) -> Delivery:
        """Receive the instance without acknowledging it (`Acknowledge` "Stored")."""
        return read_delivery(self._receive(file, destination).hand_over())

    def _receive(self, file: Path, destination: str) -> IncomingFile:
        content = file.read_bytes()
        read = dcmread(file, stop_before_pixels=True)
        meta = FileMeta(
            sop_class_uid=str(read.file_meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(read.file_meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(read.file_meta.TransferSyntaxUID),
            sending_ae_title="MODALITY",
            receiving_ae_title=destination or "ORTHANC",
            sending_address="dicom://192.0.2.1:50000",
            receiving_address="dicom://192.0.2.2:4242",
        )
        incoming = self.writer.create(meta, destination)
        incoming.write((content[144 + int(read.file_meta.FileMetaInformationGroupLength) :],))
        return incoming
