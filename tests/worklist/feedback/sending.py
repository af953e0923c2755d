"""A gateway's sender under test: its queue, and a delivery that the test drives by a clock of its own."""

from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.database import Database
from gateway.options.config import Configuration, parse
from gateway.options.hl7_receivers import ReceiverSection
from gateway.receiver_connection import connect
from tests.support.worklists import item_attributes
from tests.worklist.hl7.listening import Lines
from worklist import store
from worklist.feedback import outbox, receivers
from worklist.feedback.delivery import Delivery
from worklist.feedback.line import Line
from worklist.feedback.outbox import Entry
from worklist.feedback.ownership import Ownership
from worklist.items import Item, Status

GATEWAY: Final = "0123456789abcdef"
BY_MPPS: Final = "mpps CT1"
SECOND_NS: Final = 10**9


class Clock:
    """Says what the test sets; nanoseconds since 1970."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now

    def seconds(self) -> float:
        return self.now / SECOND_NS

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND_NS)


def configuration_of(directory: Path, *sections: dict[str, Any], **hl7: Any) -> Configuration:
    """A configuration with these receivers."""
    made = [{"Name": "RIS", "Host": "127.0.0.1", "Port": 1, **section} for section in sections]
    section = {"StateDirectory": str(directory), "Hl7": {"Receivers": made, **hl7}}
    return parse({"DicomGateway": section}, directory)


def receivers_of(configuration: Configuration) -> list[ReceiverSection]:
    assert configuration.gateway.hl7 is not None
    return configuration.gateway.hl7.receivers


class Sender:
    """The sender of one gateway to its first receiver."""

    def __init__(
        self,
        configuration: Configuration,
        database: Database,
        clock: Clock,
        gateway: str = GATEWAY,
    ) -> None:
        self.database = database
        self.clock = clock
        self.log = Lines([])
        self.receiver = receivers_of(configuration)[0]
        receivers.tell(database, gateway, receivers_of(configuration), clock())
        line = Line(self.receiver, partial(connect, configuration, self.receiver), self.log)
        ownership = Ownership(database, gateway, self.receiver, clock.seconds)
        self.delivery = Delivery(database, gateway, self.receiver, line, ownership, self.log, clock=clock)

    def run(self, seconds: float = 0.0) -> None:
        """Goes on until nothing is due, and then for so long on the clock."""
        end = self.clock.now + int(seconds * SECOND_NS)
        while True:
            wait_s = self.delivery.step()
            if wait_s > 0 and self.clock.now + int(wait_s * SECOND_NS) > end:
                return
            self.clock.advance(wait_s)

    def entries(self) -> list[Entry]:
        """All messages, the oldest first."""
        with self.database.read() as connection:
            return outbox.latest(connection, 100_000)[::-1]

    @property
    def states(self) -> list[str]:
        return [str(entry.state) for entry in self.entries()]


def add(database: Database, number: int = 1, *, origin: str = "hl7 RIS|HOSPITAL", **tags: Any) -> Item:
    """An item that nobody has begun."""
    attributes = item_attributes(number, **tags)
    with database.write(lock=store.LOCK) as connection:
        return store.add(connection, attributes, store.Change.now(origin), origin=origin)


def change(database: Database, item: Item, status: Status, *, who: str = BY_MPPS, at: int | None = None) -> Item:
    """Another status, in a transaction of its own."""
    made = store.Change.now(who) if at is None else store.Change(who, at)
    with database.write(lock=store.LOCK) as connection:
        return store.set_status(connection, item, status, made)
