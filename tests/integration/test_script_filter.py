"""A script's filter of incoming instances: what it is given, what its result means, what becomes of its failures."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.script_host.packets import socket_path
from tests.conftest import MakeGateway
from tests.integration.gateways import process_of
from tests.integration.scripted_stores import gateway_with_script, statuses
from tests.support.processes import wait_until
from tests.support.standalone import Gateway

SCRIPT = "gateway.script_host"
REFUSED = 0xA700
TIMEOUT_S = 30


@pytest.fixture
def scripted(make_gateway: MakeGateway, tmp_path: Path) -> Any:
    return partial(gateway_with_script, make_gateway, tmp_path)


THREE_OF_STORESCU = """
import orthanc

accepted = 0

def Filter(receivedDicom):
    global accepted
    if receivedDicom.GetInstanceRemoteAet() == 'STORESCU':
        if accepted >= 3:
            return 0xA700
        accepted += 1
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""


def test_three_instances_are_accepted_and_no_more(scripted: Any) -> None:
    gateway = scripted(THREE_OF_STORESCU)
    assert statuses(gateway, [f"1.2.{n}" for n in range(5)]) == [0, 0, 0, 0xA700, 0xA700]
    assert statuses(gateway, ["1.3.1"], calling="OTHER") == [0]


def test_three_instances_are_accepted_by_four_workers_on_four_associations(scripted: Any) -> None:
    gateway = scripted(THREE_OF_STORESCU, workers=4)
    with ThreadPoolExecutor(4) as executor:
        found = executor.map(lambda a: statuses(gateway, [f"1.2.{a}.{n}" for n in range(5)]), range(4))
        assert sorted(status for each in found for status in each) == [0] * 3 + [0xA700] * 17


