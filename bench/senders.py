"""DCMTK's storescu as the sending modality, timed by the lines of its own log."""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.machine import program

# Each line begins with the time. The dots that storescu prints for each PDU are left out.
LOG_CONFIGURATION = """\
log4cplus.rootLogger = INFO, file
log4cplus.appender.file = log4cplus::FileAppender
log4cplus.appender.file.File = {log}
log4cplus.appender.file.ImmediateFlush = true
log4cplus.appender.file.layout = log4cplus::PatternLayout
log4cplus.appender.file.layout.ConversionPattern = %D{{%s.%q}} %p %m%n
log4cplus.logger.dcmtk.apps.storescu.progress = WARN
"""
REQUESTING = "Requesting Association"
RELEASING = "Releasing Association"
SUCCESS = "Received Store Response (Success)"
TAIL_BYTES = 200
POLL_INTERVAL_S = 0.005
EXIT_TIMEOUT_S = 30.0


class SendingFailed(RuntimeError):
    """A storescu ended with an error, or not every instance was answered with success."""


@dataclass(frozen=True)
class Sent:
    """When the first association was requested and the last answer had arrived (time.time)."""

    started: float
    acknowledged: float


class Sending:
    """storescu processes that send `files` in equal parts on `associations` simultaneous associations.

    `nodelay` puts TCP_NODELAY=1 in their environment. Used as a context manager: entering starts them,
    leaving ends those that still run.
    """

    def __init__(self, folder: Path, port: int, files: Sequence[Path], associations: int, *, nodelay: bool) -> None:
        self._parts = [part for index in range(associations) if (part := files[index::associations])]
        self._logs = [folder / f"sender-{index}.log" for index in range(len(self._parts))]
        self._port = port
        self._environment = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        self._environment["TZ"] = "UTC"  # the log's times are local ones
        if nodelay:
            self._environment["TCP_NODELAY"] = "1"
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            for index, (log, part) in enumerate(zip(self._logs, self._parts, strict=True)):
                self._processes.append(self._storescu(f"BENCH{index}", log, part))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()  # does nothing to one that has been waited for
            process.wait()

    def _storescu(self, calling: str, log: Path, files: Sequence[Path]) -> subprocess.Popen[bytes]:
        configuration = log.with_suffix(".cfg")
        configuration.write_text(LOG_CONFIGURATION.format(log=log))
        command = [
            program("storescu"),
            "--log-config",
            str(configuration),
            "-aec",
            "ORTHANC",
            "-aet",
            calling,
        ]
        command += ["127.0.0.1", str(self._port), *map(str, files)]
        with log.with_suffix(".out").open("wb") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment
            )

    def wait_until_acknowledged(self, timeout_s: float) -> Sent:
        """Return when every instance has been answered with success. Raises SendingFailed.

        The time runs from the moment at which the first storescu requests its association (it has started and
        looked at its files by then) to the moment at which the last one begins to release its own.
        """
        deadline = time.monotonic() + timeout_s
        while not all(map(self._has_finished, self._processes, self._logs)):
            if time.monotonic() > deadline:
                raise SendingFailed(f"not all acknowledged after {timeout_s:.0f} s")
            time.sleep(POLL_INTERVAL_S)
        lines = [line for log in self._logs for line in _read(log).splitlines()]
        asked, acknowledged = sum(map(len, self._parts)), sum(line.endswith(SUCCESS) for line in lines)
        if acknowledged != asked:
            trouble = next((line for line in lines if re.search(r" (WARN|ERROR|FATAL) ", line)), "")
            statuses = [process.poll() for process in self._processes]
            raise SendingFailed(f"{acknowledged} of {asked} acknowledged; status {statuses}; {trouble}")
        return Sent(
            min(log_time(line) for line in lines if line.endswith(REQUESTING)),
            max(log_time(line) for line in lines if line.endswith(RELEASING)),
        )

    def wait_until_ended(self) -> None:
        """Raises SendingFailed if a storescu does not end with status 0."""
        for process in self._processes:
            try:
                status = process.wait(EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                raise SendingFailed("a storescu does not end") from error
            if status != 0:
                raise SendingFailed(f"all acknowledged, but a storescu ended with status {status}")

    def _has_finished(self, process: subprocess.Popen[bytes], log: Path) -> bool:
        return process.poll() is not None or _tail(log).rstrip().endswith(RELEASING)


def _read(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""


def _tail(log: Path) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")


def log_time(line: str) -> float:
    return float(line.split(" ", 1)[0])
