"""A state directory whose disk is full: 0xA700, nothing half received, and service when there is space again."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import MakeGateway
from tests.scp.conftest import UNREACHABLE_ORTHANC, Log, half_received, spooled
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.rawdicom import RawPeer, image
from tests.support.standalone import Gateway

DISK_BYTES: Final = 4 << 20
OUT_OF_RESOURCES: Final = 0xA700


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of its own."""
    directory = tmp_path / "disk"
    directory.mkdir()
    options = f"size={DISK_BYTES},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no permission to mount: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@pytest.fixture
def gateway(small_disk: Path, make_gateway: MakeGateway) -> Gateway:
    running = make_gateway(DicomGateway={"StateDirectory": str(small_disk), "Orthanc": UNREACHABLE_ORTHANC})
    running.start()
    return running


def _fill(directory: Path, leave_bytes: int = 0) -> Path:
    """Writes a file that takes all space but `leave_bytes`."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        os.ftruncate(file.fileno(), file.tell() - leave_bytes)
    return filler


def _ct(uid: str, pixel_bytes: int) -> bytes:
    return image(uid, rest=element(PIXEL_DATA, "OW", bytes(pixel_bytes)))


def test_instance_larger_than_the_disk_is_out_of_resources_and_the_next_one_is_stored(gateway: Gateway) -> None:
    log = Log(gateway)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        refused = peer.store("1.2.1", _ct("1.2.1", 2 * DISK_BYTES))
        assert refused.status == OUT_OF_RESOURCES
        assert refused.comment == "the disk is full: No space left on device"
        log.expect("WARNING", "peer=127.0.0.1", "calling=RAW", "0xA700", "the disk is full")
        assert half_received(gateway) == []
        assert peer.store("1.2.2", _ct("1.2.2", 4096)).status == 0
        peer.release()
    assert len(spooled(gateway)) == 1


@pytest.mark.parametrize("leave_bytes", [0, 4096, 8192], ids=["nothing", "one block", "two blocks"])
def test_gateway_that_is_left_without_space_goes_on_when_space_returns(gateway: Gateway, leave_bytes: int) -> None:
    filler = _fill(gateway.state_directory, leave_bytes)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        for _ in range(3):
            assert peer.store("1.2.1", _ct("1.2.1", 20_000)).status == OUT_OF_RESOURCES
            assert half_received(gateway) == []
        filler.unlink()
        assert peer.store("1.2.1", _ct("1.2.1", 20_000)).status == 0
        peer.release()
    assert len(spooled(gateway)) == 1


def test_what_was_acknowledged_before_the_disk_was_full_is_kept(gateway: Gateway) -> None:
    stored = []
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        for number in range(100):
            uid = f"1.2.{number + 1}"
            if peer.store(uid, _ct(uid, 100_000)).status == 0:
                stored.append(uid)
        peer.release()
    assert 20 < len(stored) < 60
    contents = [(gateway.state_directory / "spool" / "ready" / name).read_bytes() for name in spooled(gateway)]
    assert len(contents) == len(stored)
    for uid, content in zip(stored, contents, strict=True):
        assert content.endswith(_ct(uid, 100_000))


def test_disk_that_is_nearly_full_is_left_alone(small_disk: Path, make_gateway: MakeGateway) -> None:
    keep = DISK_BYTES // 2
    running = make_gateway(
        DicomGateway={
            "StateDirectory": str(small_disk),
            "Orthanc": UNREACHABLE_ORTHANC,
            "Quotas": {"MinimumFreeSpace": keep},
        }
    )
    running.start()
    with RawPeer(running.dicom_port) as peer:
        peer.associate()
        answers = [peer.store(f"1.2.{n}", _ct(f"1.2.{n}", 300_000)) for n in range(1, 12)]
        peer.release()
    statuses = [answer.status for answer in answers]
    assert 3 < statuses.count(0) < 8
    assert statuses[-1] == OUT_OF_RESOURCES
    assert answers[-1].comment.startswith("quota MinimumFreeSpace")
    status = os.statvfs(small_disk)
    assert status.f_bavail * status.f_frsize >= keep
    assert half_received(running) == []
