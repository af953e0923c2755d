"""How the processes of the gateway are started, and begin: settings on standard input, never on a command line.

`python -I`: neither the caller's folder nor its PYTHON* variables decide what is imported.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gateway import log
from gateway.options import config
from gateway.options.config import Configuration

# What the supervisor asks each process again and again, and is answered by it.
PING: Final = b'{"ping": 1}'
PONG: Final = b'{"pong": 1}'


@dataclass(frozen=True)
class Settings:
    """What a process is told: Orthanc's configuration and how to reach Orthanc. Holds secrets."""

    content: dict[str, Any]
    base_directory: str
    # Inside Orthanc: the value for the Authorization header, and the descriptors shared with the glue.
    authorization: str | None = None
    control_fd: int | None = None
    post_fd: int | None = None
    # What Orthanc deletes, as the glue hears it; only if quotas count.
    changes_fd: int | None = None
    # A packet for each study that Orthanc calls stable.
    studies_fd: int | None = None
    # A packet for each of Orthanc's events; only if there is a script.
    events_fd: int | None = None
    # Inside Orthanc a script may change what is posted before it is stored (RegisterReceivedInstanceCallback).
    is_changed_on_arrival: bool = False
    # The file `Script` is loaded inside Orthanc too, by whatever way.
    is_script_in_orthanc: bool = False
    # Whose plugin started the gateway.
    orthanc_pid: int | None = None

    @property
    def in_orthanc(self) -> bool:
        """Whether Orthanc's plugin started the gateway."""
        return self.control_fd is not None

    def configuration(self) -> Configuration:
        """Validate; raises ConfigurationError."""
        return config.parse(self.content, Path(self.base_directory), in_orthanc=self.in_orthanc)

    def configure_log(self, configuration: Configuration, process: str) -> None:
        """Set up logging of this process."""
        section = configuration.gateway.log
        log.configure(section.level, "Relayed" if self.in_orthanc else section.format, process)


def read_settings() -> Settings:
    """Read what the parent wrote to our standard input."""
    return Settings(**json.load(sys.stdin))


def start(
    module: str, settings: Settings, arguments: Sequence[str] = (), fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start `module` in a process of its own, with `fds` inherited under their numbers."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        pass_fds=tuple(fds),
        close_fds=True,
    )
    if process.stdin is None:
        raise RuntimeError("no pipe to the child")
    try:
        process.stdin.write(json.dumps(asdict(settings)).encode())
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; its exit is noticed where exits are noticed
    return process


def begin(name: str) -> tuple[socket.socket, Settings, Configuration]:
    """What a process of the supervisor's begins with: the log under `name`, and its control socket, the first argument.

    Signals are the supervisor's: Ctrl-C in a terminal goes to all of us.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    settings = read_settings()
    configuration = settings.configuration()
    settings.configure_log(configuration, name)
    return control, settings, configuration


def is_pinged(control: socket.socket) -> bool | None:
    """Read what the supervisor says: True, and answered, for a ping; False for stop; None if it is dead."""
    try:
        packet = control.recv(16)
        if packet == PING:
            control.send(PONG)
            return True
    except OSError:  # dead, and had not read all that we said
        return None
    return False if packet else None


def until_stopped(control: socket.socket) -> bool:
    """Answer the supervisor's pings until it says stop, or is dead; return whether it says so."""
    while said := is_pinged(control):
        pass
    return said is not None


def end_with(control: socket.socket) -> None:
    """End the process when the supervisor says so, or is dead, whatever is being done."""

    def wait() -> None:
        until_stopped(control)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def end_by_errors(what: str) -> None:
    """An error of a thread that nobody expected ends the process, `what` in the log; the supervisor starts it anew."""

    def end(arguments: threading.ExceptHookArgs) -> None:
        log.get_logger().error(f"{what} ends by an error of its own", exc_info=arguments.exc_value)
        os._exit(1)

    threading.excepthook = end
