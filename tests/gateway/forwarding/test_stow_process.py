"""The forwarder's process with DICOMweb servers only: killed at the worst moments, asked by workers."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import child
from gateway.child import Settings
from gateway.deliveries import SOCKET_NAME, DeliveryClient, Outcome, Wanted, request_rescan
from tests.support.images import make_ct
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.spooled import Receiver
from tests.support.stow_origin import StowOrigin, StowReply, StowRequest

DEADLINE_S = 30


class Process:
    """As the supervisor starts it; the server CLOUD is `origin`, DOWN is none."""

    def __init__(self, state_directory: Path, origin: StowOrigin) -> None:
        self._state_directory = state_directory
        section = {
            "StateDirectory": str(state_directory),
            "DicomWebServers": {"CLOUD": {"Url": origin.url}, "DOWN": {"Url": f"http://127.0.0.1:{free_port()}"}},
            "Forwarding": {"MinimumRetryDelay": 0.02, "MaximumRetryDelay": 0.2},
            "Log": {"Level": "ERROR"},
        }
        self._settings = Settings({"DicomGateway": section}, "/")
        self.start()

    def start(self) -> None:
        (self._state_directory / SOCKET_NAME).unlink(missing_ok=True)
        self.control, theirs = socket.socketpair()
        self.process = child.start("gateway.forwarding", self._settings, [str(theirs.fileno())], fds=[theirs.fileno()])
        theirs.close()
        wait_until(lambda: request_rescan(self._state_directory), DEADLINE_S, "the forwarder does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.control.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "state")


@pytest.fixture
def process(receiver: Receiver, origin: StowOrigin) -> Iterator[Process]:
    made = Process(receiver.spool.root.parent, origin)
    yield made
    with contextlib.suppress(OSError):
        made.kill()


@pytest.fixture
def client(receiver: Receiver, process: Process) -> Iterator[DeliveryClient]:
    made = DeliveryClient(receiver.spool.root.parent)
    yield made
    made.close()


def image(tmp_path: Path, seed: int) -> Path:
    path = tmp_path / f"{seed}.dcm"
    make_ct(path, 16, 16, seed)
    return path


@pytest.mark.parametrize("has_stored", [False, True])
def test_nothing_is_lost_by_a_kill_before_the_answer(
    process: Process, receiver: Receiver, origin: StowOrigin, tmp_path: Path, has_stored: bool
) -> None:
    def rule(request: StowRequest) -> StowReply | None:
        if len(origin.requests) > 1:
            return None
        if has_stored:
            origin.keep(request)
        origin.over.wait()
        return StowReply(body=None)

    origin.rule = rule
    deliveries = [receiver.ready(image(tmp_path, seed), "CLOUD") for seed in range(3)]
    request_rescan(receiver.spool.root.parent)
    wait_until(lambda: origin.requests, DEADLINE_S, "nothing is sent")
    process.kill()
    assert set(receiver.spool.names(receiver.spool.ready)) == {delivery.path.name for delivery in deliveries}
    process.start()
    wait_until(lambda: not receiver.spool.names(receiver.spool.ready), DEADLINE_S, "it is not delivered")
    assert set(origin.stored) == {delivery.sop_instance_uid for delivery in deliveries}
    assert receiver.spool.names(receiver.spool.failed) == []


def test_queries_wait_for_what_goes_to_their_server_only(
    client: DeliveryClient, receiver: Receiver, origin: StowOrigin, tmp_path: Path
) -> None:
    waiting = receiver.ready(image(tmp_path, 1), "DOWN")
    client.expect(waiting)
    client.ready(waiting)
    client.expect(cloud := receiver.ready(image(tmp_path, 2), "CLOUD"))
    assert client.wait_for(Wanted(destination="CLOUD"), DEADLINE_S)
    assert cloud.sop_instance_uid in origin.stored
    assert not client.wait_for(Wanted(destination="DOWN"), 0.3)
    missing = client.wait_and_list(Wanted(destination="DOWN"), 0.1)
    assert missing is not None
    assert [identifiers[0] for identifiers in missing] == [waiting.sop_instance_uid]
    assert client.wait_and_list(Wanted(destination="CLOUD"), DEADLINE_S) == []


def test_what_is_wanted_now_has_its_outcome(
    client: DeliveryClient, receiver: Receiver, origin: StowOrigin, tmp_path: Path
) -> None:
    assert client.deliver(receiver.incoming(image(tmp_path, 1), "CLOUD"), DEADLINE_S).result == "delivered"
    origin.rule = lambda _request: StowReply(409)
    refused: Any = client.deliver(receiver.incoming(image(tmp_path, 2), "CLOUD"), DEADLINE_S)
    assert refused == Outcome("refused", "the server answers HTTP 409")
    late = client.deliver(receiver.incoming(image(tmp_path, 3), "DOWN"), 0.3)
    assert late == Outcome("withdrawn", "DOWN did not take it in time")
    assert receiver.spool.names(receiver.spool.failed) == []
