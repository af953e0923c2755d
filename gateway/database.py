"""The SQL ground floor: SQLite in the state directory, or PostgreSQL, with the tables that each room brings along.

A room keeps its tables and its migrations in its own folder. Each folder is a branch of Alembic's history with a label
of its own, so that rooms can grow side by side. Without a room that needs it no database is opened.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.durable import fsync_directory
from gateway.options.config import Configuration

SQLITE_NAME: Final = "gateway.sqlite"
BUSY_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5
# A server that has lost its power, or its network, says nothing: without these a query waits for a quarter of an hour.
POSTGRESQL_OPTIONS: Final = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

_PACKAGES: Final = Path(__file__).parent.parent
# The rooms' folders of migrations: paths, because the ground floor imports no room above it. All are always named,
# since Alembic refuses a database that has a branch which it does not know.
MIGRATIONS: Final[tuple[Path, ...]] = (
    _PACKAGES / "gateway" / "quotas" / "migrations",
    _PACKAGES / "worklist" / "migrations",
    _PACKAGES / "worklist" / "hl7" / "migrations",
    _PACKAGES / "worklist" / "feedback" / "migrations",
    _PACKAGES / "worklist" / "orders" / "migrations",
    _PACKAGES / "worklist" / "performed" / "migrations",
    _PACKAGES / "storage_commitment" / "migrations",
)

# PostgreSQL's advisory lock of the migrations; a room that has a lock of its own takes another number.
_MIGRATION_LOCK: Final = 0x44_47_00_01


class DatabaseError(Exception):
    """The database cannot be used. The text is one line for a person, without a password."""


class Database:
    """One engine; thread-safe. Connections are opened when they are needed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, lock: int | None = None) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back if an exception leaves it.

        On SQLite writers follow each other from their first statement on (BEGIN IMMEDIATE), so that none reads what
        another one is about to change. On PostgreSQL those with the same `lock` do.
        """
        with translated(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            if lock is not None and not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            yield connection

    def close(self) -> None:
        """Close all connections that nobody uses."""
        self.engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """What goes wrong with SQL comes out as a DatabaseError."""
    try:
        yield
    except SQLAlchemyError as error:
        raise DatabaseError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """What the driver says, in one line, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split())


def connect(configuration: Configuration) -> Database:
    """The database of this gateway. Nothing is opened yet."""
    if configuration.gateway.database is not None:
        return connect_postgresql(configuration.gateway.database.get_secret_value())
    return connect_sqlite(configuration.state_directory / SQLITE_NAME)


def connect_postgresql(url: str) -> Database:
    """PostgreSQL under an SQLAlchemy URL. Raises DatabaseError when its driver is not installed."""
    try:
        # A connection that the server or a firewall closed meanwhile is noticed before it is used.
        engine = create_engine(url, pool_pre_ping=True, connect_args=POSTGRESQL_OPTIONS)
    except ModuleNotFoundError as error:
        raise DatabaseError("psycopg is not installed: install the extra 'postgresql'") from error
    return Database(engine)


def connect_sqlite(path: Path) -> Database:
    """SQLite in the file `path`, which is made when it is not there, readable for its owner only."""
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None}, pool_pre_ping=False
    )

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        # A commit is on disk before it returns: what is promised is counted after a power failure too.
        # What a savepoint would restore is kept in memory: otherwise each transaction makes a file of it.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return Database(engine)


def migrate(database: Database, folders: Sequence[Path] = MIGRATIONS) -> None:
    """Bring the tables of all rooms to this version. Raises DatabaseError.

    Several gateways may do it at the same time: the transaction holds a lock.
    """
    # Imported here: it takes longer than all else, and one process needs it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    if database.is_sqlite and database.engine.url.database:
        _make_private(Path(database.engine.url.database))
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    configuration.set_main_option("version_locations", os.pathsep.join(map(str, folders)))
    with database.write(lock=_MIGRATION_LOCK) as connection:
        configuration.attributes["connection"] = connection
        try:
            command.upgrade(configuration, "heads")
        except CommandError as error:
            raise DatabaseError(f"its tables are not of this version: {error}") from error


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fsync_directory(path.parent)
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}") from error


def check_reachable(database: Database) -> None:
    """Ask the database for something. Raises DatabaseError."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