def test_filter_gets_the_instance_and_says_the_status(scripted: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    gateway = scripted(
        f"""
import json, orthanc

def Filter(instance):
    tags = json.loads(instance.GetInstanceSimplifiedJson())
    with open({str(seen)!r}, "w") as file:
        json.dump({{
            "remote": instance.GetInstanceRemoteAet(),
            "called": instance.GetInstanceCalledAet(),
            "ip": instance.GetInstanceRemoteIp(),
            "is_dicom": instance.GetInstanceOrigin() == orthanc.InstanceOrigin.DICOM_PROTOCOL,
            "syntax": instance.GetInstanceTransferSyntaxUid(),
            "size": instance.GetInstanceSize() == len(instance.GetInstanceData()),
            "magic": instance.GetInstanceData()[128:132].decode(),
            "uid": tags["SOPInstanceUID"],
            "full": json.loads(instance.GetInstanceJson())["0008,0018"]["Value"],
            "pixels": instance.HasInstancePixelData(),
            "frames": instance.GetInstanceFramesCount(),
        }}, file)
    return 0x0122

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""
    )
    assert statuses(gateway, ["1.2.3"], calling="CT1") == [0x0122]
    assert json.loads(seen.read_text()) == {
        "remote": "CT1",
        "called": "ORTHANC",
        "ip": "127.0.0.1",
        "is_dicom": True,
        "syntax": "1.2.840.10008.1.2.1",
        "size": True,
        "magic": "DICM",
        "uid": "1.2.3",
        "full": "1.2.3",
        "pixels": 1,
        "frames": 1,
    }
    assert list((gateway.state_directory / "spool" / "ready").iterdir()) == []


NO_STATUS = ("-1", "0x10000", "None", "'0'", "1 / 0", "exit(0)", "bytearray(1 << 40)")


def test_what_is_no_status_refuses_the_instance_and_only_this(scripted: Any) -> None:
    gateway = scripted(
        f"""
import json, orthanc

WAYS = [{", ".join(f"lambda: {way}" for way in NO_STATUS)}]

def Filter(instance):
    uid = json.loads(instance.GetInstanceSimplifiedJson())['SOPInstanceUID']
    return 0 if instance.GetInstanceRemoteAet() == 'GOOD' else WAYS[int(uid.split('.')[-1])]()

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""
    )
    assert statuses(gateway, [f"1.2.1.{n}" for n in range(len(NO_STATUS))], calling="BAD") == [REFUSED] * len(NO_STATUS)
    assert statuses(gateway, ["1.2.2"], calling="GOOD") == [0]


HANGING = {
    "sleep": "time.sleep(3600)",
    "busy": "[None for _ in iter(int, 1)]",
    "swallowing": """
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
""",
    "waiting": "threading.Event().wait()",
}


@pytest.mark.parametrize("how", HANGING)
def test_hanging_filter_refuses_in_time_and_the_next_instance_is_served(scripted: Any, how: str) -> None:
    gateway = scripted(
        f"""
import threading, time, orthanc

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'GOOD':
        return 0
    {HANGING[how]}

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
""",
        FilterTimeout=1,
    )
    assert statuses(gateway, ["1.2.0"], calling="GOOD") == [0]  # worker and script are up
    before = process_of(gateway, SCRIPT)
    started = time.monotonic()
    assert statuses(gateway, ["1.2.1"], calling="BAD") == [REFUSED]
    assert time.monotonic() - started < 5
    wait_until(lambda: statuses(gateway, ["1.2.2"], calling="GOOD") == [0], TIMEOUT_S, "nothing is accepted any more")
    if how in ("sleep", "swallowing", "waiting"):  # what Python's exceptions do not end is ended with its process
        wait_until(lambda: process_of(gateway, SCRIPT) != before, TIMEOUT_S, "the script was not started again")
        assert statuses(gateway, ["1.2.3"], calling="GOOD") == [0]


def test_filter_that_keeps_the_interpreter_lock_is_ended_with_its_process(scripted: Any) -> None:
    gateway = scripted(
        """
import re, orthanc

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'GOOD':
        return 0
    return int(bool(re.match('(a*)*b', 'a' * 64)))

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
""",
        FilterTimeout=1,
    )
    assert statuses(gateway, ["1.2.1"], calling="BAD") == [REFUSED]
    wait_until(lambda: statuses(gateway, ["1.2.2"], calling="GOOD") == [0], TIMEOUT_S, "nothing is accepted any more")


@pytest.mark.parametrize("how", ["os._exit(3)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)"])
def test_crash_refuses_one_instance_and_the_script_is_started_again(scripted: Any, how: str) -> None:
    gateway = scripted(
        f"""
import ctypes, os, orthanc

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'GOOD':
        return 0
    {how}

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""
    )
    assert statuses(gateway, ["1.2.1"], calling="BAD") == [REFUSED]
    assert statuses(gateway, ["1.2.2"], calling="GOOD") == [0]


def test_script_that_eats_memory_is_started_again(scripted: Any) -> None:
    gateway = scripted(
        """
import orthanc

eaten = []

def Filter(instance):
    if instance.GetInstanceRemoteAet() != 'GOOD':
        while True:
            eaten.append(bytearray(16 << 20))
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
""",
        MaximumMemory=1 << 30,
    )
    before = process_of(gateway, SCRIPT)
    assert statuses(gateway, ["1.2.1"], calling="BAD") == [REFUSED]
    wait_until(lambda: process_of(gateway, SCRIPT) != before, TIMEOUT_S, "the script was not started again")
    assert statuses(gateway, ["1.2.2"], calling="GOOD") == [0]


def connections_of_callers(gateway: Gateway) -> int:
    """Sockets of the script's process, those that it has not accepted yet too (proc(5), /proc/net/unix)."""
    path = str(socket_path(gateway.state_directory))
    return Path("/proc/net/unix").read_text().count(path)


def test_script_that_leaves_no_room_for_threads_is_started_again(scripted: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    gateway = scripted(
        f"""
import os, threading, time, orthanc

def Filter(instance):
    if instance.GetInstanceRemoteAet() == 'BAD':
        try:
            while True:
                threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        except RuntimeError:
            open({str(go)!r} + '.full', 'w').close()
        while not os.path.exists({str(go)!r}):
            time.sleep(0.01)
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
""",
        MaximumMemory=1 << 30,
    )
    before = process_of(gateway, SCRIPT)
    with ThreadPoolExecutor(2) as executor:
        bad = executor.submit(statuses, gateway, ["1.2.1"], calling="BAD")
        wait_until((tmp_path / "go.full").exists, TIMEOUT_S, "there is room for ever more threads")
        connections = connections_of_callers(gateway)
        good = executor.submit(statuses, gateway, ["1.2.2"], calling="GOOD")  # needs a thread of its own
        wait_until(lambda: connections_of_callers(gateway) > connections, TIMEOUT_S, "nobody calls")
        go.touch()
        assert (bad.result(), good.result()) == ([0], [0])
    wait_until(lambda: process_of(gateway, SCRIPT) != before, TIMEOUT_S, "the script was not started again")


def test_what_a_script_prints_is_logged_and_counted(scripted: Any) -> None:
    gateway = scripted(
        """
import os, sys, orthanc

def Filter(instance):
    for number in range(20000):
        print('line', number)
    os.write(1, b'x' * 1000000)
    print('an error', file=sys.stderr)
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""
    )
    assert statuses(gateway, ["1.2.1", "1.2.2"]) == [0, 0]
    log = gateway.log_text()
    assert 'text="line 0"' in log
    assert 'text="line 19999"' not in log
    assert "xxxx" not in log


def test_script_without_a_filter_costs_nothing_and_takes_nothing(scripted: Any) -> None:
    gateway = scripted("import orthanc")
    assert statuses(gateway, ["1.2.1"]) == [0]
    os.kill(process_of(gateway, SCRIPT), 9)
    assert statuses(gateway, ["1.2.2"]) == [0]


@pytest.mark.parametrize("text", ["import nothing_like_this", "def f(:", "raise SystemExit(0)", "orthanc.LogInfo('')"])
def test_script_that_cannot_be_loaded_refuses_instances_and_says_why(scripted: Any, text: str) -> None:
    gateway = scripted(text)
    started = time.monotonic()
    assert statuses(gateway, ["1.2.1"]) == [REFUSED]
    assert time.monotonic() - started < 8
    assert "the script cannot be loaded" in gateway.log_text()


def test_script_that_does_not_end_loading_refuses_in_time(scripted: Any) -> None:
    gateway = scripted("import time\ntime.sleep(3600)", FilterTimeout=1)
    assert statuses(gateway, ["1.2.1"]) == [REFUSED]
