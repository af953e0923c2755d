"""What is written down about an accepted instance, as it travels from those who receive to the keeper."""

import hashlib
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from gateway.dicom.part10 import FileMeta, orthanc_id, read_meta
from gateway.dicom.structure import check_structure
from gateway.quotas.rules import Source, host_of
from gateway.spool import ORTHANC, destination_of

_READ_BYTES: Final = 1024 * 1024
# Before the AE title of a DICOMweb server; no identifier of Orthanc begins so.
FOR_SERVER: Final = "@"
_PLAIN: Final = re.compile(r"[0-9A-Za-z._-]{1,64}")


class Entry(NamedTuple):
    """One accepted instance. `name`: of its file in the spool; `bytes`: of its data set; `accepted_at`: nanoseconds.

    `orthanc_id`: what Orthanc calls it; if it goes to a DICOMweb server, what `place` makes of that.
    """

    name: str
    source: Source
    sop_instance_uid: str
    study: str
    digest: str
    bytes: int
    orthanc_id: str
    accepted_at: int


def decode(fields: list[object]) -> Entry:
    """An Entry as JSON brought it."""
    name, source, *rest = fields
    return Entry(name, Source(*source), *rest)  # type: ignore[misc,arg-type]


def new_digest() -> blake3:
    """The digest of a data set as it was received: nobody can make another data set that has the same."""
    return blake3()


def identifier(text: str) -> str:
    """`text` where it may stand in a table; something that stands for it where peers or people were inventive."""
    if _PLAIN.fullmatch(text):
        return text
    return "#" + hashlib.sha256(os.fsencode(text)).hexdigest()[:63]


def place(file_name: str, orthanc_id: str) -> str:
    """Where the instance of a file in the spool is held once it is delivered: in Orthanc under `orthanc_id`, or not.

    A DICOMweb server is somebody else's archive: nobody tells what becomes of instances there.
    """
    title = destination_of(file_name)
    return orthanc_id if title == ORTHANC else FOR_SERVER + title


def source_of(meta: FileMeta) -> Source:
    """Where the file with this file meta information came from."""
    return source(meta.sending_ae_title, meta.receiving_ae_title, meta.sending_address)


def source(calling_ae_title: str, called_ae_title: str, calling_address: str) -> Source:
    """Where an instance comes from; the address as `dicom://HOST:PORT`."""
    return Source(calling_ae_title[:16], called_ae_title[:16], host_of(calling_address)[:64])


def read_entry(path: Path) -> Entry:
    """The entry of a file in the spool. Raises OSError, Part10Error, StructureError."""
    with path.open("rb") as file:
        fd = file.fileno()
        meta, offset = read_meta(fd)
        status = os.fstat(fd)
        header = check_structure(fd, offset, status.st_size - offset, meta.transfer_syntax_uid)
        digest = new_digest()
        file.seek(offset)
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return Entry(
        name=identifier(path.name),
        source=source_of(meta),
        sop_instance_uid=identifier(header.sop_instance_uid),
        study=identifier(header.study_instance_uid),
        digest=digest.hexdigest(),
        bytes=status.st_size - offset,
        orthanc_id=place(
            path.name,
            orthanc_id(
                header.patient_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
            ),
        ),
        accepted_at=status.st_mtime_ns,
    )
