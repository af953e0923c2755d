"""Which of several gateways on one PostgreSQL sends to a receiver: one, until it ends or is not heard of any more.

An owner's row has a number that grows while it lives. Another gateway takes over when it has seen the same number for
long enough, by its own clock: so clocks need not agree. On SQLite there are no others.
"""

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, select, update

from gateway.database import Database
from gateway.options.hl7_receivers import ReceiverSection
from worklist.feedback.tables import OWNERS

BEAT_INTERVAL_S: Final = 10.0
# What an attempt may take besides its timeouts: names that are looked up, a database that is slow.
SLACK_S: Final = 60.0


class Ownership:
    """A gateway's claim on one receiver. All methods raise DatabaseError."""

    def __init__(
        self, database: Database, gateway: str, receiver: ReceiverSection, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._name = receiver.name
        self._clock = clock
        self._takeover_s = 2 * (receiver.connect_timeout + receiver.ack_timeout) + SLACK_S
        self._next_look = 0.0
        self._is_owner = False
        # Of another owner: who, its number, and since when it is the same.
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    def holds(self) -> bool:
        """Whether this gateway may send. To be asked before each message and every few seconds."""
        if self._database.is_sqlite:
            return True
        now = self._clock()
        if now >= self._next_look:
            with self._database.write() as connection:
                self._is_owner = self._claim(connection, now)
            self._next_look = now + BEAT_INTERVAL_S
        return self._is_owner

    def still_holds(self, connection: Connection) -> bool:
        """Whether nobody has taken over meanwhile: for the transaction before a message is sent."""
        if self._database.is_sqlite:
            return True
        query = select(OWNERS.c.gateway).where(OWNERS.c.name == self._name)
        self._is_owner = connection.execute(query).scalar_one_or_none() == self._gateway
        return self._is_owner

    def release(self) -> None:
        """Let another gateway send at once."""
        if self._database.is_sqlite or not self._is_owner:
            return
        self._is_owner = False
        o = OWNERS.c
        with self._database.write() as connection:
            mine = (o.name == self._name) & (o.gateway == self._gateway)
            connection.execute(update(OWNERS).where(mine).values(gateway=""))

    def _claim(self, connection: Connection, now: float) -> bool:
        o = OWNERS.c
        row = connection.execute(select(o.gateway, o.beat).where(o.name == self._name).with_for_update()).first()
        if row is None:
            return False
        owner, beat = str(row[0]), int(row[1])
        if owner not in ("", self._gateway):
            if self._seen != (owner, beat):
                self._seen, self._seen_at = (owner, beat), now
            if now - self._seen_at < self._takeover_s:
                return False
        values = {"gateway": self._gateway, "beat": beat + 1}
        connection.execute(update(OWNERS).where(o.name == self._name).values(values))
        return True
