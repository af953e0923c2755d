"""What is put into the queue, for whom, and what a person can do about it; on SQLite and on PostgreSQL."""

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.database import Database
from gateway.options.hl7_receivers import ChangeName, ReceiverSection
from tests.worklist.feedback.sending import GATEWAY, add, change, configuration_of, receivers_of
from worklist import store
from worklist.feedback import outbox, receivers
from worklist.feedback.outbox import Entry
from worklist.feedback.tables import METADATA
from worklist.items import Status

DAY_NS = 24 * 3600 * 10**9


def tell(database: Database, directory: Path, *sections: dict[str, Any], gateway: str = GATEWAY, at: int = 0) -> None:
    configuration = configuration_of(directory, *sections)
    receivers.tell(database, gateway, receivers_of(configuration), at or store.Change.now("").at)


def entries(database: Database, **options: Any) -> list[Entry]:
    with database.read() as connection:
        return outbox.latest(connection, 100, **options)[::-1]


def told(database: Database) -> list[tuple[str, str]]:
    return [(entry.receiver, entry.status) for entry in entries(database)]


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    names = set(METADATA.tables)
    options = {"include_name": lambda name, kind, _parents: kind != "table" or name in names}
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []


def test_without_receivers_nothing_is_collected(database: Database) -> None:
    change(database, add(database), Status.STARTED)
    assert entries(database) == []


def test_each_receiver_hears_what_it_wants_to(database: Database, tmp_path: Path) -> None:
    tell(
        database,
        tmp_path,
        {"Name": "all"},
        {"Name": "arrivals", "Changes": ["ARRIVED"]},
        {"Name": "west", "Partitions": ["WEST*"]},
        {"Name": "lab", "Applications": ["LAB", "LIS*"]},
        {"Name": "hl7", "Applications": ["?*"]},
    )
    items = [
        add(database, 1, origin="command line"),
        add(database, 2, WorklistLabel="WEST2"),
        add(database, 3, origin="hl7 LIS7|HOSPITAL"),
    ]
    for item, expected in zip(items, ({"all"}, {"all", "west", "hl7"}, {"all", "lab", "hl7"}), strict=True):
        arrived = change(database, item, Status.ARRIVED)
        change(database, change(database, arrived, Status.READY), Status.STARTED)
        of_item = [entry for entry in entries(database) if entry.item == item.id]
        assert [(entry.receiver, entry.status) for entry in of_item if entry.status == "ARRIVED"] == [
            ("arrivals", "ARRIVED")
        ]
        assert {entry.receiver for entry in of_item if entry.status == "STARTED"} == expected


@pytest.mark.parametrize(
    ("options", "who", "is_told"),
    [
        ({}, "mpps CT1", True),
        ({}, "command line", True),
        # Without a name for the receiver, whatever came by HL7 may have come from it.
        ({}, "hl7 RIS|HOSPITAL 4711", False),
        ({"EchoChanges": True}, "hl7 RIS|HOSPITAL 4711", True),
        ({"ReceivingApplication": "RIS"}, "hl7 RIS|HOSPITAL 4711", False),
        ({"ReceivingApplication": "RIS^1.2^ISO"}, "hl7 RIS|HOSPITAL 4711", False),
        ({"ReceivingApplication": "RIS"}, "hl7 RIS2|HOSPITAL 4711", True),
        ({"ReceivingApplication": "RIS"}, "hl7 HIS|HOSPITAL 4711", True),
        ({"ReceivingApplication": "RIS", "EchoChanges": True}, "hl7 RIS|HOSPITAL 4711", True),
    ],
)
def test_a_ris_is_not_told_what_it_said_itself(
    database: Database, tmp_path: Path, options: dict[str, Any], who: str, is_told: bool
) -> None:
    tell(database, tmp_path, options)
    change(database, add(database), Status.DISCONTINUED, who=who)
    assert told(database) == ([("RIS", "DISCONTINUED")] if is_told else [])


