"""Candidates: all that a query could match, few others, and never the whole store for a key that selects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from gateway.database import Database, connect_sqlite, migrate
from gateway.matching import times
from gateway.matching.keys import Key
from gateway.matching.matcher import Matcher
from tests.support.worklists import SOMEBODY, add, item_attributes, items_of
from worklist import items, store
from worklist.candidates import Selection, candidates, candidates_page
from worklist.items import UNFINISHED, Status


def numbers(database: Database, selection: Selection, **options: Any) -> list[int]:
    return [item.id for item in candidates(database, selection, **options)]


def test_each_key_selects(database: Database) -> None:
    step = {
        "ScheduledStationAETitle": "CT1\\CT2",
        "ScheduledProcedureStepStartDate": "20261121",
        "Modality": "CT",
        "ScheduledProcedureStepID": "S1",
    }
    one = add(database, item_attributes(1, PatientName="Yamada^Tarou=山田^太郎", WorklistLabel="WEST", step=step)).id
    other = {"ScheduledStationAETitle": "MR1", "ScheduledProcedureStepStartDate": "20261122", "Modality": "MR"}
    two = add(database, item_attributes(2, PatientName="Müller^Eva", step=other), status=Status.COMPLETED).id
    assert numbers(database, Selection()) == [one, two]
    for selection in (
        Selection(stations=["CT2", "XX"]),
        Selection(first_day="20261120", last_day="20261121"),
        Selection(last_day="20261121"),
        Selection(stations=["CT1"], first_day="20261121"),
        Selection(modalities=["CT", "US"]),
        Selection(patient_ids=["P1"]),
        Selection(patient_name="yama*"),
        Selection(patient_name="山田"),
        Selection(accession_numbers=["A1", "A7"]),
        Selection(requested_procedure_ids=["R1"]),
        Selection(scheduled_procedure_step_ids=["S1"]),
        Selection(study_instance_uids=["1.2.1", "1.2.7"]),
        Selection(statuses=UNFINISHED),
        Selection(partitions=["WEST"]),
    ):
        assert numbers(database, selection) == [one], selection
    for selection in (
        Selection(stations=["CT"]),
        Selection(stations=["CT1"], first_day="20261122"),
        Selection(stations=[]),
        Selection(patient_name="amada*"),
        Selection(patient_ids=["P1\0x", "\ud800"]),
        Selection(partitions=["EAST"]),
    ):
        assert numbers(database, selection) == [], selection
    assert numbers(database, Selection(patient_name="mÜll?r*")) == [two]
    assert numbers(database, Selection(patient_name="*a^*")) == [one]
    assert numbers(database, Selection(patient_name="*?*")) == [one, two]
    for pattern, expected in (
        ("P?", [one, two]),
        ("?1", [one]),
        ("*2*", [two]),
        ("P1*", [one]),
        ("%", []),
        ("*_*", []),
    ):
        assert numbers(database, Selection(patterns={"patient_id": pattern})) == expected, pattern
    assert numbers(database, Selection(first_day="20261122", partitions=["", "WEST"])) == [two]


def test_pages_have_every_candidate_once_in_the_order_of_the_schedule(database: Database) -> None:
    scheduled = [("20261122", "0800"), ("20261121", "0930"), ("20261121", "0800"), ("", ""), ("20261121", "")]
    for number in range(25):
        date, time = scheduled[number % 5]
        step = {"ScheduledProcedureStepStartDate": date, "ScheduledProcedureStepStartTime": time}
        add(database, item_attributes(number, step=step))
    found = list(candidates(database, Selection(), page_items=4))
    expected = sorted(
        items_of(database), key=lambda item: (item.keys.scheduled_date, item.keys.scheduled_time, item.id)
    )
    assert found == expected


def test_between_two_pages_others_may_write(database: Database) -> None:
    for number in range(10):
        add(database, item_attributes(number))
    found = candidates(database, Selection(), page_items=3)
    seen = [next(found).id]
    with database.write(lock=store.LOCK) as connection:
        store.remove(connection, [seen[0], seen[0] + 5])
        store.add(connection, item_attributes(99), SOMEBODY, origin="test")
    seen += [item.id for item in found]
    assert len(seen) == len(set(seen)) == 10


DAYS = ["20261120", "20261121", "20261122", ""]
POOLS: dict[int, list[str]] = {
    items.SCHEDULED_STATION_AE_TITLE: ["CT1", "CT2", "CT1\\CT2", ""],
    items.SCHEDULED_DATE: DAYS,
    items.MODALITY: ["CT", "MR", ""],
    items.PATIENT_NAME: ["DOE^JANE", "Doe^John", "Müller^Eva", "Yamada^Tarou=山田^太郎", "DO", ""],
    items.PATIENT_ID: ["P1", "P2", " P1 ", ""],
}
NAME_KEYS = [
    "doe*",
    "DOE^J*",
    "d?e^jane",
    "山田*",
    "Yamada^Tarou=山田^太郎",
    "=山田*",
    "*",
    "müller^eva^^",
    "do",
    "*jane",
]
DATE_KEYS = ["20261121", "20261121-", "-20261121", "20261120-20261121", ""]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A store with items of all sorts."""
    made = connect_sqlite(Path(tmp_path_factory.mktemp("mixed")) / "gateway.sqlite")
    migrate(made)
    with made.write(lock=store.LOCK) as connection:
        for number in range(240):
            pick = {
                tag: pool[number * 7919 // (3 + index) % len(pool)] for index, (tag, pool) in enumerate(POOLS.items())
            }
            step = {
                "ScheduledStationAETitle": pick[items.SCHEDULED_STATION_AE_TITLE],
                "ScheduledProcedureStepStartDate": pick[items.SCHEDULED_DATE],
                "Modality": pick[items.MODALITY],
            }
            tags = {"PatientName": pick[items.PATIENT_NAME], "PatientID": pick[items.PATIENT_ID]}
            store.add(connection, item_attributes(number, step=step, **tags), SOMEBODY, origin="test")
    yield made
    made.close()


@settings(max_examples=150, deadline=None)
@given(
    station=st.sampled_from(["", "CT1", "CT2", "CT3"]),
    date=st.sampled_from(DATE_KEYS),
    modality=st.sampled_from(["", "CT", "US"]),
    name=st.sampled_from(["", *NAME_KEYS]),
    patient=st.sampled_from(["", "P1", "P9"]),
)
def test_nothing_that_matches_is_missing(
    mixed: Database, station: str, date: str, modality: str, name: str, patient: str
) -> None:
    step = (
        Key(items.SCHEDULED_STATION_AE_TITLE, "AE", station),
        Key(items.SCHEDULED_DATE, "DA", date),
        Key(items.MODALITY, "CS", modality),
    )
    keys = (
        Key(items.PATIENT_NAME, "PN", name),
        Key(items.PATIENT_ID, "LO", patient),
        Key(items.SCHEDULED_PROCEDURE_STEP_SEQUENCE, "SQ", "", step),
    )
    matcher = Matcher(keys)
    wanted = times.parse_range("DA", date)
    first_day, last_day = times.days(wanted) if wanted else ("", "")
    selection = Selection(
        stations=[station] if station else None,
        first_day=first_day,
        last_day=last_day,
        modalities=[modality] if modality else None,
        patient_name=name,
        patient_ids=[patient] if patient else None,
    )
    found = {item.id for item in candidates(mixed, selection)}
    matching = {item.id for item in items_of(mixed) if matcher.matches(item.attributes)}
    assert matching <= found
    if not name:
        assert matching == found


@pytest.mark.parametrize(
    "selection",
    [
        Selection(stations=["CT1"]),
        Selection(stations=["CT1"], first_day="20261121", last_day="20261121"),
        Selection(first_day="20261121", last_day="20261121"),
        Selection(patient_ids=["P1"]),
        Selection(patient_name="doe^j*"),
        Selection(accession_numbers=["A1"]),
        Selection(requested_procedure_ids=["R1"]),
        Selection(scheduled_procedure_step_ids=["S1"]),
        Selection(study_instance_uids=["1.2.1"]),
    ],
)
def test_a_key_that_selects_is_looked_up_and_not_searched_for(mixed: Database, selection: Selection) -> None:
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_others: Any) -> None:
        if "worklist_items" in statement:
            asked = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in asked)

    wanted = {"statuses": UNFINISHED, "partitions": ["", "WEST"]}
    selection = Selection(**{name: getattr(selection, name) for name in Selection.__slots__} | wanted)
    event.listen(mixed.engine, "before_cursor_execute", explain)
    try:
        with mixed.read() as connection:
            candidates_page(connection, selection)
    finally:
        event.remove(mixed.engine, "before_cursor_execute", explain)
    assert plans
    assert not [step for step in plans if step.startswith("SCAN")], plans
