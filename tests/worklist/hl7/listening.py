"""A listener under test: in this process on a port of its own, or as a process that can be killed.

The handler writes each message into a table, so that tests see what was acted on, and how often.
"""

import json
import os
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select

from gateway.database import Database, connect, migrate
from gateway.log import configure, get_logger
from gateway.options.config import Configuration, parse
from gateway.tls.context import TlsContexts, files_of_hl7
from tests.support.processes import wait_until
from worklist.hl7.errors import ErrorCode, MessageError, NotSupported
from worklist.hl7.handling import Received, Result
from worklist.hl7.inbox import Inbox
from worklist.hl7.listener import Listener

METADATA: Final = MetaData()
ACTED_ON: Final = Table(
    "test_acted_on",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("control_id", String(200)),
    Column("name", String(200)),
)


class Journal:
    """Writes MSH-10 and PID-5 of each message; what the event ZZ* says happens after that."""

    def __init__(self) -> None:
        self.peers: list[str] = []
        # A test that wants a message to take its time clears it.
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def handle(self, received: Received, connection: Connection) -> Result:
        header = received.header
        self.peers.append(received.peer)
        name = next(
            ((line + "|" * 5).split("|")[5] for line in received.text.split("\r") if line.startswith("PID|1||")), ""
        )
        connection.execute(insert(ACTED_ON).values(control_id=header.control_id, name=name))
        self.may_go_on.wait(20)
        if header.trigger_event == "ZZE":
            raise MessageError(ErrorCode.REQUIRED_FIELD_MISSING, "PID^1^5^2", "a name | is ^ wanted")
        if header.trigger_event == "ZZR":
            raise NotSupported(ErrorCode.UNSUPPORTED_EVENT_CODE, "ZZR is not for us")
        if header.trigger_event == "ZZB":
            raise KeyError("DOE^JANE")
        if header.trigger_event == "ZZS":
            connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")
        return Result("noted", ("noted",))


@dataclass
class Lines:
    """A log that is looked at."""

    lines: list[tuple[str, str, dict[str, Any]]]

    def __getattr__(self, level: str) -> Any:
        return lambda event, **keys: self.lines.append((level, event, keys))

    def keys_of(self, event: str) -> list[dict[str, Any]]:
        return [keys for _level, said, keys in list(self.lines) if said == event]


def configuration_of(directory: Path, database: str | None = None, **options: Any) -> Configuration:
    """A configuration with this section Hl7."""
    section: dict[str, Any] = {"StateDirectory": str(directory), "Hl7": options}
    if database is not None:
        section["Database"] = database
    return parse({"DicomGateway": section}, directory)


def prepare(configuration: Configuration) -> Database:
    """The database with all tables, and that of the Journal."""
    database = connect(configuration)
    migrate(database)
    with database.write() as connection:
        METADATA.create_all(connection)
    return database


class RunningListener:
    """A listener in threads of this process."""

    def __init__(self, configuration: Configuration) -> None:
        section = configuration.gateway.hl7
        assert section is not None
        self.handler = Journal()
        self.log = Lines([])
        self.database = prepare(configuration)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        files = files_of_hl7(configuration, section)
        tls = TlsContexts(files, configuration.orthanc.tls_policy(), self.log) if files is not None else None
        inbox = Inbox(self.database, self.handler, section, self.log)
        listener = Listener(self._listening, inbox, section, tls, self.log)
        self._control, theirs = socket.socketpair()
        self._thread = threading.Thread(target=listener.run, args=(theirs,), daemon=True)

    def __enter__(self) -> "RunningListener":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ask_to_stop()
        self.wait()
        self.database.close()

    def ask_to_stop(self) -> None:
        self._control.close()

    def wait(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()

    def acted_on(self) -> list[str]:
        """MSH-10 of what was acted on, in order."""
        return acted_on(self.database)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The keys of the first log line that says so."""
        return wait_until(lambda: self.log.keys_of(event), 20, lambda: f"{event!r} is not in {self.log.lines}")[0]


def acted_on(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(ACTED_ON.c.control_id).order_by(ACTED_ON.c.id)).scalars())


def main() -> None:
    """A process of its own: configuration and a directory as arguments; prints the port."""
    content = json.loads(sys.argv[1])
    configuration = parse(content, Path(sys.argv[2]))
    section = configuration.gateway.hl7
    assert section is not None
    configure("WARNING", "Text", "hl7")
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    inbox = Inbox(connect(configuration), Journal(), section, get_logger())
    print(listening.getsockname()[1], flush=True)
    control = socket.socket(fileno=os.dup(0))
    Listener(listening, inbox, section, None, get_logger()).run(control)
    os._exit(0)


if __name__ == "__main__":
    main()
