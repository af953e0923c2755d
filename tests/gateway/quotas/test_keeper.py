"""The keeper writes down what its holders say in the order in which they say it, whatever the database does."""

import json
import socket
from pathlib import Path

from sqlalchemy import text

from gateway.database import Database
from gateway.quotas.accounts import Account, Amount, Holder
from gateway.quotas.audit import Auditor
from gateway.quotas.keeper import Keeper
from gateway.quotas.ledger import LOCK
from gateway.quotas.overview import overview
from gateway.spool import Spool
from tests.gateway.quotas.conftest import GATEWAY, Clock, MakeBooks, entry

HOLDER = Holder(GATEWAY, "worker")


def test_a_lease_covers_what_could_not_be_written_down(
    make_books: MakeBooks, database: Database, clock: Clock, tmp_path: Path
) -> None:
    """A holder that says hello again tells what it accepted, then what it has left."""
    books = make_books({"Name": "CT", "CallingAet": "CT", "MaximumInstances": 2})
    assert books.ledger.grant(HOLDER, Account("CT", ""), Amount(2, 0)).amount is not None
    spool = Spool(tmp_path / "state")
    spool.prepare()
    auditor = Auditor(books.ledger, books.holdings, spool, None)
    keeper = Keeper(books.ledger, spool, auditor, tmp_path / "quotas.sock")
    accepted = [entry(name, clock) for name in ("first", "second")]
    with socket.socket(socket.AF_UNIX) as holder:
        holder.connect(str(tmp_path / "quotas.sock"))
        for message in ({"hello": HOLDER.folder}, {"entries": accepted}, {"leases": []}):
            holder.sendall(json.dumps(message).encode() + b"\n")
        _rename(database, "quota_instances", "elsewhere")
        keeper.step()  # the connection
        keeper.step()  # what it says
        assert books.ledger.grant(Holder(GATEWAY, "other"), Account("CT", ""), Amount(1, 0)).amount is None
        _rename(database, "elsewhere", "quota_instances")
        keeper.step()  # tried again
        assert json.loads(holder.recv(4096).splitlines()[0]) == {"settled": ["first", "second"]}
    line, *_ = overview(database, list(books.ledger.rules.values()))
    assert (line.used.instances, line.leased.instances) == (2, 0)


def _rename(database: Database, old: str, new: str) -> None:
    with database.write(LOCK) as sql:
        sql.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
