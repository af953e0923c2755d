"""Storage commitment over the network, without an Orthanc: who may ask and report, and what is answered."""

from __future__ import annotations

import struct
from typing import Any, Final

import pytest

from gateway.database import SQLITE_NAME, Database, connect_sqlite
from storage_commitment import reports, store
from tests.scp.conftest import Log, StartGateway
from tests.support.commitments import (
    CONTEXT,
    INSTANCE,
    PUSH_MODEL,
    action_rq,
    ask,
    ask_and_leave,
    ct_of,
    encoded,
    event_report_rq,
    information,
)
from tests.support.data_sets import EXPLICIT, IMPLICIT
from tests.support.processes import cmdline, kill
from tests.support.rawdicom import (
    A_ABORT,
    COMMAND,
    CT_IMAGE,
    LAST,
    Context,
    RawPeer,
    Response,
    associate_rq,
    image,
    p_data,
    pdv,
    store_rq,
)
from tests.support.standalone import Gateway

NOBODY_LISTENS: Final = 9
REQUEST: Final = encoded(information("1.2.99", ct_of("1.2.3")))


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Gateway:
    modality = {"Host": "127.0.0.1", "Port": NOBODY_LISTENS}
    return start_gateway(
        DicomModalities={
            "both": {"AET": "MODALITY", **modality},
            "asks": {"AET": "ASKS", "AllowEventReport": False, **modality},
            "reports": {"AET": "REPORTS", "AllowNAction": False, **modality},
            "neither": {"AET": "NEITHER", "AllowStorageCommitment": False, **modality},
        }
    )


@pytest.fixture(scope="module")
def books(gateway: Gateway) -> Database:
    return connect_sqlite(gateway.state_directory / SQLITE_NAME)


def role(scu: int, scp: int) -> bytes:
    """An SCP/SCU Role Selection Sub-item (PS3.7 D.3.3.4.1)."""
    content = struct.pack(">H", len(PUSH_MODEL)) + PUSH_MODEL.encode() + bytes([scu, scp])
    return struct.pack(">BxH", 0x54, len(content)) + content


def send(gateway: Gateway, command: bytes, data_set: bytes | None, calling: str = "MODALITY") -> Response:
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate([CONTEXT], calling=calling)
        peer.message(1, command, data_set)
        response = peer.response()
        peer.release()
    return response


def kept(books: Database, transaction_uid: str) -> list[store.Transaction]:
    with books.read() as connection:
        numbers = [one.id for one in store.summaries(connection) if one.transaction_uid == transaction_uid]
        return [transaction for number in numbers if (transaction := store.load(connection, number)) is not None]


@pytest.mark.parametrize(
    ("command", "data_set", "status"),
    [
        (action_rq(action_type=2), REQUEST, 0x0123),
        (action_rq(sop_instance_uid="1.2.3"), REQUEST, 0x0112),
        (action_rq(sop_instance_uid="one"), REQUEST, 0x0117),
        (action_rq(sop_instance_uid=""), REQUEST, 0x0117),
        (action_rq(sop_class_uid=CT_IMAGE), REQUEST, 0x0119),
        (action_rq(sop_class_uid=CT_IMAGE, sop_instance_uid="1.2.3"), REQUEST, 0x0118),
        (action_rq(has_data_set=False), None, 0x0120),
        (action_rq(), encoded(information(None, ct_of("1.2.3"))), 0x0120),
        (action_rq(), encoded(information("1.2.99", None)), 0x0120),
        (action_rq(), encoded(information("1.2.99", [])), 0x0115),
        (action_rq(), encoded(information("", ct_of("1.2.3"))), 0x0115),
        (action_rq(), REQUEST[:-3], 0x0110),
        (action_rq(), bytes(9 * 1024 * 1024), 0x0213),
        (event_report_rq(event_type=3), REQUEST, 0x0113),
        (event_report_rq(sop_instance_uid="1.2.3"), REQUEST, 0x0112),
        (event_report_rq(), encoded(information(None, ct_of("1.2.3"))), 0x0120),
        (event_report_rq(), REQUEST[:-3], 0x0110),
    ],
)
def test_what_is_wrong_has_its_status_and_the_association_goes_on(
    gateway: Gateway, books: Database, command: bytes, data_set: bytes | None, status: int
) -> None:
    response = send(gateway, command, data_set)
    assert response.status == status
    assert response.comment
    assert kept(books, "1.2.99") == []


