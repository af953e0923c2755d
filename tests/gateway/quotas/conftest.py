"""Books on SQLite and on PostgreSQL, with a clock that stands still until it is set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.database import Database
from gateway.options import config
from gateway.quotas.accounts import Account, Amount, Holder
from gateway.quotas.entries import Entry
from gateway.quotas.holdings import Holdings
from gateway.quotas.ledger import Ledger
from gateway.quotas.rules import Rule, Source, counting_rules

GATEWAY = "ours"
CT = Source("CT", "ARCHIVE", "192.0.2.1")
MR = Source("MR", "ARCHIVE", "192.0.2.2")
SECOND = 1_000_000_000


class Clock:
    """Nanoseconds, as time.time_ns."""

    def __init__(self) -> None:
        self.now = 1_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def rules(*quotas: dict[str, Any], gateway: str = GATEWAY, **machine: Any) -> list[Rule]:
    """The rules of this section Quotas."""
    content = {"DicomGateway": {"Quotas": {"Rules": list(quotas), **machine}}}
    return counting_rules(config.parse(content, Path("/")), gateway)


def entry(name: str, clock: Clock, source: Source = CT, **fields: Any) -> Entry:
    """An entry of which everything is its own but what is given."""
    number = abs(hash(name)) % 10**12
    defaults: dict[str, Any] = {
        "sop_instance_uid": f"1.2.{number}",
        "study": "1.2.3",
        "digest": f"{number:064x}",
        "bytes": 100,
        "orthanc_id": f"id-{fields.get('sop_instance_uid', name)}",
        "accepted_at": clock(),
    }
    return Entry(name, source, **(defaults | fields))


class Books:
    """One gateway's view of one database."""

    def __init__(self, database: Database, clock: Clock, defined: list[Rule], gateway: str = GATEWAY) -> None:
        self.database = database
        self.clock = clock
        self.ledger = Ledger(database, defined, gateway, clock)
        self.holdings = Holdings(database, self.ledger)
        self.ledger.open()

    def accept(self, holder: Holder, name: str, rule: str = "CT", source: Source = CT, **fields: Any) -> bool:
        """Lease, accept and settle one instance, as a worker that leases for each anew."""
        account = Account(rule, "")
        each = entry(name, self.clock, source, **fields)
        limited = self.ledger.rules[rule]
        wanted = Amount(int(limited.maximum_instances is not None), each.bytes if limited.maximum_bytes else 0)
        grant = self.ledger.grant(holder, account, wanted)
        if grant.amount is None:
            return False
        self.ledger.settle(holder, [each])
        self.ledger.set_leases(holder, [])
        return True


MakeBooks = Callable[..., Books]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_books(database: Database, clock: Clock) -> MakeBooks:
    """Makes books with these rules, for the gateway `gateway`."""

    def make(*quotas: dict[str, Any], gateway: str = GATEWAY, **machine: Any) -> Books:
        return Books(database, clock, rules(*quotas, gateway=gateway, **machine), gateway)

    return make
