"""Several processes on one store, and one that is killed."""

import subprocess
import sys

from gateway.database import Database
from tests.support.worklists import items_of
from worklist import store

PROCESSES = 4
ORDERS = 30


def where(database: Database) -> str:
    url = database.engine.url
    return str(url.database) if database.is_sqlite else url.render_as_string(hide_password=False)


def start(database: Database, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.worklist.writers", where(database), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_several_processes_lose_nothing_and_double_nothing(database: Database) -> None:
    writers = [start(database, "same", str(ORDERS)) for _ in range(PROCESSES)]
    assert [writer.wait(60) for writer in writers] == [0] * PROCESSES
    for writer in writers:
        assert writer.stdout
        writer.stdout.close()
    found = sorted(item.keys.accession_number for item in items_of(database))
    assert found == sorted(f"A{number}" for number in range(ORDERS))


def test_what_was_committed_survives_kill_9(database: Database) -> None:
    with start(database, "endless") as writer:
        assert writer.stdout
        said = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
        said += [int(line) for line in writer.stdout.read().split()]
    found = {item.keys.accession_number: item.id for item in items_of(database)}
    assert set(range(len(said))) == set(said)
    assert {f"A{number}" for number in said} <= found.keys()
    with database.read() as connection:
        assert all(len(store.history(connection, item)) == 1 for item in found.values())
