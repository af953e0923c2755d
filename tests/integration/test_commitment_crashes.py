"""A report arrives whoever is killed, and when: kill -9 at each step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import conftest as root
from tests.integration.commitments import COMMIT, REPORTER, STAYS, TITLES, Site, site
from tests.integration.gateways import WORKER, process_of, wait_until_drained
from tests.support.commitments import ask, ask_and_leave, ct_of
from tests.support.orthanc import Orthanc
from tests.support.processes import kill, wait_until

pytestmark = pytest.mark.integration

DEADLINE_S = 30


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    root._servers.append(server)
    try:
        server.start()
        yield server
    finally:
        root._closing([server])


@pytest.fixture
def here(orthanc: Orthanc, tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, orthanc) as made:
        yield made


def kill_all(here: Site) -> None:
    for pid in here.gateway.family():
        kill(pid)
    wait_until(lambda: not here.gateway.family(), DEADLINE_S, "some live")
    here.gateway.process = None


def test_reporter_killed_while_it_verifies(here: Site, orthanc: Orthanc) -> None:
    here.store(TITLES[0], "1.4.1.1")
    wait_until_drained(here.gateway)
    with here.requester(TITLES[0]) as requester:
        os.kill(orthanc.pid, signal.SIGSTOP)
        try:
            assert ask_and_leave(here.gateway.dicom_port, "1.4.90.1", ct_of("1.4.1.1"), TITLES[0]) == 0
            kill(process_of(here.gateway, REPORTER))
        finally:
            os.kill(orthanc.pid, signal.SIGCONT)
        assert requester.next().event_type == 1


def test_reporter_killed_while_the_requester_has_the_report_and_has_not_answered(here: Site) -> None:
    here.store(TITLES[0], "1.4.2.1")
    with here.requester(TITLES[0], "silence", 0) as requester:
        assert ask_and_leave(here.gateway.dicom_port, "1.4.90.2", ct_of("1.4.2.1"), TITLES[0]) == 0
        assert requester.next().event_type == 1
        kill(process_of(here.gateway, REPORTER))
        assert requester.next().event_type == 1
        wait_until(lambda: "reported" in here.row(TITLES[0]), DEADLINE_S, lambda: here.command("list"))


def test_worker_killed_right_after_its_response(here: Site) -> None:
    with here.requester(TITLES[0]) as requester, here.associated(TITLES[0]) as peer:
        # Once it has written this down it writes nothing: stopped in a transaction it would hold up the worker.
        assert ask(peer, "1.4.90.8", ct_of("1.4.3.1"), context_id=COMMIT).status == 0
        wait_until(lambda: "reported" in here.row(TITLES[0]), DEADLINE_S, lambda: here.command("list"))
        assert requester.next().transaction_uid == "1.4.90.8"
        worker, reporter = process_of(here.gateway, WORKER), process_of(here.gateway, REPORTER)
        os.kill(reporter, signal.SIGSTOP)
        assert ask(peer, "1.4.90.3", ct_of("1.4.3.1"), context_id=COMMIT, message_id=2).status == 0
        kill(worker)
        os.kill(reporter, signal.SIGCONT)
        assert requester.next().transaction_uid == "1.4.90.3"


def test_worker_killed_while_it_reports_on_the_association_of_the_request(here: Site) -> None:
    with here.requester(STAYS[0]) as requester, here.associated(STAYS[0]) as peer:
        assert ask(peer, "1.4.90.4", ct_of("1.4.4.1"), context_id=COMMIT).status == 0
        peer.read_pdu()
        kill(process_of(here.gateway, WORKER))
        assert requester.next().transaction_uid == "1.4.90.4"


def test_reporter_that_is_new_learns_of_associations_that_are_still_open(here: Site, orthanc: Orthanc) -> None:
    with here.associated(STAYS[1]) as peer:
        os.kill(orthanc.pid, signal.SIGSTOP)
        try:
            assert ask(peer, "1.4.90.5", ct_of("1.4.5.1"), context_id=COMMIT).status == 0
            old = process_of(here.gateway, REPORTER)
            kill(old)
            wait_until(lambda: process_of(here.gateway, REPORTER) != old, DEADLINE_S, "no new reporter")
            connected = here.gateway.state_directory / "commitment.sock"
            wait_until(lambda: _connections(connected) >= 1, DEADLINE_S, "the worker does not connect")
        finally:
            os.kill(orthanc.pid, signal.SIGCONT)
        peer.read_pdu()  # the report, on this association


@pytest.mark.parametrize("moment", ["verifies", "reports"])
def test_whole_gateway_killed_and_started_again(here: Site, orthanc: Orthanc, moment: str) -> None:
    here.store(TITLES[0], "1.4.6.1")
    wait_until_drained(here.gateway)
    with here.requester(TITLES[0], *(["silence", 0] if moment == "reports" else [0])) as requester:
        if moment == "verifies":
            os.kill(orthanc.pid, signal.SIGSTOP)
        try:
            assert ask_and_leave(here.gateway.dicom_port, "1.4.90.6", ct_of("1.4.6.1"), TITLES[0]) == 0
            if moment == "reports":
                assert requester.next().event_type == 1
            kill_all(here)
        finally:
            os.kill(orthanc.pid, signal.SIGCONT)
        here.gateway.start()
        assert requester.next().event_type == 1


def _connections(address: Path) -> int:
    """How many are connected to the Unix socket (proc(5), /proc/net/unix: state 03 is SS_CONNECTED)."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return sum(fields[5] == "03" and fields[-1] == str(address) for fields in sockets)
