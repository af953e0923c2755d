"""A server process under test: started, logged to a file, stopped or killed, and never left behind."""

import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Final

from tests.support.processes import exists, kill, wait_until, with_environment

START_TIMEOUT_S: Final = 30
STOP_TIMEOUT_S: Final = 60
LOG_TAIL_CHARACTERS: Final = 8000

# Marks a server's processes, so that those are found whose parent has died.
MARK: Final = "DICOM_GATEWAY_TEST_SERVER"


class Server:
    """Base of the servers below: what is common is the process, its log and its end."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "server.log"
        self._mark = uuid.uuid4().hex

    def command(self) -> list[str]:
        """Program and arguments."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers on its ports."""
        raise NotImplementedError

    def start(self) -> None:
        """Returns when the ports answer; AssertionError with the log if it ends before, or takes too long."""
        self.launch()
        wait_until(self._ended_or_ready, START_TIMEOUT_S, lambda: f"not up:\n{self.log_tail()}")
        if self._process.poll() is not None:
            raise AssertionError(f"ended with status {self._process.returncode}:\n{self.log_tail()}")

    def launch(self) -> None:
        """Starts the process and returns at once (for a start that is meant to fail)."""
        if self.process is not None and self.process.poll() is None:
            raise AssertionError("runs already")
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env=os.environ | self.environment | {MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Exit status of the process once it has ended by itself."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"has not ended after {timeout_s} s:\n{self.log_tail()}") from None

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, then the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL for the process itself only: its children are left to find out."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """stop() if it runs, then start()."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        self.start()

    def family(self) -> list[int]:
        """Every live process that descends from any start of this server, itself included."""
        return [pid for pid in with_environment(MARK, self._mark) if exists(pid)]

    def close(self) -> None:
        """Ends everything at once (SIGKILL): for the end of a test, where a clean stop is not the subject."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for pid in self.family():
            kill(pid)
        wait_until(lambda: not self.family(), STOP_TIMEOUT_S, "killed processes are still there")

    def log_text(self) -> str:
        """Standard output and error of all starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def log_tail(self) -> str:
        return self.log_text()[-LOG_TAIL_CHARACTERS:]

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise AssertionError("was never started")
        return self.process

    def _ended_or_ready(self) -> bool:
        return self._process.poll() is not None or self.ready()
