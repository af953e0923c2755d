"""kill -9 at each step of an instance's life: what was acknowledged is in Orthanc, nothing partial, nothing twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.conftest import MakeGateway, MakeOrthanc
from tests.integration.gateways import (
    FIRST,
    FORWARDER,
    SUPERVISOR,
    WORKER,
    assert_stored,
    associated,
    ct,
    held,
    process_of,
    section,
    wait_until_drained,
)
from tests.integration.tracing import Trace
from tests.support.orthanc import Orthanc
from tests.support.processes import exists, wait_until
from tests.support.rawdicom import COMMAND, DATA_SET, LAST, Gone, RawPeer, p_data, pdv, store_rq
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

# A gateway whose supervisor or whose Orthanc has died ends "within seconds".
END_TIMEOUT_S: Final = 20

INTERRUPTED, HALF = "1.2.3.2", "1.2.3.3"


class Step(NamedTuple):
    """A system call of the thread that receives, and where the instance's file is before it is executed."""

    call: str
    number: int
    folder: str
    is_answered: bool = False


RECEIVING: Final = {
    "before_the_file_is_flushed": Step("fsync", 1, "incoming"),
    "between_flush_and_rename": Step("rename", 1, "incoming"),
    "between_rename_and_flush_of_the_folder": Step("fsync", 2, "ready"),
    "before_the_response": Step("sendto", 1, "ready"),
    "before_the_forwarder_is_told": Step("sendto", 2, "ready", is_answered=True),
}


class Post(NamedTuple):
    """What the forwarder has asked of the kernel when the test kills; it is halted there, or Orthanc is."""

    call: str
    number: int
    reached: str
    orthanc_is_halted: bool


_HEAD_IS_SENT: Final = r"(?s)sendto\(\d+<TCP.* = \d+\n.*"

FORWARDING: Final = {
    "between_head_and_body_of_the_post": Post("sendto", 2, _HEAD_IS_SENT + r"sendto\(\d+<TCP", False),
    "before_orthanc_reads_the_post": Post("sendto", 0, _HEAD_IS_SENT + r"sendto\(\d+<TCP.* = \d+\n", True),
    "between_answer_and_removal": Post("rename", 1, r"rename\(", False),
}


class Site:
    """A gateway and its Orthanc, as two servers or as one."""

    def __init__(self, gateway: Any, orthanc: Orthanc) -> None:
        self.gateway = gateway
        self.orthanc = orthanc

    def victim(self, name: str) -> int:
        """The process that the test kills."""
        if name == "orthanc":
            return self.orthanc.pid
        if name == "supervisor" and isinstance(self.gateway, Gateway):
            return self.gateway.pid
        return process_of(self.gateway, {"worker": WORKER, "forwarder": FORWARDER, "supervisor": SUPERVISOR}[name])

    def kill(self, name: str, trace: Trace | None = None) -> None:
        """SIGKILL; returns when all that must end with it has ended. The thread halted by `trace` dies in its halt."""
        pid = self.victim(name)
        server = next((server for server in (self.gateway, self.orthanc) if server.pid == pid), None)
        if server is None:
            ending = [pid]
            os.kill(pid, signal.SIGKILL)
        else:
            ending = [each for each in server.family() if each != pid]
            server.kill()
        if trace is not None:
            # Until strace lets go of its thread, a killed process is a zombie that nobody can wait for.
            wait_until(lambda: trace.pid not in ending or not exists(trace.pid), END_TIMEOUT_S, "it is not killed")
            trace.release()
        wait_until(lambda: not any(map(exists, ending)), END_TIMEOUT_S, "processes outlive what they serve")

    def revive(self) -> None:
        """Starts again what has ended and is nobody's child."""
        for server in {self.gateway, self.orthanc}:
            if server.process.poll() is not None:
                server.start()
        process_of(self.gateway, WORKER)


@pytest.fixture
def standalone(orthanc: Orthanc, make_gateway: MakeGateway) -> Site:
    gateway = make_gateway(DicomGateway=section(orthanc))
    gateway.start()
    return Site(gateway, orthanc)


@pytest.fixture
def plugin(make_orthanc: MakeOrthanc) -> Site:
    server = make_orthanc(gateway=True, DicomGateway={"Workers": 1})
    server.start()
    return Site(server, server)


def _resend_and_compare(site: Site, uids: list[str]) -> None:
    """What a modality does that got no answer: all is in Orthanc then, once, as it was sent."""
    site.revive()
    with RawPeer(site.gateway.dicom_port) as peer:
        peer.associate()
        for uid in uids:
            assert peer.store(uid, ct(uid)).status == 0
        peer.release()
    wait_until_drained(site.gateway)
    assert_stored(site.orthanc, {uid: ct(uid) for uid in (FIRST, *uids)})
    assert held(site.gateway)["incoming"] == []


