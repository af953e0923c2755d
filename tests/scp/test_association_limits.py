"""MaximumAssociations and MaximumAssociationsPerPeer: who is rejected, who is not, and what a flood does."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from gateway.repeated_lines import LINES_PER_INTERVAL
from gateway.supervisor.dicom_port import REJECTION_RESERVE
from scp.association import OVER_LIMIT_TIMEOUT_S
from scp.environment import ACSE_TIMEOUT_S
from tests.conftest import MakeGateway
from tests.scp.conftest import (
    DEADLINE_S,
    UNREACHABLE_ORTHANC,
    Log,
    StartGateway,
    resources,
    wait_for_resources,
    warm_up,
    workers,
)
from tests.support import processes
from tests.support.dcmtk import echoscu, storescu
from tests.support.ports import accepts
from tests.support.processes import kill, wait_until
from tests.support.rawdicom import VERIFICATION, Context, RawPeer, Rejected
from tests.support.standalone import Gateway

LOCAL_LIMIT_EXCEEDED: Final = Rejected(result=2, source=3, reason=2)
# More than warm_up opens at the same time.
MAXIMUM: Final = 8
MAXIMUM_PER_PEER: Final = 5
LIMITS: Final = {"MaximumAssociations": MAXIMUM, "MaximumAssociationsPerPeer": MAXIMUM_PER_PEER}
A, B, C = "127.0.0.1", "127.0.0.2", "127.0.0.3"
FLOOD: Final = 400

Open = Callable[..., list[RawPeer]]


@pytest.fixture(scope="module")
def limited(start_gateway: StartGateway) -> Gateway:
    """A gateway with low limits and two workers."""
    running = start_gateway(DicomGateway={"Workers": 2, **LIMITS})
    warm_up(running)
    return running


@pytest.fixture
def quiet(limited: Gateway) -> Iterator[Gateway]:
    """The same, without any connection before and after the test."""
    before = resources(limited)
    yield limited
    wait_for_resources(limited, before)


@pytest.fixture
def open_associations() -> Iterator[Open]:
    """Opens associations that stay open until the end of the test."""
    with ExitStack() as stack:

        def open_some(gateway: Gateway, count: int, source: str = A) -> list[RawPeer]:
            peers = [stack.enter_context(RawPeer(gateway.dicom_port, source=source)) for _ in range(count)]
            for peer in peers:
                peer.associate([Context(1), Context(3, VERIFICATION)])
            return peers

        yield open_some


def _leave(peer: RawPeer) -> None:
    """Release, and close the connection as whoever asked for the release must (PS3.8 9.2.3, AR-3)."""
    peer.release()
    peer.socket.close()


def _assert_rejected(gateway: Gateway, source: str) -> None:
    with RawPeer(gateway.dicom_port, source=source) as peer:
        with pytest.raises(Rejected) as caught:
            peer.associate()
        assert caught.value == LOCAL_LIMIT_EXCEEDED
        assert peer.ends() == []


def _assert_served(gateway: Gateway, source: str) -> None:
    with RawPeer(gateway.dicom_port, source=source) as peer:
        peer.associate()
        assert peer.store("1.2.3").status == 0
        peer.release()


def test_peer_at_its_limit_is_rejected_while_others_are_served(quiet: Gateway, open_associations: Open) -> None:
    log = Log(quiet)
    peers = open_associations(quiet, MAXIMUM_PER_PEER)
    _assert_rejected(quiet, A)
    log.expect(
        "WARNING gateway: association rejected",
        "peer=127.0.0.1",
        f'"{MAXIMUM_PER_PEER} associations of this address are open"',
        "option=DicomGateway.MaximumAssociationsPerPeer",
    )
    _assert_served(quiet, B)
    _leave(peers.pop())
    _assert_served(quiet, A)
    for peer in peers:
        assert peer.echo(3).status == 0
        _leave(peer)


def test_peers_at_the_limit_of_all_are_rejected_until_one_is_released(quiet: Gateway, open_associations: Open) -> None:
    log = Log(quiet)
    peers = [*open_associations(quiet, MAXIMUM_PER_PEER), *open_associations(quiet, MAXIMUM - MAXIMUM_PER_PEER, B)]
    _assert_rejected(quiet, C)
    log.expect(
        "WARNING gateway: association rejected",
        "peer=127.0.0.3",
        f'"{MAXIMUM} associations are open"',
        "option=DicomGateway.MaximumAssociations",
    )
    _leave(peers.pop())
    _assert_served(quiet, C)
    for peer in peers:
        assert peer.echo(3).status == 0
        _leave(peer)


def _echo(gateway: Gateway, _samples: list[Path]) -> subprocess.CompletedProcess[str]:
    return echoscu(gateway.dicom_port)


def _store(gateway: Gateway, samples: list[Path]) -> subprocess.CompletedProcess[str]:
    return storescu(gateway.dicom_port, samples[:1])


@pytest.mark.parametrize("scu", [_echo, _store], ids=["echoscu", "storescu"])
def test_dcmtk_says_that_the_limit_is_exceeded_and_is_served_when_it_is_not(
    quiet: Gateway,
    open_associations: Open,
    samples: list[Path],
    scu: Callable[[Gateway, list[Path]], subprocess.CompletedProcess[str]],
) -> None:
    peers = open_associations(quiet, MAXIMUM_PER_PEER)
    refused = scu(quiet, samples)
    assert refused.returncode != 0
    assert "Result: Rejected Transient" in refused.stdout + refused.stderr
    assert "Reason: Local Limit Exceeded" in refused.stdout + refused.stderr
    _leave(peers.pop())
    served = scu(quiet, samples)
    assert served.returncode == 0, served.stdout + served.stderr
    for peer in peers:
        _leave(peer)


def test_peer_that_comes_back_at_once_is_not_rejected_for_the_association_that_it_has_just_released(
    quiet: Gateway, open_associations: Open
) -> None:
    peers = open_associations(quiet, MAXIMUM_PER_PEER - 1)
    for _ in range(100):
        with RawPeer(quiet.dicom_port) as peer:
            peer.associate()
            peer.release()
    for peer in peers:
        _leave(peer)


def test_worker_that_is_killed_gives_its_counts_back(make_gateway: MakeGateway, open_associations: Open) -> None:
    gateway = make_gateway(DicomGateway={"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC, "MaximumAssociations": MAXIMUM})
    gateway.start()
    warm_up(gateway)
    peers = open_associations(gateway, MAXIMUM)
    _assert_rejected(gateway, A)
    (worker,) = workers(gateway)
    kill(worker)
    for peer in peers:
        assert peer.ends() == []
    open_associations(gateway, MAXIMUM)
    _assert_rejected(gateway, A)
    assert [pid for pid in workers(gateway) if pid != worker]


def test_flood_of_silent_connections_takes_a_few_threads_and_stops_nobody(
    make_gateway: MakeGateway, open_associations: Open
) -> None:
    gateway = make_gateway(DicomGateway={"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC, **LIMITS})
    gateway.start()
    warm_up(gateway)
    before = resources(gateway)
    peers = open_associations(gateway, MAXIMUM_PER_PEER)
    (worker,) = workers(gateway)
    started = time.monotonic()
    with ExitStack() as stack:
        flood = []
        for number in range(FLOOD):
            flood.append(stack.enter_context(socket.create_connection((A, gateway.dicom_port), timeout=DEADLINE_S)))
            if number % 50 == 0:
                assert peers[0].store("1.2.3").status == 0
                supervisor = resources(gateway)[gateway.pid]
                assert supervisor.threads == before[gateway.pid].threads
                # Besides those of the reserve one may just be accepted.
                assert supervisor.descriptors <= before[gateway.pid].descriptors + REJECTION_RESERVE + 1
        _assert_served(gateway, B)
        most = before[worker].threads + MAXIMUM_PER_PEER + REJECTION_RESERVE
        wait_until(lambda: resources(gateway)[worker].threads == most, DEADLINE_S, lambda: f"{resources(gateway)}")
        for silent in flood:
            assert silent.recv(1) == b""
            assert processes.threads(worker) <= most
        # Those of the reserve were waited for, all at the same time and not as long as one that may be served.
        assert OVER_LIMIT_TIMEOUT_S <= time.monotonic() - started < ACSE_TIMEOUT_S
    for peer in peers:
        assert peer.store("1.2.3").status == 0
        _leave(peer)
    wait_for_resources(gateway, before)
    gateway.stop()
    _assert_log_accounts_for(gateway, FLOOD)


def _assert_log_accounts_for(gateway: Gateway, refused: int) -> None:
    """Each refused connection has its line or is counted in one, and there are few lines."""
    lines = [line for line in gateway.log_text().splitlines() if "MaximumAssociationsPerPeer" in line]
    summaries = [
        int(count) for line in lines for count in re.findall(r"more such lines were not written lines=(\d+)", line)
    ]
    assert len(lines) - len(summaries) + sum(summaries) == refused
    # Two events, and the flood may last into a second interval.
    assert len(lines) <= 2 * 2 * (LINES_PER_INTERVAL + 1)
    assert "ended before an association" not in gateway.log_text()


def test_peer_that_is_over_the_limit_and_garbage_is_aborted(quiet: Gateway, open_associations: Open) -> None:
    peers = open_associations(quiet, MAXIMUM_PER_PEER)
    with RawPeer(quiet.dicom_port) as stranger:
        stranger.send(b"GET / HTTP/1.1\r\n\r\n")
        assert len(stranger.ends()) == 1
    for peer in peers:
        _leave(peer)


def test_a_hundred_idle_associations_are_within_the_defaults(gateway: Gateway, open_associations: Open) -> None:
    peers = open_associations(gateway, 100)
    _assert_served(gateway, A)
    for peer in peers:
        assert peer.echo(3).status == 0
        _leave(peer)


def test_connection_that_waits_when_the_gateway_stops_is_closed_before_associations_end(
    make_gateway: MakeGateway, open_associations: Open
) -> None:
    section = {"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC, **LIMITS, "ShutdownTimeout": 3 * DEADLINE_S}
    gateway = make_gateway(DicomGateway=section)
    gateway.start()
    warm_up(gateway)
    peers = open_associations(gateway, MAXIMUM_PER_PEER)
    with RawPeer(gateway.dicom_port) as waiting:
        os.kill(gateway.pid, signal.SIGTERM)
        assert waiting.ends() == []
    for peer in peers:
        assert peer.store("1.2.3").status == 0
        _leave(peer)
    assert gateway.wait() == 0


def test_gateway_that_stops_does_not_wait_for_associations_that_have_ended(
    make_gateway: MakeGateway, open_associations: Open
) -> None:
    # More than the messages that the socket between worker and supervisor holds.
    many = 400
    section = {"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC, "MaximumAssociationsPerPeer": 0}
    gateway = make_gateway(DicomGateway={**section, "ShutdownTimeout": 3 * DEADLINE_S})
    gateway.start()
    peers = open_associations(gateway, many)
    os.kill(gateway.pid, signal.SIGTERM)
    wait_until(lambda: not accepts(gateway.dicom_port), DEADLINE_S, "the port is still open")
    for peer in peers:
        _leave(peer)
    assert gateway.wait(DEADLINE_S) == 0
