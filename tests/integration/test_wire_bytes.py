"""Whatever the transfer syntax: Orthanc's copy has exactly the bytes that were on the wire, and says which it is.

storescu encodes data sets anew, so a raw peer sends those of pydicom's sample files as they stand in them.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID

from tests.integration.gateways import data_set_of, wait_until_drained
from tests.support.images import SAMPLES, sop_instance_uid
from tests.support.orthanc import Orthanc
from tests.support.rawdicom import Context, RawPeer, store_rq

pytestmark = pytest.mark.integration


def _sop_class_uid(path: Path) -> str:
    return str(dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True).SOPClassUID)


@pytest.mark.parametrize("number", range(len(SAMPLES)), ids=lambda number: SAMPLES[number].name)
def test_data_set_is_kept_byte_for_byte(shared_orthanc_gateway: Orthanc, samples: list[Path], number: int) -> None:
    path, syntax = samples[number], SAMPLES[number].transfer_syntax
    uid, sop_class, sent = sop_instance_uid(path), _sop_class_uid(path), data_set_of(path.read_bytes())
    with RawPeer(shared_orthanc_gateway.dicom_port) as peer:
        association = peer.associate([Context(1, sop_class, [syntax])], calling="RAW PEER", called="ARCHIVE")
        assert association.transfer_syntaxes == {1: syntax}
        peer.message(1, store_rq(uid, sop_class_uid=sop_class), sent)
        assert peer.response().status == 0
        port = peer.socket.getsockname()[1]
        peer.release()
    wait_until_drained(shared_orthanc_gateway)
    identifier = shared_orthanc_gateway.lookup(uid)
    assert identifier is not None
    kept = shared_orthanc_gateway.file(identifier)
    assert data_set_of(kept) == sent
    _assert_meta(kept, uid, sop_class, syntax, port, shared_orthanc_gateway.dicom_port)


def _assert_meta(kept: bytes, uid: str, sop_class: str, syntax: UID, port: int, dicom_port: int) -> None:
    """File meta information (PS3.10 table 7.1-1) as a reader that is not ours sees it."""
    meta = dcmread(BytesIO(kept), stop_before_pixels=True).file_meta
    assert meta.TransferSyntaxUID == syntax
    assert meta.MediaStorageSOPClassUID == sop_class
    assert meta.MediaStorageSOPInstanceUID == uid
    assert meta.SourceApplicationEntityTitle == meta.SendingApplicationEntityTitle == "RAW PEER"
    assert meta.ReceivingApplicationEntityTitle == "ARCHIVE"
    assert meta.SourcePresentationAddress == meta.SendingPresentationAddress == f"dicom://127.0.0.1:{port}"
    assert meta.ReceivingPresentationAddress == f"dicom://127.0.0.1:{dicom_port}"
