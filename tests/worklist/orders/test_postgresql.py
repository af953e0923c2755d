"""The same in PostgreSQL: what a sequence of messages leads to, and that nothing remains of one that was refused."""

import itertools
from pathlib import Path

import pytest

from gateway.database import connect_postgresql, connect_sqlite, migrate
from gateway.matching.attributes import Attributes
from tests.support.postgresql import PostgreSql
from tests.worklist.orders.messages import PID, PV1, Worklist, message, msh, orm
from worklist.hl7.errors import MessageError

MESSAGES = [
    orm("NW"),
    orm("XO", ordered="20260301090000", modality="MR"),
    orm("CA", ordered="20260301100000"),
    orm("NW", number="101", step="S501", pid=PID.replace("DOE^JOHN", "山田^\\X0000\\太郎🩻")),
    message(msh("ADT^A40"), "PID|1||9999^^^HOSP||ROE^RICHARD", PV1, "MRG|4711^^^HOSP"),
]


def ends(worklist: Worklist) -> list[list[Attributes]]:
    found = []
    for permutation in itertools.islice(itertools.permutations(MESSAGES), 0, None, 17):
        worklist.clear()
        for text in permutation:
            worklist.send(text)
        found.append(worklist.contents())
    return found


def test_postgresql_leads_to_what_sqlite_leads_to(postgresql: PostgreSql, tmp_path: Path) -> None:
    databases = [connect_postgresql(postgresql.database()), connect_sqlite(tmp_path / "gateway.sqlite")]
    for database in databases:
        migrate(database)
    one, other = (ends(Worklist(database)) for database in databases)
    assert one == other and all(one)
    worklist = Worklist(databases[0])
    with pytest.raises(MessageError):
        worklist.send(message(msh("ORM^O01"), PID, "ORC|NW|P1", "OBR|1|||CT^CT", "ORC|NW|P2", "OBR|2"))
    assert worklist.contents() == one[-1]
    for database in databases:
        database.close()
