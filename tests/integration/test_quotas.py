"""Quotas over the life of instances: deleted in Orthanc, failed, deleted by hand, and through kill -9 at each step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import (
    IMPATIENT,
    WORKER,
    associated,
    ct,
    held,
    process_of,
    section,
    wait_until_drained,
)
from tests.integration.test_crashes import RECEIVING, wait_until_halted
from tests.integration.tracing import Trace
from tests.support.orthanc import Orthanc
from tests.support.processes import exists, wait_until
from tests.support.rawdicom import Gone, RawPeer, store_rq
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

KEEPER: Final = "gateway.quotas"
DEADLINE_S: Final = 40
OUT_OF_RESOURCES: Final = 0xA700
LIMIT: Final = 3
RULE: Final = {"Name": "x", "MaximumInstances": LIMIT}


def store(server: Any, *uids: str, size: int = 1000) -> list[int]:
    """The statuses of these instances on one association."""
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        statuses = [peer.store(uid, ct(uid, size)).status for uid in uids]
        peer.release()
    return statuses


def fill(server: Any) -> None:
    assert store(server, *(f"1.5.{n}" for n in range(LIMIT + 1))) == [0] * LIMIT + [OUT_OF_RESOURCES]


def wait_for_room(server: Any, count: int) -> None:
    """Waits until exactly `count` more are accepted. Instances that were tried in vain cost nothing."""
    for number in range(count):
        uid = f"1.6.{number}"
        wait_until(lambda uid=uid: store(server, uid) == [0], DEADLINE_S, f"{uid} of {count} is not accepted")
    assert store(server, "1.7.1") == [OUT_OF_RESOURCES]


@pytest.mark.parametrize("level", ["instances", "studies", "patients"])
def test_what_orthanc_deletes_is_given_back_at_once_with_the_plugin(make_orthanc: MakeOrthanc, level: str) -> None:
    orthanc = make_orthanc(gateway=True, DicomGateway={"Quotas": {"Rules": [RULE]}, "Forwarding": IMPATIENT})
    orthanc.start()
    fill(orthanc)
    orthanc.wait_for_count(LIMIT)
    log = len(orthanc.log_text())
    deleted = orthanc.get(f"/{level}")[0]
    orthanc.delete(f"/{level}/{deleted}")
    # Before anybody asks for room: the deletion itself is heard of.
    wait_until(
        lambda: "given back to the quotas" in orthanc.log_text()[log:], DEADLINE_S, "the deletion is not noticed"
    )
    wait_for_room(orthanc, 1 if level == "instances" else LIMIT)


def test_what_orthanc_deletes_is_given_back_to_a_gateway_on_its_own(
    orthanc: Orthanc, make_gateway: MakeGateway
) -> None:
    gateway = make_gateway(DicomGateway=section(orthanc, Quotas={"Rules": [RULE]}))
    gateway.start()
    fill(gateway)
    orthanc.wait_for_count(LIMIT)
    for identifier in orthanc.instances()[:2]:
        orthanc.delete(f"/instances/{identifier}")
    wait_for_room(gateway, 2)


def test_deletions_while_the_gateway_was_down_are_found_at_its_start(
    orthanc: Orthanc, make_gateway: MakeGateway
) -> None:
    gateway = make_gateway(
        DicomGateway=section(orthanc, Quotas={"Rules": [RULE]}, Forwarding={**IMPATIENT, "KeepDelivered": 0})
    )
    gateway.start()
    fill(gateway)
    orthanc.wait_for_count(LIMIT)
    wait_until(lambda: not any(held(gateway).values()), DEADLINE_S, lambda: str(held(gateway)))
    gateway.stop()
    for identifier in orthanc.instances():
        orthanc.delete(f"/instances/{identifier}")
    gateway.start()
    wait_for_room(gateway, LIMIT)


def test_failed_instance_counts_until_somebody_deletes_it(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    gateway = make_gateway(DicomGateway=section(orthanc, Quotas={"Rules": [RULE]}))
    gateway.start()
    assert store(gateway, "1.5.1") == [0]
    wait_until_drained(gateway)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.5.1", ct("1.5.1", 2000)).status == 0
        peer.release()
    wait_until(lambda: held(gateway)["failed"], DEADLINE_S, "what differs is not in failed")
    assert store(gateway, "1.5.2", "1.5.3") == [0, OUT_OF_RESOURCES]
    command = [sys.executable, "-m", "gateway.cli", "queue", "delete", "all", "-c", str(gateway.file)]
    subprocess.run(command, check=True, capture_output=True)
    wait_for_room(gateway, 1)


def test_stored_bytes_are_those_of_orthanc_and_of_what_waits(orthanc: Orthanc, make_gateway: MakeGateway) -> None:
    quotas = {"MaximumStoredBytes": 1_000_000}
    gateway = make_gateway(DicomGateway=section(orthanc, Quotas=quotas))
    gateway.start()
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        statuses = [peer.store(f"1.5.{n}", ct(f"1.5.{n}", 150_000)).status for n in range(12)]
        peer.release()
    accepted = statuses.count(0)
    assert accepted <= 6
    assert statuses[-1] == OUT_OF_RESOURCES
    wait_until_drained(gateway)
    assert int(orthanc.statistics()["TotalDiskSize"]) <= 1_000_000
    for identifier in orthanc.instances():
        orthanc.delete(f"/instances/{identifier}")
    wait_until(lambda: store(gateway, "1.6.1", size=150_000) == [0], DEADLINE_S, "no room after all was deleted")


@pytest.mark.parametrize("victim", ["worker", "keeper", "supervisor"])
@pytest.mark.parametrize("step", RECEIVING)
def test_a_kill_neither_leaks_nor_exceeds_the_limit(
    orthanc: Orthanc, make_gateway: MakeGateway, step: str, victim: str, tmp_path: Path
) -> None:
    gateway = make_gateway(DicomGateway=section(orthanc, Quotas={"Rules": [RULE]}))
    gateway.start()
    halt = RECEIVING[step]
    peer, worker, thread = associated(gateway)  # stores the first
    with peer, Trace(worker, tmp_path / "strace", [halt.call], tid=thread, halt=(halt.call, halt.number)) as trace:
        peer.message(1, store_rq("1.5.2"), ct("1.5.2"))
        wait_until_halted(trace, halt)
        kill(gateway, victim, trace)
        if victim == "keeper":
            assert peer.response().status == 0
        else:
            with pytest.raises(Gone):
                peer.response()
    if victim == "supervisor":
        gateway.start()
    process_of(gateway, WORKER)
    process_of(gateway, KEEPER)
    # The sender sends it again: it is counted once, whether it had been kept or not.
    wait_until(lambda: resend(gateway, "1.5.2"), DEADLINE_S, "it is not accepted again")
    wait_until_drained(gateway)
    wait_for_room(gateway, LIMIT - 2)
    wait_until_drained(gateway)
    assert orthanc.count() == LIMIT


def resend(gateway: Gateway, uid: str) -> bool:
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        return peer.store(uid, ct(uid)).status == 0


def kill(gateway: Gateway, victim: str, trace: Trace) -> None:
    """SIGKILL, to what the name says; returns when all that must end with it has."""
    if victim == "supervisor":
        ending = [pid for pid in gateway.family() if pid != gateway.pid]
        gateway.kill()
    else:
        ending = [process_of(gateway, {"worker": WORKER, "keeper": KEEPER}[victim])]
        os.kill(ending[0], signal.SIGKILL)
    wait_until(lambda: trace.pid not in ending or not exists(trace.pid), DEADLINE_S, "it is not killed")
    trace.release()
    wait_until(lambda: not any(map(exists, ending)), DEADLINE_S, "processes outlive what they serve")
