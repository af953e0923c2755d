"""A process of the gateway that must always run: its start, its end, and when it is started again."""

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import Final

from gateway import child
from gateway.child import Settings
from gateway.log import get_logger

FIRST_RESTART_DELAY_S: Final = 0.2
LAST_RESTART_DELAY_S: Final = 30.0
# A process that lived so long starts again without delay.
HEALTHY_LIFE_S: Final = 60.0

PING_INTERVAL_S: Final = 5.0
# Who is silent for so long is stuck; nothing that a process does keeps the thread that answers for so long.
PING_TIMEOUT_S: Final = 30.0


@dataclass(eq=False)
class Process:
    """One process, whether it runs or waits to be started again.

    `module` runs with `fds` inherited under their numbers, and with `arguments` after that of its control socket: when
    that closes it ends.
    """

    name: str
    module: str
    fds: tuple[int, ...] = ()
    arguments: tuple[str, ...] = ()
    # Told to stop while the associations finish, not after them.
    stops_first: bool = False
    popen: subprocess.Popen[bytes] | None = None
    pidfd: int | None = None
    control: socket.socket | None = None
    ready: bool = False
    failures: int = 0
    started_at: float = 0.0
    restart_at: float | None = None
    # Pings since it last said anything; not the time, which also goes by while all of us are stopped (docker pause).
    unanswered: int = 0
    ping_timeout_s: float = PING_TIMEOUT_S

    def start(self, settings: Settings) -> tuple[int, socket.socket]:
        """Start it anew; return what is readable when it has ended, and when it says something. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            arguments = [str(theirs.fileno()), *self.arguments]
            try:
                self.popen = child.start(self.module, settings, arguments, [theirs.fileno(), *self.fds])
                self.pidfd = os.pidfd_open(self.popen.pid)
            except OSError:
                ours.close()
                raise
        self.control = ours
        self.ready, self.restart_at = False, None
        self.started_at = time.monotonic()
        self.unanswered = 0
        get_logger().debug("started", name=self.name, pid=self.popen.pid)
        return self.pidfd, self.control

    def ended(self) -> tuple[int | None, float]:
        """Take note of its end: return its exit status, and the delay in seconds after which it is due again."""
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        status = self.popen.wait() if self.popen is not None else None
        if time.monotonic() - self.started_at > HEALTHY_LIFE_S:
            self.failures = 0
        return status, self.start_later()

    def start_later(self) -> float:
        """Have it due again after a delay, which is returned, in seconds; a longer one each time."""
        self.failures += 1
        delay = min(LAST_RESTART_DELAY_S, FIRST_RESTART_DELAY_S * 2.0 ** min(self.failures - 1, 30))
        self.restart_at = time.monotonic() + delay
        return delay

    def ping(self) -> bool:
        """Ask it whether it is alive; False if it has not said for too long."""
        if self.unanswered * PING_INTERVAL_S >= self.ping_timeout_s:
            return False
        self.unanswered += 1
        self.tell(child.PING, socket.MSG_DONTWAIT)
        return True

    def tell(self, message: bytes, flags: int = 0) -> None:
        """Send a packet; whoever is gone or stuck does not get it."""
        if self.control is not None:
            with contextlib.suppress(OSError):
                self.control.send(message, flags)

    def wait(self, deadline: float) -> None:
        """Wait for its end until `deadline` (time.monotonic); then kill it."""
        if self.popen is None:
            return
        try:
            self.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            get_logger().error("process does not end and is killed", name=self.name)
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()