def _kill_while_receiving(site: Site, victim: str, step: Step, log: Path) -> None:
    peer, worker, thread = associated(site.gateway)
    with peer, Trace(worker, log, [step.call], tid=thread, halt=(step.call, step.number)) as trace:
        peer.message(1, store_rq(INTERRUPTED), ct(INTERRUPTED))
        if step.is_answered:
            assert peer.response().status == 0
        wait_until_halted(trace, step)
        site.kill(victim, trace)
        with pytest.raises(Gone):
            peer.response()
    if victim != "worker":
        # Nobody has tidied up yet: the file is where this step left it, or was delivered from there.
        assert bool(held(site.gateway)["incoming"]) == (step.folder == "incoming")
    if step.is_answered:
        site.revive()
        wait_until_drained(site.gateway)
        assert_stored(site.orthanc, {uid: ct(uid) for uid in (FIRST, INTERRUPTED)})
    else:
        _resend_and_compare(site, [INTERRUPTED])


def wait_until_halted(trace: Trace, step: Step) -> None:
    trace.wait_for(rf"(?s)(\b{step.call}\(.*){{{step.number}}}")


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
@pytest.mark.parametrize("step", RECEIVING)
def test_acknowledged_instances_survive_a_kill(standalone: Site, step: str, victim: str, tmp_path: Path) -> None:
    _kill_while_receiving(standalone, victim, RECEIVING[step], tmp_path / "strace")


@pytest.mark.parametrize("step", RECEIVING)
def test_acknowledged_instances_survive_a_kill_of_orthanc_with_the_plugin(
    plugin: Site, step: str, tmp_path: Path
) -> None:
    _kill_while_receiving(plugin, "orthanc", RECEIVING[step], tmp_path / "strace")


def _send_half(site: Site) -> RawPeer:
    peer, _worker, _thread = associated(site.gateway)
    data_set = ct(HALF)
    peer.send(p_data(pdv(1, COMMAND | LAST, store_rq(HALF))))
    for start in range(0, len(data_set) // 2, 10_000):
        peer.send(p_data(pdv(1, DATA_SET, data_set[start : start + 10_000])))
    wait_until(lambda: held(site.gateway)["incoming"], END_TIMEOUT_S, "nothing is being received")
    return peer


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
def test_half_an_instance_is_not_delivered_after_a_kill(standalone: Site, victim: str) -> None:
    with _send_half(standalone):
        standalone.kill(victim)
    standalone.revive()
    wait_until_drained(standalone.gateway)
    wait_until(lambda: not held(standalone.gateway)["incoming"], END_TIMEOUT_S, "half an instance stays in the spool")
    assert_stored(standalone.orthanc, {FIRST: ct(FIRST)})
    _resend_and_compare(standalone, [HALF])


def test_half_an_instance_is_not_delivered_after_a_kill_of_orthanc_with_the_plugin(plugin: Site) -> None:
    with _send_half(plugin):
        plugin.kill("orthanc")
    plugin.revive()
    wait_until_drained(plugin.gateway)
    assert_stored(plugin.orthanc, {FIRST: ct(FIRST)})
    _resend_and_compare(plugin, [HALF])


def _kill_while_forwarding(site: Site, victim: str, step: Post, log: Path) -> None:
    forwarder = process_of(site.gateway, FORWARDER)
    halt = (step.call, step.number) if step.number else None
    with RawPeer(site.gateway.dicom_port) as peer:
        peer.associate()
        if step.orthanc_is_halted:
            os.kill(site.orthanc.pid, signal.SIGSTOP)
        with Trace(forwarder, log, [step.call], halt=halt) as trace:
            assert peer.store(FIRST, ct(FIRST)).status == 0
            trace.wait_for(step.reached)
            site.kill(victim, trace)
        if step.orthanc_is_halted and victim != "orthanc":
            os.kill(site.orthanc.pid, signal.SIGCONT)
    site.revive()
    wait_until_drained(site.gateway)
    assert_stored(site.orthanc, {FIRST: ct(FIRST)})
    wait_until(lambda: len(held(site.gateway)["delivered"]) == 1, END_TIMEOUT_S, "what was delivered is not kept")


@pytest.mark.parametrize("victim", ["forwarder", "supervisor", "orthanc"])
@pytest.mark.parametrize("step", FORWARDING)
def test_an_acknowledged_instance_is_delivered_once_after_a_kill(
    standalone: Site, step: str, victim: str, tmp_path: Path
) -> None:
    _kill_while_forwarding(standalone, victim, FORWARDING[step], tmp_path / "strace")


@pytest.mark.parametrize("step", FORWARDING)
def test_an_acknowledged_instance_is_delivered_once_after_a_kill_of_orthanc_with_the_plugin(
    plugin: Site, step: str, tmp_path: Path
) -> None:
    _kill_while_forwarding(plugin, "orthanc", FORWARDING[step], tmp_path / "strace")