def test_response_says_what_it_is_about(gateway: Gateway) -> None:
    response = send(gateway, action_rq(), encoded(information("1.2.50", ct_of("1.2.3"))))
    assert response.status == 0
    assert response.values[0x0002].rstrip(b"\0") == PUSH_MODEL.encode()
    assert response.values[0x1000].rstrip(b"\0") == INSTANCE.encode()
    assert response.values[0x1008] == b"\1\0"


def test_request_is_kept_with_who_asked_whom_from_where(gateway: Gateway, books: Database) -> None:
    with RawPeer(gateway.dicom_port, source="127.0.0.7") as peer:
        peer.associate([Context(1, PUSH_MODEL, (IMPLICIT,))], calling="MODALITY", called="ARCHIVE")
        peer.message(1, action_rq(), encoded(information("1.2.51", ct_of("1.2.3", "1.2.4")), IMPLICIT))
        assert peer.response().status == 0
    (transaction,) = kept(books, "1.2.51")
    assert transaction.requester == store.Requester("MODALITY", "ARCHIVE", "127.0.0.7")
    assert list(transaction.request.references) == ct_of("1.2.3", "1.2.4")


def test_request_survives_the_death_of_the_whole_gateway_right_after_its_response(
    start_gateway: StartGateway,
) -> None:
    running = start_gateway(DicomModalities={"m": ["MODALITY", "127.0.0.1", NOBODY_LISTENS]})
    with RawPeer(running.dicom_port) as peer:
        peer.associate([CONTEXT], calling="MODALITY")
        assert ask(peer, "1.2.52", ct_of("1.2.3")).status == 0
        for pid in running.family():
            kill(pid)
    (transaction,) = kept(connect_sqlite(running.state_directory / SQLITE_NAME), "1.2.52")
    assert transaction.state is store.State.PENDING


def test_ten_thousand_instances_are_taken_in_one_request(gateway: Gateway, books: Database) -> None:
    uids = [f"1.2.840.113619.2.55.3.{number}" for number in range(10_000)]
    assert ask_and_leave(gateway.dicom_port, "1.2.53", ct_of(*uids)) == 0
    (transaction,) = kept(books, "1.2.53")
    assert len(transaction.request.references) == 10_000


def test_request_on_a_context_of_storage_is_no_operation_that_it_has(gateway: Gateway) -> None:
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate([Context(1)], calling="MODALITY")
        peer.message(1, action_rq(), REQUEST)
        assert peer.response().status == 0x0211


def test_database_that_fails_is_a_processing_failure(start_gateway: StartGateway) -> None:
    running = start_gateway(DicomModalities={"m": ["MODALITY", "127.0.0.1", NOBODY_LISTENS]})
    books, log = connect_sqlite(running.state_directory / SQLITE_NAME), Log(running)
    with books.write() as connection:
        connection.exec_driver_sql("ALTER TABLE commitment_transactions RENAME TO away")
        connection.exec_driver_sql("ALTER TABLE commitment_reports RENAME TO gone")
    assert send(running, action_rq(), REQUEST).status == 0x0110
    assert send(running, event_report_rq(), REQUEST).status == 0x0110
    log.expect("ERROR", "the database fails; a storage commitment is refused", "no such table")


def results(gateway: Gateway, calling: str, roles: bytes = b"") -> int:
    """The result of the presentation context (PS3.8 table 9-18)."""
    with RawPeer(gateway.dicom_port) as peer:
        return peer.associate([CONTEXT], calling=calling, user_information=roles).results[1]


@pytest.mark.parametrize(
    ("calling", "as_scu", "as_scp"),
    [("MODALITY", 0, 0), ("ASKS", 0, 1), ("REPORTS", 0, 0), ("NEITHER", 1, 1), ("STRANGER", 1, 1)],
)
def test_context_is_for_who_may_ask_or_report(gateway: Gateway, calling: str, as_scu: int, as_scp: int) -> None:
    assert results(gateway, calling) == as_scu
    assert results(gateway, calling, role(0, 1)) == as_scp


def test_role_of_a_reporter_is_confirmed(gateway: Gateway) -> None:
    with RawPeer(gateway.dicom_port) as peer:
        peer.send(associate_rq([CONTEXT], calling="MODALITY", user_information=role(0, 1)))
        assert role(0, 1) in peer.read_pdu().body


