"""A PostgreSQL of its own for the tests: Debian's server in a temporary folder, as an unprivileged user."""

import itertools
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.ports import accepts, free_port
from tests.support.processes import wait_until

BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
START_TIMEOUT_S: Final = 60
USER: Final = "gateway"


class PostgreSql:
    """One server. `database` makes an empty database and returns its SQLAlchemy URL."""

    def __init__(self, directory: Path) -> None:
        if not BINARIES.is_dir():
            pytest.skip(f"there is no PostgreSQL in {BINARIES}")
        self.port = free_port()
        self._directory = directory
        self._numbers = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        # initdb and postgres refuse to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        directory.mkdir(mode=0o755)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(directory, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(directory / "data"), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        """Returns when it answers."""
        command = self._command("postgres", "-D", str(self._directory / "data"), "-p", str(self.port))
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._directory}"]
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, START_TIMEOUT_S, lambda: (self._directory / "log").read_text())

    def stop(self) -> None:
        """Disconnects everybody; `start` goes on with the same data."""
        if self._server is not None:
            # Not a signal to our child, which may be runuser: pg_ctl finds the server itself.
            self._run("pg_ctl", "stop", "-D", str(self._directory / "data"), "-m", "immediate")
            self._server.wait(START_TIMEOUT_S)
            self._server = None

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        if not accepts(self.port):
            return False
        command = self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return subprocess.run(command, cwd=self._directory, check=False).returncode == 0

    def _run(self, *command: str) -> None:
        subprocess.run(
            self._command(*command), cwd=self._directory, check=True, stdin=subprocess.DEVNULL, capture_output=True
        )

    def _command(self, program: str, *arguments: str) -> list[str]:
        user: Sequence[str] = ["runuser", "-u", self._user, "--"] if self._user is not None else []
        return [*user, str(BINARIES / program), *arguments]


def remove(directory: Path) -> None:
    """Deletes what a server left."""
    shutil.rmtree(directory, ignore_errors=True)
