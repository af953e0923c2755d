"""CPU time and memory of a server's processes, read from /proc."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SAMPLE_INTERVAL_S = 0.25
QUIET_WINDOW_S = 0.5
QUIET_SHARE = 0.05  # of one core

# A server's own program, and what the gateway's processes call themselves on their command lines.
SERVER = "server"
GATEWAY_ROLES = ("worker", "forwarding", "supervisor")
GATEWAY_OTHER = "gateway"


@dataclass(frozen=True)
class Stat:
    pid: int
    parent: int
    session: int
    program: str
    cpu_s: float  # of the process and of its children that ended and were waited for


def tree(root: int) -> list[Stat]:
    """The process `root`, its descendants, and what else lives in its session (it must lead one)."""
    stats = {stat.pid: stat for stat in all_processes()}
    members = {root}
    for stat in sorted(stats.values(), key=lambda stat: stat.pid):
        if stat.session == root or stat.parent in members:
            members.add(stat.pid)
    return [stats[pid] for pid in members if pid in stats]


def still_there(processes: list[Stat]) -> list[Stat]:
    """Those that have not ended (zombies included)."""
    before = {(stat.pid, stat.program) for stat in processes}
    return [stat for stat in all_processes() if (stat.pid, stat.program) in before]


def all_processes() -> Iterator[Stat]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:  # it ended between the listing and here
            continue
        # proc(5): the program's name stands in parentheses and may itself contain some.
        program = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        ticks = sum(int(field) for field in fields[11:15])
        yield Stat(int(entry.name), int(fields[1]), int(fields[3]), program, ticks / TICKS_PER_S)


def role(stat: Stat, root_program: str) -> str:
    if stat.program == root_program:
        return SERVER
    try:
        arguments = Path(f"/proc/{stat.pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        arguments = []
    # Last parts of paths only: a folder above may have any name.
    title = " ".join([stat.program, *(Path(argument).name for argument in arguments)]).lower()
    return next((name for name in GATEWAY_ROLES if name in title), GATEWAY_OTHER)


def peak_mb(pid: int | str) -> float | None:
    """Peak resident memory in MB (VmHWM); None for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")), None)


def wait_until_quiet(root: int, timeout_s: float) -> None:
    """Return when a server has nothing more to do of its own accord, or after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        with Meter(root) as meter:
            time.sleep(QUIET_WINDOW_S)
            busy = sum(meter.cpu_s().values()) / QUIET_WINDOW_S
        if busy <= QUIET_SHARE or time.monotonic() > deadline:
            return


class Meter:
    """CPU seconds since the `with` was entered, and the highest peak memory of a process of each role.

    Memory is sampled because a process that ends takes its figure along (storescp forks).
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._roles: dict[int, str] = {}
        self._cpu_s: dict[int, float] = {}
        self._peak_mb: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._at_start_s = self._totals_s()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        with self._lock:
            processes = tree(self._root)
            root_program = next((stat.program for stat in processes if stat.pid == self._root), "")
            self._cpu_s = {stat.pid: stat.cpu_s for stat in processes}
            for stat in processes:
                name = self._roles[stat.pid] = role(stat, root_program)
                peak = peak_mb(stat.pid)
                if peak is not None:
                    self._peak_mb[name] = max(peak, self._peak_mb.get(name, 0.0))

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds up to now: `server` for the server's program, `gateway` for what it started."""
        self._sample()
        return {group: seconds - self._at_start_s.get(group, 0.0) for group, seconds in self._totals_s().items()}

    def _totals_s(self) -> dict[str, float]:
        # Sums, because the time of a process that has ended goes over to the one that waited for it.
        totals_s = {SERVER: 0.0}
        for pid, seconds in self._cpu_s.items():
            group = SERVER if self._roles[pid] == SERVER else GATEWAY_OTHER
            totals_s[group] = totals_s.get(group, 0.0) + seconds
        return totals_s

    def peak_mb(self) -> dict[str, float]:
        self._sample()
        return dict(self._peak_mb)
