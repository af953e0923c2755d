"""The order of system calls behind an acknowledgement: kill -9 cannot tell a flushed file from one in memory.

The file is written and flushed, gets its name in `ready`, the folder is flushed, and only then the peer hears of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import MakeGateway
from tests.integration.gateways import associated, ct, held, section, spool_of, wait_until_drained
from tests.integration.tracing import Trace
from tests.support.orthanc import Orthanc

pytestmark = pytest.mark.integration

CALLS: Final = [
    *("openat", "write", "writev", "pwrite64", "fsync", "fdatasync", "sync_file_range", "ftruncate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "sendto", "sendmsg"),
]
WRITES: Final = "write|writev|pwrite64|ftruncate"
RESPONSE: Final = r"(sendto|sendmsg)\(\d+<TCP:"


class OutOfOrder(Exception):
    """An acknowledgement came before what it promises."""


def _first(pattern: str, calls: list[str], what: str) -> int:
    for position, call in enumerate(calls):
        if re.match(pattern, call):
            return position
    raise OutOfOrder(f"{what}: there is none in\n" + "\n".join(calls))


def check_order(calls: list[str], ready: Path) -> dict[str, int]:
    """Where in the calls of one C-STORE each step is; OutOfOrder if one is missing or comes too early."""
    name = r"[^>\"]*/incoming/[^>\"]*\.dcm"
    is_write = re.compile(rf"({WRITES})\(\d+<{name}>")
    flush = _first(rf"fsync\(\d+<{name}>\)\s+= 0", calls, "flush of the file")
    rename = _first(rf'rename\w*\(.*"{name}", .*"{ready}/[^"/]*\.dcm"\)\s+= 0', calls, "rename into ready")
    folder = _first(rf"fsync\(\d+<{ready}>\)\s+= 0", calls, "flush of the folder")
    response = _first(RESPONSE, calls, "response")
    writes = [position for position, call in enumerate(calls) if is_write.match(call)]
    if not writes or not max(writes) < flush < rename < folder < response:
        raise OutOfOrder("\n".join(calls))
    return {"flush": flush, "rename": rename, "folder": folder, "response": response}


@pytest.fixture
def calls_of_a_store(orthanc: Orthanc, make_gateway: MakeGateway, tmp_path: Path) -> tuple[list[str], Path]:
    """What the thread that receives an instance asks of the kernel, from its first byte to the response."""
    gateway = make_gateway(DicomGateway=section(orthanc))
    gateway.start()
    peer, worker, thread = associated(gateway)
    with peer, Trace(worker, tmp_path / "strace", CALLS, tid=thread) as trace:
        assert peer.store("1.2.3.2", ct("1.2.3.2")).status == 0
        trace.wait_for(RESPONSE + ".*= \\d+\n")
        calls = trace.lines()
    wait_until_drained(gateway)
    assert len(held(gateway)["delivered"]) == 2
    return calls, spool_of(gateway).ready.resolve()


def test_file_and_name_are_flushed_before_the_response(calls_of_a_store: tuple[list[str], Path]) -> None:
    calls, ready = calls_of_a_store
    steps = check_order(calls, ready)
    assert steps["response"] < len(calls)


def test_an_acknowledgement_without_one_of_the_steps_would_be_noticed(
    calls_of_a_store: tuple[list[str], Path],
) -> None:
    calls, ready = calls_of_a_store
    steps = check_order(calls, ready)
    for missing in steps.values():
        with pytest.raises(OutOfOrder):
            check_order([call for position, call in enumerate(calls) if position != missing], ready)


def test_an_acknowledgement_before_one_of_the_steps_would_be_noticed(
    calls_of_a_store: tuple[list[str], Path],
) -> None:
    calls, ready = calls_of_a_store
    steps = check_order(calls, ready)
    for late in (steps["flush"], steps["rename"], steps["folder"]):
        with pytest.raises(OutOfOrder):
            check_order([*calls[:late], *calls[late + 1 :], calls[late]], ready)
