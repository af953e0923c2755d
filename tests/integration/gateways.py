"""What the tests of this folder ask of a running gateway: its processes, its spool, and that Orthanc has it all."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

from gateway.deliveries import SOCKET_NAME
from gateway.spool import Spool
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.orthanc import Orthanc
from tests.support.processes import cmdline, wait_until
from tests.support.rawdicom import RawPeer, image
from tests.support.server import Server

DRAIN_TIMEOUT_S: Final = 60
PROCESS_TIMEOUT_S: Final = 30

WORKER, FORWARDER, SUPERVISOR = "scp.worker", "gateway.forwarding", "gateway.supervisor"

# The instance that was acknowledged and delivered before the one that a test is about.
FIRST: Final = "1.2.3.1"

# Tests do not wait for the delays that are right for production.
IMPATIENT: Final[dict[str, Any]] = {"MinimumRetryDelay": 0.1, "MaximumRetryDelay": 0.5}


def section(orthanc: Orthanc, **options: Any) -> dict[str, Any]:
    """The section DicomGateway of a standalone gateway with one worker that delivers to `orthanc`."""
    return {"Workers": 1, "Orthanc": {"Url": orthanc.url}, "Forwarding": IMPATIENT, **options}


def process_of(server: Server, module: str) -> int:
    """The only live process of the gateway that runs `module`; waits until there is one."""
    return wait_until(lambda: _one(processes_of(server, module)), PROCESS_TIMEOUT_S, f"there is not one {module}")


def processes_of(server: Server, module: str) -> list[int]:
    return [pid for pid in server.family() if module in cmdline(pid)]


def associated(server: Any) -> tuple[RawPeer, int, int]:
    """A peer with an association, the worker that serves it, and the thread in it that does.

    Before it, FIRST was stored, and has arrived in Orthanc.
    """
    worker = process_of(server, WORKER)
    address = str(server.state_directory / SOCKET_NAME)
    wait_until(lambda: _is_connected(address), PROCESS_TIMEOUT_S, "the worker does not reach the forwarder")
    with RawPeer(server.dicom_port) as first:
        first.associate()
        assert first.store(FIRST, ct(FIRST)).status == 0
        wait_until_drained(server)
        before = _thread_ids(worker)
        peer = RawPeer(server.dicom_port)
        peer.associate()
        (thread,) = _thread_ids(worker) - before
        first.release()
    return peer, worker, thread


def _is_connected(address: str) -> bool:
    """Whether somebody has connected to the Unix socket (proc(5), /proc/net/unix: state 03 is SS_CONNECTED)."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(fields[5] == "03" and fields[-1] == address for fields in sockets)


def _thread_ids(pid: int) -> set[int]:
    return {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}


def spool_of(server: Any) -> Spool:
    """The spool of an Orthanc with the gateway, or of a standalone gateway."""
    return Spool(server.state_directory)


def held(server: Any) -> dict[str, list[str]]:
    """The names of the instances in each folder of the spool."""
    spool = spool_of(server)
    incoming = [path.name for path in spool.incoming.glob("*/*.dcm")]
    return {"incoming": incoming, **{f.name: spool.names(f) for f in (spool.ready, spool.delivered, spool.failed)}}


def wait_until_drained(server: Any) -> None:
    """Waits until nothing is ready any more; AssertionError if something has failed."""
    wait_until(lambda: not held(server)["ready"], DRAIN_TIMEOUT_S, lambda: f"the spool does not drain: {held(server)}")
    assert held(server)["failed"] == []


def ct(sop_instance_uid: str, size: int = 100_000) -> bytes:
    """The data set of a CT image with `size` bytes of pixel data that are its own."""
    pixels = Random(sop_instance_uid).randbytes(size)
    return image(sop_instance_uid, rest=element(PIXEL_DATA, "OW", pixels))


def data_set_of(file: bytes) -> bytes:
    """The bytes after the file meta information of a Part 10 file (PS3.10 7.1)."""
    assert file[128:132] == b"DICM"
    (length,) = struct.unpack_from("<L", file, 140)
    return file[144 + length :]


def assert_stored(orthanc: Orthanc, sent: Mapping[str, bytes]) -> None:
    """Orthanc has these instances, by SOP Instance UID, with exactly these data sets, and no other."""
    assert orthanc.count() == len(sent)
    for uid, data_set in sent.items():
        identifier = orthanc.lookup(uid)
        assert identifier is not None, f"{uid} is missing"
        assert data_set_of(orthanc.file(identifier)) == data_set, f"{uid} is not what was sent"


def _one(pids: list[int]) -> int | None:
    return pids[0] if len(pids) == 1 else None
