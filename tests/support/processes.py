"""Processes as /proc shows them (proc(5)), and waiting for a condition."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

POLL_S: Final = 0.02


def wait_until(condition: Callable[[], T], timeout_s: float, message: str | Callable[[], str]) -> T:
    """The first true result of `condition`; AssertionError with `message` when the time runs out."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s} s: {message() if callable(message) else message}")
        time.sleep(POLL_S)
    return result


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, parents first; zombies included."""
    children: dict[int, list[int]] = {}
    for each in _pids():
        fields = _stat(each)
        if fields:
            children.setdefault(int(fields[1]), []).append(each)
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(0), [])
        found += below
        pending += below
    return found


def with_environment(name: str, value: str) -> list[int]:
    """Live processes that were started with this variable in their environment, by increasing pid.

    Finds orphans too, whose parent says nothing about where they come from.
    """
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return sorted(found)


def exists(pid: int) -> bool:
    """Whether the process lives (a zombie does not)."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    """One letter as in proc(5) (R, S, D, Z, T, ...), empty if there is no such process."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def cmdline(pid: int) -> list[str]:
    """The arguments the process was started with; empty for a process that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def open_fds(pid: int) -> dict[int, str]:
    """Open descriptors and what each refers to (a path, socket:[inode], pipe:[inode], ...)."""
    links = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links[int(entry.name)] = str(entry.readlink())
    return links


def threads(pid: int) -> int:
    """Number of threads."""
    return int(_status(pid, "Threads"))


def rss_kb(pid: int) -> int:
    """Memory now resident, in KiB."""
    return int(_status(pid, "VmRSS").removesuffix(" kB"))


def peak_rss_kb(pid: int) -> int:
    """The highest resident memory so far, in KiB."""
    return int(_status(pid, "VmHWM").removesuffix(" kB"))


def listeners(port: int) -> int:
    """How many sockets of this machine (IPv4 and IPv6) listen on the TCP port."""
    listen = "0A"  # TCP_LISTEN of the kernel's net/tcp_states.h
    count = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, status = line.split()[1], line.split()[3]
            count += status == listen and int(local.rpartition(":")[2], 16) == port
    return count


def kill(pid: int) -> None:
    """SIGKILL, whether or not the process still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, ... The name may contain anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _status(pid: int, key: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return line.partition(":")[2].strip()
    raise ProcessLookupError(f"process {pid} has no {key}: it has ended")
