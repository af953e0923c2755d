"""What was acknowledged is there, whatever happens to the process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.options.config import parse
from tests.support.mllp import Sender, code_of, order
from tests.support.postgresql import PostgreSql
from tests.support.processes import wait_until
from tests.worklist.hl7 import listening
from tests.worklist.hl7.listening import acted_on, prepare

ROOT = Path(__file__).parents[3]
SENDERS = 4


@contextmanager
def process(content: dict[str, Any], directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A listener in a process, and its port."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", listening.__name__, json.dumps(content), str(directory)]
        started = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE)
        theirs.close()
        assert started.stdout is not None
        try:
            yield started, int(started.stdout.readline())
        finally:
            started.kill()
            started.wait()
            started.stdout.close()


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_what_was_acknowledged_survives_kill(tmp_path: Path, server: str, request: pytest.FixtureRequest) -> None:
    content: dict[str, Any] = {"DicomGateway": {"StateDirectory": str(tmp_path), "Hl7": {}}}
    if server == "postgresql":
        postgresql: PostgreSql = request.getfixturevalue("postgresql")
        content["DicomGateway"]["Database"] = postgresql.database()
    database = prepare(parse(content, tmp_path))
    acknowledged: list[str] = []
    sent: list[str] = []

    def send(port: int, number: int) -> None:
        with Sender(port) as sender:
            for message in range(10_000):
                control_id = f"{number}.{message}"
                sent.append(control_id)
                try:
                    answer = sender.ask(order(control_id))
                except OSError:
                    return
                if answer is None:
                    return
                assert code_of(answer) == "AA"
                acknowledged.append(control_id)

    with process(content, tmp_path) as (victim, port):
        threads = [threading.Thread(target=send, args=(port, number)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(acknowledged) >= 50, 20, "nothing is acknowledged")
        os.kill(victim.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert set(acknowledged) <= set(acted_on(database))
    # Senders without an acknowledgement send again, and some with one.
    with process(content, tmp_path) as (_process, port), Sender(port) as sender:
        for control_id in sent:
            assert code_of(sender.ask(order(control_id))) == "AA"
    assert sorted(acted_on(database)) == sorted(sent)
    database.close()
