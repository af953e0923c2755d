"""The store, on SQLite and on PostgreSQL."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.database import Database
from gateway.options.worklist import ExpirySection
from tests.support.worklists import SOMEBODY, add, item_attributes, items_of
from worklist import store
from worklist.items import ACCESSION_NUMBER, OrderNumber, Patient, Status, status_of
from worklist.tables import METADATA


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    names = set(METADATA.tables)
    options = {"include_name": lambda name, kind, _parents: kind != "table" or name in names}
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []


def test_expiry_knows_every_status() -> None:
    assert [field.alias for field in ExpirySection.model_fields.values()] == list(Status)


PLACER = {
    "PlacerOrderNumberImagingServiceRequest": "O1",
    "OrderPlacerIdentifierSequence": [{"LocalNamespaceEntityID": "RIS"}],
}
FILLER = {
    "FillerOrderNumberImagingServiceRequest": "F1",
    "OrderFillerIdentifierSequence": [{"UniversalEntityID": "1.2.840", "UniversalEntityIDType": "ISO"}],
}


@pytest.mark.parametrize(
    ("by", "found"),
    [
        ({"placer": OrderNumber("O1", "RIS")}, True),
        ({"placer": OrderNumber("O1")}, True),
        ({"placer": OrderNumber("O1", "HIS")}, False),
        ({"filler": OrderNumber("F1", "1.2.840")}, True),
        ({"filler": OrderNumber("F1", "1.2.841")}, False),
        ({"accession_number": "A1"}, True),
        ({"accession_number": "a1"}, False),
        ({"study_instance_uid": "1.2.1"}, True),
        ({"study_instance_uid": "1.2.1", "scheduled_procedure_step_id": "S1"}, True),
        ({"study_instance_uid": "1.2.1", "scheduled_procedure_step_id": "S2"}, False),
        ({"requested_procedure_id": "R1"}, True),
        ({"patient": Patient("P1", "HOSPITAL")}, True),
        ({"patient": Patient("P1")}, True),
        ({"patient": Patient("P1", "CLINIC")}, False),
        ({"accession_number": "A1", "partition": "WEST"}, True),
        ({"accession_number": "A1", "partition": ""}, False),
        ({"accession_number": ""}, False),
    ],
)
def test_an_item_is_found_by_its_keys(database: Database, by: dict[str, Any], found: bool) -> None:
    attributes = item_attributes(1, IssuerOfPatientID="HOSPITAL", WorklistLabel="WEST", **PLACER, **FILLER)
    item = add(database, attributes)
    add(database, item_attributes(2))
    with database.read() as connection:
        assert store.find(connection, **by) == ([item] if found else [])


def test_an_issuer_that_nobody_named_is_equal_to_every_other(database: Database) -> None:
    item = add(database, item_attributes(1))
    with database.read() as connection:
        assert store.find(connection, patient=Patient("P1", "HOSPITAL")) == [item]


def test_without_a_key_nothing_is_found_by_accident(database: Database) -> None:
    with database.read() as connection, pytest.raises(ValueError, match="nothing to find"):
        store.find(connection)


def test_an_item_with_other_attributes_is_found_by_the_new_ones_only(database: Database) -> None:
    item = add(database, item_attributes(1))
    with database.write(lock=store.LOCK) as connection:
        item = store.set_status(connection, item, Status.ARRIVED, SOMEBODY)
        changed = store.replace(connection, item, item_attributes(2), store.Change("RIS", 2 * 10**18))
    with database.read() as connection:
        assert store.find(connection, accession_number="A1") == []
        assert store.find(connection, accession_number="A2") == [changed]
    assert (changed.id, changed.status, changed.changed_at) == (item.id, Status.ARRIVED, 2 * 10**18)
    assert status_of(changed.attributes) is Status.ARRIVED


def test_history_says_what_changed_by_whom_and_when(database: Database) -> None:
    item = add(database, item_attributes(1))
    with database.write(lock=store.LOCK) as connection:
        item = store.set_status(connection, item, Status.CANCELED, store.Change("RIS", 5), "ORC-1 is CA")
        item = store.set_status(connection, item, Status.CANCELED, store.Change("RIS", 6), "again")
        other = item_attributes(1, AccessionNumber="A9", step={"Modality": "MR"})
        item = store.replace(connection, item, other, store.Change("RIS", 7))
        assert store.replace(connection, item, other, store.Change("RIS", 8)) == item
        assert store.history(connection, item.id) == [
            (SOMEBODY.at, "somebody", "added as SCHEDULED"),
            (5, "RIS", "SCHEDULED to CANCELED: ORC-1 is CA"),
            (7, "RIS", "changed (0008,0050), (0008,0060)"),
        ]


def test_a_removed_item_leaves_nothing_and_its_number_is_not_given_again(database: Database) -> None:
    item = add(database, item_attributes(1, step={"ScheduledStationAETitle": "CT1\\CT2"}))
    with database.write(lock=store.LOCK) as connection:
        assert store.remove(connection, [item.id]) == 1
        for table in METADATA.tables.values():
            assert connection.execute(table.select()).all() == [], table.name
    assert add(database, item_attributes(2)).id > item.id


class Interrupted(Exception):
    pass


def test_what_belongs_together_happens_together_or_not_at_all(database: Database) -> None:
    item = add(database, item_attributes(1))
    with pytest.raises(Interrupted), database.write(lock=store.LOCK) as connection:
        store.add(connection, item_attributes(2), SOMEBODY, origin="test")
        store.set_status(connection, item, Status.CANCELED, SOMEBODY)
        raise Interrupted
    assert items_of(database) == [item]


def test_status_in_the_attributes_is_that_of_the_item(database: Database) -> None:
    item = add(database, item_attributes(1, step={"ScheduledProcedureStepStatus": "nonsense"}), status=Status.READY)
    assert status_of(item.attributes) is status_of(items_of(database)[0].attributes) is Status.READY


def test_longer_keys_than_a_column_holds_are_found(database: Database) -> None:
    long = "A" * 5000
    item = add(database, item_attributes(1, AccessionNumber=long))
    with database.read() as connection:
        assert store.find(connection, accession_number=long) == [item]
    assert item.attributes[ACCESSION_NUMBER].value == long