@pytest.mark.parametrize(
    ("calling", "command", "option"),
    [
        ("REPORTS", action_rq(), "DicomModalities.reports.AllowNAction"),
        ("ASKS", event_report_rq(), "DicomModalities.asks.AllowEventReport"),
    ],
)
def test_who_may_do_one_of_both_is_refused_the_other(
    gateway: Gateway, books: Database, calling: str, command: bytes, option: str
) -> None:
    log = Log(gateway)
    assert send(gateway, command, REQUEST, calling).status == 0x0124
    assert kept(books, "1.2.99") == []
    log.expect("WARNING", f"calling={calling}", "0x0124", option)


def test_stranger_is_told_in_the_log_what_is_missing(gateway: Gateway) -> None:
    log = Log(gateway)
    results(gateway, "STRANGER")
    log.expect("WARNING", "calling=STRANGER", "STORAGE_COMMITMENT", "an entry in DicomModalities")


@pytest.mark.parametrize("roles", [b"", role(0, 1), role(1, 1)], ids=["no role", "scp", "both"])
def test_report_is_kept_before_it_is_answered(gateway: Gateway, books: Database, roles: bytes) -> None:
    uid = f"1.2.6{len(roles)}.{roles[-2] if roles else 0}"
    data_set = encoded(information(uid, ct_of("1.2.3"), [((CT_IMAGE, "1.2.4"), 0x0112)]))
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate([CONTEXT], calling="MODALITY", user_information=roles)
        peer.message(1, event_report_rq(event_type=2), data_set)
        response = peer.response()
        assert (response.status, response.values[0x1002]) == (0, b"\2\0")
        with books.read() as connection:
            (found,) = reports.find(connection, uid)
    assert found.reporter == "MODALITY"
    assert list(found.report.failed) == [((CT_IMAGE, "1.2.4"), 0x0112)]


def test_request_between_the_pdus_of_a_command_is_answered_after_it(gateway: Gateway) -> None:
    """A worker that serves commitments still takes messages that come in any pieces."""
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate([Context(1), Context(3, PUSH_MODEL, (EXPLICIT,))], calling="MODALITY")
        command = store_rq("1.2.77")
        peer.send(p_data(pdv(1, 0x01, command[:40])) + p_data(pdv(1, COMMAND | LAST, command[40:])))
        peer.send_data_set(1, [image("1.2.77")], pdv_bytes=50)
        assert peer.response().status == 0
        assert ask(peer, "1.2.78", ct_of("1.2.77"), context_id=3, message_id=2).status == 0
        peer.release()


def test_association_that_may_get_its_report_may_not_be_silent_for_longer_than_others(
    start_gateway: StartGateway,
) -> None:
    running = start_gateway(
        DicomScpTimeout=1,
        DicomModalities={"m": ["MODALITY", "127.0.0.1", NOBODY_LISTENS]},
        DicomGateway={"StorageCommitment": {"SameAssociation": ["*"]}},
    )
    log = Log(running)
    with RawPeer(running.dicom_port) as peer:
        peer.associate([CONTEXT], calling="MODALITY")
        assert ask(peer, "1.2.54", ct_of("1.2.3")).status == 0
        assert [said.type for said in peer.ends()] == [A_ABORT]
    line = log.expect("association ended without release", "sent nothing for too long")
    assert 1 <= float(line.partition("seconds=")[2].split()[0]) < 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"DicomModalities": {"m": {"AET": "MODALITY", "Host": "h", "Port": 1, "AllowStorageCommitment": False}}},
        {
            "DicomModalities": {"m": ["MODALITY", "127.0.0.1", NOBODY_LISTENS]},
            "DicomGateway": {"StorageCommitment": {"Enable": False}},
        },
    ],
    ids=["no modality", "none may", "off"],
)
def test_without_anybody_who_may_use_it_there_is_neither_service_nor_process(
    start_gateway: StartGateway, options: dict[str, Any]
) -> None:
    running = start_gateway(**options)
    abstract_syntax_not_supported = 3
    assert results(running, "MODALITY") == abstract_syntax_not_supported
    assert not any("scp.commitment_reporter" in cmdline(pid) for pid in running.family())
    assert not (running.state_directory / SQLITE_NAME).exists()
