"""C-ECHO and C-STORE by DCMTK's tools: what Orthanc has afterwards is what was sent."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Final

import pydicom
import pytest

from tests.integration.gateways import assert_stored, ct, wait_until_drained
from tests.support.dcmtk import echoscu, start_storescu, storescu, transfer_syntax_option
from tests.support.images import make_cts, sop_instance_uid
from tests.support.orthanc import Orthanc
from tests.support.rawdicom import RawPeer

pytestmark = pytest.mark.integration

GDCMSCU: Final = "/usr/bin/gdcmscu"
SEND_TIMEOUT_S: Final = 120
DATA_SET_TRAILING_PADDING: Final = 0xFFFCFFFC


def _file_in_orthanc(orthanc: Orthanc, path: Path, directory: Path) -> pydicom.FileDataset:
    identifier = orthanc.lookup(sop_instance_uid(path))
    assert identifier is not None, f"{path.name} is missing"
    copy = directory / path.name
    copy.write_bytes(orthanc.file(identifier))
    return pydicom.dcmread(copy)


def _assert_same(sent: pydicom.FileDataset, kept: pydicom.FileDataset, name: str) -> None:
    assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID, name
    assert kept.get("PixelData") == sent.get("PixelData"), name
    # storescu encodes group lengths anew and leaves trailing padding out: the elements count.
    elements = [
        {e.tag: e.value for e in data_set if e.tag.element and e.tag != DATA_SET_TRAILING_PADDING}
        for data_set in (sent, kept)
    ]
    assert elements[0] == elements[1], name


def test_echo_is_answered(shared_orthanc_gateway: Orthanc) -> None:
    answer = echoscu(shared_orthanc_gateway.dicom_port)
    assert answer.returncode == 0
    assert "Received Echo Response (Success)" in answer.stdout + answer.stderr


def test_500_instances_on_4_associations_arrive_as_they_were_sent(
    orthanc_gateway: Orthanc, samples: list[Path], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    cts = make_cts(images, 500 - len(samples))
    by_syntax = defaultdict(list)
    for path in samples:
        by_syntax[transfer_syntax_option(path)].append(path)
    port = orthanc_gateway.dicom_port
    senders = [start_storescu(port, cts[n::4], calling=f"CT{n}") for n in range(4)]
    for option, paths in by_syntax.items():
        answer = storescu(port, paths, option, "-R", timeout_s=SEND_TIMEOUT_S)
        assert answer.returncode == 0, answer.stderr
    for sender in senders:
        output, _ = sender.communicate(timeout=SEND_TIMEOUT_S)
        assert sender.returncode == 0, output
    orthanc_gateway.wait_for_count(500)
    for path in [*samples, *cts]:
        kept = _file_in_orthanc(orthanc_gateway, path, tmp_path)
        _assert_same(pydicom.dcmread(path), kept, path.name)


def test_file_meta_says_who_sent_to_whom_and_from_where(orthanc_gateway: Orthanc, tmp_path: Path) -> None:
    (path,) = make_cts(tmp_path, 1)
    assert storescu(orthanc_gateway.dicom_port, [path], calling="MODALITY", called="ARCHIVE").returncode == 0
    orthanc_gateway.wait_for_count(1)
    kept = tmp_path / "kept.dcm"
    kept.write_bytes(orthanc_gateway.file(orthanc_gateway.instances()[0]))
    meta = pydicom.dcmread(kept).file_meta
    assert (meta[0x00020016].value, meta[0x00020017].value, meta[0x00020018].value) == (
        "MODALITY",
        "MODALITY",
        "ARCHIVE",
    )
    assert meta[0x00020026].value == meta[0x00020027].value
    assert str(meta[0x00020027].value).startswith("dicom://127.0.0.1:")
    assert meta[0x00020028].value == f"dicom://127.0.0.1:{orthanc_gateway.dicom_port}"


def test_data_set_is_kept_byte_for_byte(orthanc_gateway: Orthanc) -> None:
    sent = {f"1.2.3.{n}": ct(f"1.2.3.{n}", size) for n, size in enumerate((2, 3_000, 300_000, 3_000_000), start=1)}
    with RawPeer(orthanc_gateway.dicom_port) as peer:
        peer.associate()
        for uid, data_set in sent.items():
            assert peer.store(uid, data_set).status == 0
        peer.release()
    wait_until_drained(orthanc_gateway)
    assert_stored(orthanc_gateway, sent)


@pytest.mark.skipif(not Path(GDCMSCU).exists(), reason="libgdcm-tools is not installed")
def test_gdcm_stores(orthanc_gateway: Orthanc, tmp_path: Path) -> None:
    (path,) = make_cts(tmp_path, 1)
    # Its exit status says nothing: gdcm 3.0.21 aborts after the release, with the built-in SCP too.
    subprocess.run(
        [GDCMSCU, "--store", "--call", "ORTHANC", "127.0.0.1", str(orthanc_gateway.dicom_port), str(path)],
        capture_output=True,
        timeout=SEND_TIMEOUT_S,
        check=False,
    )
    orthanc_gateway.wait_for_count(1)
    _assert_same(pydicom.dcmread(path), _file_in_orthanc(orthanc_gateway, path, tmp_path / ".."), path.name)
