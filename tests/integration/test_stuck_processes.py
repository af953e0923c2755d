"""A process that hangs is replaced, whichever it is; all that are stopped together with the supervisor are not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tests.integration.gateways import FORWARDER, WORKER, process_of, section
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.processes import exists, state, wait_until
from tests.support.rawdicom import RawPeer
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

# A fraction of the times of production.
IMPATIENT = """
import sys
from gateway.supervisor import process, supervisor, services
process.PING_INTERVAL_S = supervisor.PING_INTERVAL_S = 0.1
start = process.Process.__init__
def impatient(self, *arguments, **options):
    start(self, *arguments, **options)
    self.ping_timeout_s = 10.0  # a process that starts on a busy machine needs some seconds
process.Process.__init__ = impatient
from gateway.cli import main
sys.argv[0] = "dicom-gateway"
main()
"""
SERVICES = [
    "gateway.quotas",
    "gateway.script_host",
    FORWARDER,
    "worklist",
    "scp.commitment_reporter",
    "worklist.hl7",
    "worklist.feedback",
]


class ImpatientGateway(Gateway):
    def command(self) -> list[str]:
        return [sys.executable, "-c", IMPATIENT, "serve", str(self.file)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("stuck")
    orthanc = Orthanc(folder / "orthanc")
    (folder / "script.py").write_text("import orthanc\n")
    receiver = {"Name": "RIS", "Host": "127.0.0.1", "Port": free_port()}
    made = ImpatientGateway(
        folder / "gateway",
        DicomGateway=section(
            orthanc,
            Script=str(folder / "script.py"),
            Worklist={},
            StorageCommitment={"Enable": True},
            Hl7={"Port": free_port(), "Receivers": [receiver]},
            Quotas={"Rules": [{"Name": "x", "MaximumInstances": 1000}]},
        ),
    )
    try:
        made.start()
        yield made
    finally:
        made.close()
        orthanc.close()


def all_of(gateway: Gateway) -> dict[str, int]:
    return {name: process_of(gateway, name) for name in [*SERVICES, WORKER]}


def test_each_process_that_hangs_is_replaced(gateway: Gateway) -> None:
    before = all_of(gateway)
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not any(map(exists, before.values())), 30, lambda: f"still there: {gateway.log_tail()}")
    after = wait_until(lambda: all_of(gateway), 30, "not all are started again")
    assert not set(after.values()) & set(before.values())
    assert gateway.log_text().count("process does not answer and is killed") >= len(before)
    wait_until(lambda: _answers(gateway), 30, "the port is not served")


def test_what_was_stopped_with_the_supervisor_goes_on(gateway: Gateway) -> None:
    """As docker pause does, or the machine's hypervisor."""
    before = all_of(gateway)
    killed = gateway.log_text().count("is killed")
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        family = gateway.family()
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: all(state(pid) == "T" for pid in family), 20, "not all are stopped")
        time.sleep(11)  # longer than one of them alone may be silent
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        peer.release()
    assert all_of(gateway) == before
    assert gateway.log_text().count("is killed") == killed


def _answers(gateway: Gateway) -> bool:
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        peer.release()
    return True
