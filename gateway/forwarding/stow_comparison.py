"""Is what a DICOMweb server has under a name the instance that we hold? Asked when it does not take ours."""

import tempfile
from pathlib import Path
from typing import IO, Final

from gateway.archive.dicomweb_download import AS_STORED, REFUSED_TRANSFER_SYNTAX, accept
from gateway.archive.dicomweb_query import is_path_segment
from gateway.dicomweb.client import DicomWebClient, Request
from gateway.dicomweb.multipart import Multipart
from gateway.forwarding.comparison import compare_files
from gateway.spool import Delivery

# There is none, or the server gives none out.
NOT_GIVEN_OUT: Final = frozenset((404, 405, 410, 501))
# Of an instance that the server keeps uncompressed.
MAXIMUM_GROWTH: Final = 20


def compare(client: DicomWebClient, delivery: Delivery) -> bool | None:
    """Whether the server's instance has the same data set; None when there is none, or it cannot be compared.

    Raises DicomWebError for an answer that says nothing of the instance, and OSError.
    """
    uids = (delivery.study_instance_uid, delivery.series_instance_uid, delivery.sop_instance_uid)
    if not all(map(is_path_segment, uids)):
        return None
    study, series, instance = uids
    uri = client.wado(f"/studies/{study}/series/{series}/instances/{instance}")
    with tempfile.TemporaryFile() as copy:
        for media_type in (accept(AS_STORED), accept("")):
            request = Request("GET", uri, headers={"Accept": media_type})
            with client.open(request, attempts=1) as answer:
                if answer.status in REFUSED_TRANSFER_SYNTAX:
                    continue
                if answer.status in NOT_GIVEN_OUT:
                    return None
                if answer.status != 200:
                    raise answer.error()
                if not _save(Multipart(answer.pieces(), answer.headers), copy, MAXIMUM_GROWTH * delivery.size):
                    return None
            return _compare(delivery.path, copy)
    return None


def _save(parts: Multipart, copy: IO[bytes], maximum_bytes: int) -> bool:
    """Write the first file of an answer into `copy`; False when there is none, or it has no end."""
    if not parts.next_part():
        return False
    size = 0
    while piece := parts.read():
        size += len(piece)
        if size > maximum_bytes:
            return False
        copy.write(piece)
    copy.flush()
    return True


def _compare(path: Path, copy: IO[bytes]) -> bool | None:
    with path.open("rb") as ours:
        return compare_files(ours, copy)
