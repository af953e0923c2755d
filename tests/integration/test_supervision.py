"""The supervisor keeps a gateway going: processes that cannot be started, and that do not answer."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.child import Settings
from gateway.spool import Spool
from gateway.supervisor.process import PING_INTERVAL_S, PING_TIMEOUT_S, Process
from gateway.supervisor.supervisor import Supervisor
from tests.conftest import MakeGateway
from tests.integration.gateways import FORWARDER, process_of, processes_of
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer, image

TIMEOUT_S: Final = 30


def test_process_that_cannot_be_started_is_started_later(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(DicomGateway={"Workers": 1})
    gateway.start()
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3", image("1.2.3")).status == 0
        forwarder = process_of(gateway, FORWARDER)
        _soft, hard = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (3, hard))
        os.kill(forwarder, signal.SIGKILL)
        wait_until(lambda: "cannot start a process" in gateway.log_text(), TIMEOUT_S, "it was started")
        assert peer.store("1.2.4", image("1.2.4")).status == 0  # who is served notices nothing
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (hard, hard))
        wait_until(lambda: processes_of(gateway, FORWARDER), TIMEOUT_S, "it is not started any more")
        peer.release()
    assert gateway.terminate() == 0


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor with two workers, which takes its steps when the test says so."""
    section = {"StateDirectory": str(tmp_path / "state"), "Workers": 2}
    settings = Settings({"DicomPort": free_port(), "DicomGateway": section}, str(tmp_path))
    configuration = settings.configuration()
    Spool(configuration.state_directory).prepare()
    made = Supervisor(settings, configuration)
    for worker in made._workers:
        made._start(worker)
    take_steps(made, lambda: all(worker.ready for worker in made._workers))
    yield made
    for worker in made._workers:
        worker.kill()


def take_steps(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    """Deal with what workers say, without pings and restarts, until the condition holds."""

    def step() -> bool:
        for key, _events in supervisor._selector.select(0.05):
            key.data()
        return condition()

    wait_until(step, TIMEOUT_S, "it does not come to that")


def test_worker_that_answers_no_ping_is_killed_and_one_that_was_paused_is_not(supervisor: Supervisor) -> None:
    stuck, paused = supervisor._workers
    for worker in (stuck, paused):
        os.kill(pid_of(worker), signal.SIGSTOP)
    for _ in range(int(PING_TIMEOUT_S / PING_INTERVAL_S)):
        supervisor._ping()
    os.kill(pid_of(paused), signal.SIGCONT)
    take_steps(supervisor, lambda: paused.unanswered == 0)
    first = pid_of(stuck)
    supervisor._ping()
    take_steps(supervisor, lambda: stuck.restart_at is not None)
    assert paused.restart_at is None
    supervisor._start(stuck)
    assert pid_of(stuck) != first
    take_steps(supervisor, lambda: stuck.ready)


def pid_of(worker: Process) -> int:
    assert worker.popen is not None
    return worker.popen.pid