def test_an_item_without_any_number_is_not_told(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    change(database, add(database, 1, AccessionNumber=""), Status.STARTED)
    change(database, add(database, 2, AccessionNumber="", PlacerOrderNumberImagingServiceRequest="O1"), Status.STARTED)
    assert [entry.item for entry in entries(database)] == [2]


def test_what_is_rolled_back_is_not_told(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    item = add(database)

    def fail() -> None:
        with database.write(lock=store.LOCK) as connection:
            store.set_status(connection, item, Status.STARTED, store.Change.now("mpps CT1"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.write(lock=store.LOCK) as connection:
        store.set_status(connection, item, Status.SCHEDULED, store.Change.now("mpps CT1"))
    assert entries(database) == []


def test_several_gateways_with_the_same_receiver_tell_it_once(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {}, gateway="one")
    tell(database, tmp_path, {"Changes": ["ARRIVED", "STARTED"]}, gateway="two")
    change(database, change(database, add(database), Status.ARRIVED), Status.STARTED)
    assert told(database) == [("RIS", "ARRIVED"), ("RIS", "STARTED")]


def test_receivers_that_a_gateway_no_longer_has_are_told_nothing(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    tell(database, tmp_path)
    change(database, add(database), Status.STARTED)
    assert entries(database) == []


def test_for_a_gateway_that_is_gone_nothing_is_collected(database: Database, tmp_path: Path) -> None:
    now = store.Change.now("").at
    tell(database, tmp_path, {}, at=now - 31 * DAY_NS)
    change(database, add(database), Status.STARTED, at=now)
    assert entries(database) == []
    with database.write() as connection:
        receivers.still_there(connection, GATEWAY, now)
    change(database, add(database, 2), Status.STARTED, at=now)
    assert len(entries(database)) == 1


def test_a_message_outlives_its_item(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    item = change(database, add(database), Status.STARTED, at=5)
    change(database, item, Status.COMPLETED, at=9)
    with database.write(lock=store.LOCK) as connection:
        store.remove(connection, [item.id])
    with database.write() as connection:
        due = outbox.next_due(connection, "RIS", 10, 20)
        assert due is not None
        assert (due.item.id, due.item.status, due.started_at, due.at) == (item.id, Status.STARTED, 5, 5)
        outbox.settle(connection, due, outbox.State.ACCEPTED, 11, "AA", "", b"")
        due = outbox.next_due(connection, "RIS", 10, 20)
        assert due is not None
        assert (due.item.status, due.started_at, due.at) == (Status.COMPLETED, 5, 9)
        assert due.item.attributes.keys() == item.attributes.keys()
    with database.read() as connection:
        assert [entry.state for entry in outbox.of_item(connection, item.id)] == ["accepted", "waiting"]


def test_old_messages_are_deleted_but_never_those_that_wait(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    for number in range(1, 4):
        change(database, add(database, number), Status.STARTED, at=number)
    with database.write() as connection:
        for settled_at in (5, 50):
            due = outbox.next_due(connection, "RIS", 100, 200)
            assert due is not None
            outbox.settle(connection, due, outbox.State.REFUSED, settled_at, "AE", "", b"")
        assert outbox.prune(connection, 10) is False
    assert [entry.item for entry in entries(database)] == [2, 3]


def test_resend_makes_a_message_anew_and_discard_ends_it(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    item = change(database, add(database), Status.STARTED)
    change(database, item, Status.COMPLETED)
    with database.write() as connection:
        due = outbox.next_due(connection, "RIS", 10, 20)
        assert due is not None
        assert outbox.begin(connection, due, b"body", 10)
        outbox.settle(connection, due, outbox.State.REFUSED, 11, "AE", "no", b"ack")
        assert outbox.refused_and_current(connection, "RIS") == [due.id]
        assert outbox.resend(connection, [due.id, 999]) == 1
        again = outbox.next_due(connection, "RIS", 10, 20)
        assert again is not None
        assert (again.id, again.body, again.attempts) == (due.id, None, 0)
        assert again.control_id != due.control_id
        # What comes of the attempt before does not count any more.
        outbox.settle(connection, due, outbox.State.ACCEPTED, 12, "AA", "", b"")
        assert not outbox.begin(connection, due, b"body", 12)
    assert [entry.state for entry in entries(database)] == ["waiting", "waiting"]
    with database.write() as connection:
        assert outbox.discard(connection, [due.id], 13) == 1
        assert outbox.discard(connection, [due.id], 13) == 0
        assert outbox.waiting(connection, "RIS") == [due.id + 1]
    assert [entry.state for entry in entries(database)] == ["discarded", "waiting"]


def test_what_a_receiver_learnt_by_a_later_message_is_not_sent_again(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    for number in (1, 2):
        change(database, change(database, add(database, number), Status.STARTED), Status.COMPLETED)
    outcomes = [outbox.State.REFUSED, outbox.State.ACCEPTED, outbox.State.REFUSED, outbox.State.REFUSED]
    with database.write() as connection:
        for state in outcomes:
            due = outbox.next_due(connection, "RIS", 10, 20)
            assert due is not None
            outbox.settle(connection, due, state, 11, "", "", b"")
        assert outbox.refused_and_current(connection, "RIS") == [3, 4]


def test_texts_of_receivers_are_cut_and_cleaned(database: Database, tmp_path: Path) -> None:
    tell(database, tmp_path, {})
    change(database, add(database), Status.STARTED)
    with database.write() as connection:
        due = outbox.next_due(connection, "RIS", 10, 20)
        assert due is not None
        outbox.settle(connection, due, outbox.State.REFUSED, 11, "AE", "\0\x1b[2J" + "x" * 1000, b"\0")
    assert entries(database)[0].text == "  [2J" + "x" * 250


def test_changes_that_can_be_told_are_statuses() -> None:
    assert set(ChangeName.__args__) < set(Status.__members__)  # type: ignore[attr-defined]
    assert ReceiverSection.model_validate({"Name": "RIS", "Host": "ris", "Port": 1}).changes == [
        "STARTED",
        "COMPLETED",
        "DISCONTINUED",
    ]


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"UseTls": True}, "TlsTrustedCertificates: expected the path"),
        ({"TlsCertificate": "c"}, "expected both or none"),
        ({"TlsTrustedCertificates": "ca"}, "UseTls: expected true"),
        ({"MinimumRetryDelay": 100.0}, "MaximumRetryDelay: expected at least"),
        ({"Message": "OMG^O19", "Version": "2.3.1"}, "Version: expected 2.4"),
        ({"CharacterSet": "KLINGON"}, "expected a character set"),
        ({"Name": "a/b"}, "pattern"),
        ({"SendingApplication": "a\rb"}, "pattern"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        ReceiverSection.model_validate({"Name": "RIS", "Host": "ris", "Port": 1, **options})


def test_names_of_receivers_are_unique(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="expected each Name once"):
        configuration_of(tmp_path, {}, {})
