"""What is known of an instance from its file alone, for those that nobody told the forwarder about."""

import os
from pathlib import Path

from gateway.dicom.part10 import orthanc_id, read_meta
from gateway.dicom.structure import check_structure
from gateway.spool import Delivery


def read_delivery(path: Path) -> Delivery:
    """What a worker would have told of the file. Raises Part10Error, StructureError, OSError."""
    with path.open("rb") as file:
        meta, offset = read_meta(file.fileno())
        size = os.fstat(file.fileno()).st_size
        header = check_structure(file.fileno(), offset, size - offset, meta.transfer_syntax_uid)
    identifier = orthanc_id(
        header.patient_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
    )
    return Delivery(
        path,
        size,
        header.sop_instance_uid,
        identifier,
        patient_id=header.patient_id,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        accession_number=header.accession_number,
    )
