"""Scripts that use up what their process may have, or fork it: one call is refused at most, and the next is served."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import MakeGateway
from tests.integration.gateways import ct, process_of, processes_of
from tests.integration.scripted_stores import gateway_with_script, statuses
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer, image

SCRIPT = "gateway.script_host"
REFUSED = 0xA700
TIMEOUT_S = 30


@pytest.fixture
def scripted(make_gateway: MakeGateway, tmp_path: Path) -> Any:
    return partial(gateway_with_script, make_gateway, tmp_path)


def test_instance_for_which_there_is_no_memory_is_refused_and_the_script_is_started_again(scripted: Any) -> None:
    gateway = scripted(
        """
import resource, orthanc

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'BAD':
        pages = int(open('/proc/self/statm').read().split()[0])
        limit = pages * resource.getpagesize() + (24 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""
    )
    before = process_of(gateway, SCRIPT)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(calling="BAD")
        assert peer.store("1.2.1", image("1.2.1")).status == 0
        assert peer.store("1.2.2", ct("1.2.2", size=64 << 20)).status == REFUSED
        peer.release()
    wait_until(lambda: process_of(gateway, SCRIPT) != before, TIMEOUT_S, "the script was not started again")
    assert statuses(gateway, ["1.2.3"], calling="GOOD") == [0]


def test_script_without_descriptors_is_started_again(scripted: Any, tmp_path: Path) -> None:
    go, full = tmp_path / "go", tmp_path / "full"
    gateway = scripted(
        f"""
import os, resource, time, orthanc

def fill(kept=[]):
    try:
        while True:
            kept.append(os.open('/dev/null', os.O_RDONLY))
    except OSError:
        return kept

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'BAD':
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.close(fill().pop())
        open({str(full)!r}, 'w').close()
        fill()
        while not os.path.exists({str(go)!r}):
            time.sleep(0.01)
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""
    )
    before = process_of(gateway, SCRIPT)
    with ThreadPoolExecutor(2) as executor:
        bad = executor.submit(statuses, gateway, ["1.2.1"], calling="BAD")
        wait_until(full.exists, TIMEOUT_S, "there are ever more descriptors")
        good = executor.submit(statuses, gateway, ["1.2.2"], calling="GOOD")  # needs a connection of its own
        wait_until(lambda: "is to be started again" in gateway.log_text(), TIMEOUT_S, "nobody calls")
        go.touch()
        assert (bad.result(), good.result()) == ([0], [0])
    wait_until(lambda: process_of(gateway, SCRIPT) != before, TIMEOUT_S, "the script was not started again")


FORKS: Final = """
import os, sys, time, orthanc

def Filter(instance):
    child = os.fork()
    if child:
        return 0
    with open({pids!r}, 'a') as file:
        file.write(f'{{os.getpid()}} ')
    {ending}

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""


@pytest.mark.parametrize("ending", ["return 0xA700", "sys.exit(0)", "raise ValueError", "os._exit(0)"])
def test_process_that_a_script_forks_answers_nobody(scripted: Any, tmp_path: Path, ending: str) -> None:
    pids = tmp_path / "pids"
    gateway = scripted(FORKS.format(pids=str(pids), ending=ending))
    assert statuses(gateway, [f"1.2.1.{n}" for n in range(6)]) == [0] * 6
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 6, TIMEOUT_S, "a process was not forked")
    wait_until(lambda: all(map(has_ended, pids.read_text().split())), TIMEOUT_S, "a forked process stays")


def test_process_that_a_script_forks_does_not_outlive_the_connections_of_the_host(
    scripted: Any, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    gateway = scripted(FORKS.format(pids=str(pids), ending="time.sleep(60)"), FilterTimeout=5)
    assert statuses(gateway, ["1.2.1"]) == [0]
    wait_until(lambda: pids.exists() and pids.read_text().split(), TIMEOUT_S, "no process was forked")
    (left,) = map(int, pids.read_text().split())
    try:
        (host,) = (pid for pid in processes_of(gateway, SCRIPT) if pid != left)
        os.kill(host, signal.SIGKILL)
        began = time.monotonic()
        assert statuses(gateway, ["1.2.2"]) == [0]
        assert time.monotonic() - began < 4, "the end of the process was not noticed, because another one holds sockets"
    finally:
        for pid in {left, *map(int, pids.read_text().split())}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def has_ended(pid: str) -> bool:
    """Whether a process is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
