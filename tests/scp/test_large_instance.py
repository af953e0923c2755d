"""A multi-frame instance of 1 GB, made while it is sent: received as a stream, in constant memory."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.scp.conftest import StartGateway, half_received, spooled, workers
from tests.support import processes
from tests.support.data_sets import EXPLICIT, PIXEL_DATA, element
from tests.support.rawdicom import COMMAND, DATA_SET, LAST, Context, RawPeer, image, p_data, pdv, store_rq

MULTI_FRAME_CLASS: Final = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word Secondary Capture
UID: Final = "2.25.1073741824"
FRAMES: Final = 2048
FRAME_BYTES: Final = 512 * 1024
PIXEL_BYTES: Final = FRAMES * FRAME_BYTES
PDV_BYTES: Final = 128 * 1024 - 12
MAXIMUM_RSS_KB: Final = 150 * 1024
ANSWER_TIMEOUT_S: Final = 150


@pytest.fixture
def frame() -> bytes:
    """Not zeros: a disk or file system that compresses must not make this easy."""
    return os.urandom(FRAME_BYTES)


@pytest.mark.timeout(300)
def test_one_gigabyte_passes_with_a_worker_under_150_megabytes(start_gateway: StartGateway, frame: bytes) -> None:
    gateway = start_gateway()
    head = image(UID, sop_class_uid=MULTI_FRAME_CLASS, rest=element(0x00280008, "IS", str(FRAMES).encode()))
    head += element(PIXEL_DATA, "OW", length=PIXEL_BYTES)
    try:
        with RawPeer(gateway.dicom_port, timeout_s=ANSWER_TIMEOUT_S) as peer:
            peer.associate([Context(1, MULTI_FRAME_CLASS, (EXPLICIT,))])
            peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(UID, sop_class_uid=MULTI_FRAME_CLASS))))
            peer.send(p_data(pdv(1, DATA_SET, head)))
            pieces = [frame[start : start + PDV_BYTES] for start in range(0, FRAME_BYTES, PDV_BYTES)]
            encoded = b"".join(p_data(pdv(1, DATA_SET, piece)) for piece in pieces)
            for _ in range(FRAMES):
                peer.send(encoded)
            peer.send(p_data(pdv(1, DATA_SET | LAST)))
            assert peer.response().status == 0
            peer.release()
        for pid in workers(gateway):
            assert processes.peak_rss_kb(pid) < MAXIMUM_RSS_KB
        (name,) = spooled(gateway)
        stored = gateway.state_directory / "spool" / "ready" / name
        assert half_received(gateway) == []
        _expect_tail(stored, head, frame)
    finally:
        gateway.close()
        shutil.rmtree(gateway.state_directory)


def _expect_tail(path: Path, head: bytes, frame: bytes) -> None:
    with path.open("rb") as file:
        start = path.stat().st_size - PIXEL_BYTES - len(head)
        assert start > 132
        file.seek(start)
        assert file.read(len(head)) == head
        for number in range(FRAMES):
            assert file.read(FRAME_BYTES) == frame, f"frame {number}"
        assert file.read(1) == b""
