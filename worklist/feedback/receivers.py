"""Who wants to hear what: receivers as the gateways have told them to the database.

An item's status changes in many processes, of gateways of which another one may have the receivers. What is to be sent
is written down where the change is, so that place asks the database, not a configuration.
"""

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from gateway.database import Database
from gateway.options.hl7_receivers import ReceiverSection
from worklist.feedback.tables import MAXIMUM_TEXT_CHARACTERS, OWNERS, RECEIVERS
from worklist.items import Item, Status

# PostgreSQL's advisory lock of those who tell their receivers.
LOCK: Final = 0x44_47_00_05

# A gateway that was not there for so long is not coming back: nothing is collected for it any more.
FORGOTTEN_AFTER_NS: Final = 30 * 24 * 3600 * 10**9

# How items and changes name what came by HL7: "hl7 APPLICATION|FACILITY", and the message behind it.
_HL7: Final = "hl7 "


@dataclass(frozen=True, slots=True)
class Interest:
    """What one receiver wants to hear; of `applications` and `partitions` None is all."""

    changes: tuple[str, ...]
    applications: tuple[str, ...] | None
    partitions: tuple[str, ...] | None
    # MSH-5.1: a change that came from this application is not told to it, unless it wants that.
    own_application: str
    echo_changes: bool

    @classmethod
    def of(cls, receiver: ReceiverSection) -> "Interest":
        """As it is configured."""
        applications, partitions = receiver.applications, receiver.partitions
        return cls(
            tuple(receiver.changes),
            None if applications is None else tuple(applications),
            None if partitions is None else tuple(partitions),
            receiver.receiving_application.split("^")[0],
            receiver.echo_changes,
        )

    def covers(self, item: Item, status: Status, who: str) -> bool:
        """Whether it wants to hear that `item` became `status` by `who` (worklist.store.Change)."""
        return (
            status.value in self.changes
            and _is_one_of(_application_of(item.origin), self.applications)
            and _is_one_of(item.keys.partition, self.partitions)
            and (self.echo_changes or not self._is_own(who))
        )

    def _is_own(self, who: str) -> bool:
        """Without a name for it, it may be any application that sends us messages."""
        return who.startswith(_HL7) and (not self.own_application or _application_of(who) == self.own_application)


def _application_of(who: str) -> str:
    """MSH-3.1 of what came by HL7; "" for what did not."""
    return who.removeprefix(_HL7).split("|")[0] if who.startswith(_HL7) else ""


def _is_one_of(text: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def tell(database: Database, gateway: str, receivers: Sequence[ReceiverSection], now: int) -> None:
    """Write down the receivers of a gateway, in place of those that it had. Raises DatabaseError."""
    r = RECEIVERS.c
    with database.write(lock=LOCK) as connection:
        connection.execute(delete(RECEIVERS).where(r.gateway == gateway))
        for receiver in receivers:
            interest = json.dumps(asdict(Interest.of(receiver)))
            values = {"interest": interest, "seen_at": now, "trouble": "", "trouble_since": 0}
            connection.execute(insert(RECEIVERS).values(gateway=gateway, name=receiver.name, **values))
            if connection.execute(select(OWNERS.c.name).where(OWNERS.c.name == receiver.name)).first() is None:
                connection.execute(insert(OWNERS).values(name=receiver.name, gateway="", beat=0))


def still_there(connection: Connection, gateway: str, now: int) -> None:
    """Say that a gateway lives."""
    connection.execute(update(RECEIVERS).where(RECEIVERS.c.gateway == gateway).values(seen_at=now))


def set_trouble(connection: Connection, gateway: str, name: str, trouble: str, since: int) -> None:
    """Say why a receiver is not reached; "" if it is."""
    r = RECEIVERS.c
    values = {"trouble": trouble[:MAXIMUM_TEXT_CHARACTERS], "trouble_since": since}
    connection.execute(update(RECEIVERS).where(r.gateway == gateway, r.name == name).values(values))


def interested(connection: Connection, item: Item, status: Status, who: str, now: int) -> list[str]:
    """The names of those who want to hear of a change (see Interest.covers), each once."""
    r = RECEIVERS.c
    rows = connection.execute(select(r.name, r.interest).where(r.seen_at > now - FORGOTTEN_AFTER_NS).order_by(r.name))
    return list(dict.fromkeys(name for name, text in rows if _read(text).covers(item, status, who)))


def _read(text: str) -> Interest:
    plain: dict[str, Any] = json.loads(text)
    for name in ("changes", "applications", "partitions"):
        plain[name] = None if plain[name] is None else tuple(plain[name])
    return Interest(**plain)


@dataclass(frozen=True, slots=True)
class Known:
    """A receiver as a person looks at it."""

    name: str
    gateway: str
    seen_at: int
    trouble: str
    trouble_since: int


def known(connection: Connection) -> list[Known]:
    """All receivers of all gateways."""
    columns = tuple(RECEIVERS.c[name] for name in Known.__slots__)
    rows = connection.execute(select(*columns).order_by(RECEIVERS.c.name, RECEIVERS.c.gateway))
    return [Known(*row) for row in rows]
