"""Peers that say nothing, or too slowly: how long they are waited for, and what becomes of them."""

import time
from typing import Final

import pytest

from scp.environment import ACSE_TIMEOUT_S
from tests.scp.conftest import (
    DEADLINE_S,
    HalfOpen,
    Log,
    StartGateway,
    half_received,
    resources,
    wait_for_resources,
    warm_up,
)
from tests.support.processes import wait_until
from tests.support.rawdicom import A_ABORT, COMMAND, DATA_SET, LAST, RawPeer, image, p_data, pdv, store_rq
from tests.support.standalone import Gateway

IDLE_TIMEOUT_S: Final = 1
STORE = pdv(1, COMMAND | LAST, store_rq("1.2.3"))


@pytest.fixture(scope="module")
def impatient(start_gateway: StartGateway) -> Gateway:
    """A gateway whose associations may be idle for a second."""
    running = start_gateway(DicomScpTimeout=IDLE_TIMEOUT_S, DicomGateway={"Workers": 2})
    warm_up(running)
    return running


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        p_data(STORE)[:3],
        p_data(STORE)[:40],
        p_data(STORE),
        p_data(STORE) + p_data(pdv(1, DATA_SET, bytes(60_000)))[:30_000],
    ],
    ids=["idle", "in a PDU header", "in a command", "before the data set", "in a data set"],
)
def test_peer_that_stalls_is_aborted_after_the_timeout_and_its_thread_is_gone(impatient: Gateway, begun: bytes) -> None:
    before = resources(impatient)
    log = Log(impatient)
    with RawPeer(impatient.dicom_port) as peer:
        peer.associate()
        started = time.monotonic()
        peer.send(begun)
        answers = peer.ends()
        assert 0.9 * IDLE_TIMEOUT_S < time.monotonic() - started < DEADLINE_S / 2
        assert [answer.type for answer in answers] == [A_ABORT]
        log.expect("ended without release", "peer=127.0.0.1", "calling=RAW", "sent nothing for too long")
        wait_for_resources(impatient, before)
    assert half_received(impatient) == []


def test_peer_that_is_slow_but_never_silent_is_served(impatient: Gateway) -> None:
    message = p_data(STORE, pdv(1, DATA_SET | LAST, image("1.2.3")))
    with RawPeer(impatient.dicom_port) as peer:
        peer.associate()
        started = time.monotonic()
        for start in range(0, len(message), 40):
            peer.send(message[start : start + 40])
            # The pace is the subject: in sum longer than the timeout, no pause as long as it.
            time.sleep(IDLE_TIMEOUT_S / 4)
        assert peer.response().status == 0
        assert time.monotonic() - started > IDLE_TIMEOUT_S


def test_connection_that_never_asks_for_an_association_is_closed_in_the_time_of_artim(half_open: HalfOpen) -> None:
    for peer in half_open.peers:
        assert peer.ends() == []
        assert time.monotonic() - half_open.since > ACSE_TIMEOUT_S - 1
    half_open.log.expect("peer=127.0.0.1", "ended before an association", "sent nothing for too long")
    wait_until(
        lambda: resources(half_open.gateway) == half_open.before,
        DEADLINE_S,
        lambda: f"{resources(half_open.gateway)} instead of {half_open.before}",
    )
