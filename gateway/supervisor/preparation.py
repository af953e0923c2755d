"""What is done once, before any process is started: recovery of the spool, and the tables."""

import time
from typing import TYPE_CHECKING, Final

from gateway.archive.index.file import discard
from gateway.checks.requirements import FatalError
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.quotas.identity import gateway_identity
from gateway.spool import Spool

if TYPE_CHECKING:
    from gateway.database import Database

# Writers of a supervisor that died end within moments of it; recovery waits for their locks.
ORPHAN_TIMEOUT_S: Final = 10.0


def recover(configuration: Configuration) -> None:
    """Remove what was half received when the gateway last ended. Raises SpoolError."""
    spool = Spool(configuration.state_directory)
    spool.prepare()
    discard(configuration.state_directory)
    deadline = time.monotonic() + ORPHAN_TIMEOUT_S
    while (alive := spool.live_writers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if alive:
        get_logger().error("a process of an earlier gateway still receives; its files are left alone", writers=alive)
    removed = spool.recover()
    if removed:
        get_logger().info("removed what was half received when the gateway last ended", files=removed)


def migrate(configuration: Configuration) -> None:
    """Bring the tables to this version, if anything needs a database, and make our name in them. Raises FatalError."""
    if not configuration.needs_database:
        return
    # Imported here: who needs no database does not pay for it with time and memory.
    from gateway import database

    try:
        # Made here: processes that start side by side would each make one.
        gateway_identity(configuration.state_directory)
        books = database.connect(configuration)
        database.migrate(books)
        _tell_receivers(configuration, books)
        books.close()
    except (database.DatabaseError, OSError) as error:
        raise FatalError(f"cannot use the database: {error}") from error


def _tell_receivers(configuration: Configuration, books: "Database") -> None:
    """Whatever starts after this finds in the database who wants to hear of it."""
    if configuration.worklist is None:
        return
    from worklist.feedback import receivers

    section = configuration.gateway.hl7
    identity = gateway_identity(configuration.state_directory)
    receivers.tell(books, identity, section.receivers if section is not None else [], time.time_ns())
