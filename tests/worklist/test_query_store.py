"""What SQL selects for a query loses nothing that matches, and comes in the order of scheduled date and time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from gateway.database import Database, connect_postgresql, connect_sqlite, migrate
from gateway.dicom.character_sets import UTF_8
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import read_keys
from tests.support.data_sets import EXPLICIT, encode
from tests.support.postgresql import PostgreSql
from tests.support.worklist_queries import an_item, attributes_of, nested
from worklist import store
from worklist.items import PATIENT_ID, Item, Status, text_of
from worklist.queries import View, WorklistQuery

SEED: Final = 7
ITEMS: Final = 150
QUERIES: Final = 250
NAMES: Final = [
    "Doe^John",
    "DOE",
    "Müller^Jörg",
    "Straße^Eß",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "O'Neil",
    "*",
    "%_",
    "",
]
DATES: Final = ["20231231", "20240101", "20240102", "20240131", ""]
TIMES: Final = ["0000", "0800", "101530", "235959", ""]
STATIONS: Final = ["CT1", "CT2", "ct1", ["CT1", "US1"], "%", None]
IDS: Final = ["A1", "A2", "a1", "A 1", "A1\x00", ""]


def item(number: int, chance: random.Random) -> Attributes:
    return attributes_of(
        an_item(
            number,
            PatientName=chance.choice(NAMES),
            AccessionNumber=chance.choice(IDS),
            RequestedProcedureID=chance.choice(IDS),
            ScheduledProcedureStepID=chance.choice(IDS),
            Modality=chance.choice(["CT", "MR", ""]),
            ScheduledStationAETitle=chance.choice(STATIONS),
            ScheduledProcedureStepStartDate=chance.choice(DATES),
            ScheduledProcedureStepStartTime=chance.choice(TIMES),
            WorklistLabel=chance.choice(["", "CT1", "ROOM"]),
        )
    )


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, postgresql: PostgreSql, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    if request.param == "sqlite":
        database = connect_sqlite(tmp_path_factory.mktemp("worklist") / "gateway.sqlite")
    else:
        database = connect_postgresql(postgresql.database())
    migrate(database)
    chance = random.Random(SEED)
    with database.write(lock=store.LOCK) as connection:
        for number in range(ITEMS):
            status = chance.choice(list(Status))
            store.add(connection, item(number, chance), store.Change.now("test"), origin="test", status=status)
    yield database
    database.close()


@pytest.fixture(scope="module")
def stored(database: Database) -> list[Item]:
    with database.read() as connection:
        items = (store.get(connection, number) for number in range(1, ITEMS + 1))
        return [item for item in items if item is not None]


def pattern(chance: random.Random, value: Any) -> str:
    text = value if isinstance(value, str) else "\\".join(value or ())
    kind = chance.randrange(6)
    if not text or kind < 3:
        return text
    at = chance.randrange(len(text))
    return (text[:at] + "*", text[:at] + "?" + text[at + 1 :], text[:at] + "*" + text[at + 1 :])[kind - 3]


def query(chance: random.Random) -> dict[str, str]:
    def span(values: list[str]) -> str:
        one, two = sorted(chance.choices([value for value in values if value], k=2))
        return chance.choice([one, f"{one}-{two}", f"{one}-", f"-{two}", f"{two}-{one}", f"{one}\\{two}"])

    choices: dict[str, Any] = {
        "PatientName": lambda: chance.choice([str.upper, str.lower, str])(pattern(chance, chance.choice(NAMES))),
        "PatientID": lambda: pattern(chance, f"P{chance.randrange(ITEMS)}"),
        "StudyInstanceUID": lambda: f"2.25.{1000 + chance.randrange(ITEMS)}\\2.25.1001",
        "WorklistLabel": lambda: pattern(chance, "ROOM"),
        "Modality": lambda: chance.choice(["CT", "ct", "CT\\MR", "M*"]),
        "ScheduledStationAETitle": lambda: pattern(chance, chance.choice(STATIONS)),
        "ScheduledProcedureStepStatus": lambda: chance.choice(["SCHEDULED", "COMPLETED\\READY", "X", "*", "C*"]),
        "ScheduledProcedureStepStartDate": lambda: span(DATES),
        "ScheduledProcedureStepStartTime": lambda: span(TIMES),
    }
    for keyword in ("AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID"):
        choices[keyword] = lambda: pattern(chance, chance.choice(IDS))
    return {keyword: choices[keyword]() for keyword in chance.sample(list(choices), chance.choice([0, 1, 1, 2, 3]))}


def test_nothing_that_matches_is_lost_on_the_way_through_sql(database: Database, stored: list[Item]) -> None:
    chance = random.Random(SEED)
    hits = 0
    for _ in range(QUERIES):
        identifier = nested(SpecificCharacterSet="ISO_IR 192", **{"PatientID": "", **query(chance)})
        view = View(
            station=chance.choice([None, None, "CT1"]), partitions=chance.choice([None, None, ("CT1", ""), ("X",)])
        )
        keys = read_keys(encode(identifier, EXPLICIT), EXPLICIT, UTF_8)
        found = [text_of(answer, PATIENT_ID) for answer in WorklistQuery(keys, view).find(database)]
        seen = [one for one in stored if view.partitions is None or one.keys.partition in view.partitions]
        expected = [one for one in seen if WorklistQuery(keys, view).matches(one)]
        expected.sort(key=lambda one: (one.keys.scheduled_date, one.keys.scheduled_time, one.id))
        assert found == [one.keys.patient.patient_id for one in expected], identifier
        hits += 0 < len(found) < ITEMS
    assert hits > QUERIES / 4
