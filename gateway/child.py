"""How the processes of the gateway are started: settings on standard input, never on a command line.

`python -I`: neither the caller's folder nor its PYTHON* variables decide what is imported.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway import log
from gateway.options import config
from gateway.options.config import Configuration


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
