"""Workers and the forwarder's process: what is told, what is answered, what a lost connection loses (nothing)."""

import contextlib
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import child
from gateway.child import Settings
from gateway.deliveries import SOCKET_NAME, DeliveryClient, Outcome, request_rescan
from gateway.spool import Delivery
from tests.support.hostile_http import Answer, HostileHttp, Request, orthanc_error
from tests.support.images import make_ct
from tests.support.processes import wait_until
from tests.support.spooled import Receiver

DEADLINE_S = 30


@pytest.fixture
def hostile() -> Iterator[HostileHttp]:
    server = HostileHttp()
    yield server
    server.close()


class Forwarder:
    """The forwarder's process, as the supervisor starts it."""

    def __init__(self, state_directory: Path, server: HostileHttp, **forwarding: Any) -> None:
        self._state_directory = state_directory
        options = {"MinimumRetryDelay": 0.02, "MaximumRetryDelay": 0.2, **forwarding}
        section = {
            "StateDirectory": str(state_directory),
            "Orthanc": {"Url": server.url},
            "Forwarding": options,
            "Log": {"Level": "ERROR"},
        }
        self._settings = Settings({"DicomGateway": section}, "/")
        self.start()

    def start(self) -> None:
        (self._state_directory / SOCKET_NAME).unlink(missing_ok=True)
        self.control, theirs = socket.socketpair()
        self.process = child.start("gateway.forwarding", self._settings, [str(theirs.fileno())], fds=[theirs.fileno()])
        theirs.close()

    def wait_until_up(self) -> None:
        wait_until(lambda: request_rescan(self._state_directory), DEADLINE_S, "the forwarder does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.control.close()


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "state")


@pytest.fixture
def forwarder(receiver: Receiver, hostile: HostileHttp) -> Iterator[Forwarder]:
    forwarder = Forwarder(receiver.spool.root.parent, hostile)
    yield forwarder
    with contextlib.suppress(OSError):
        forwarder.kill()


@pytest.fixture
def client(receiver: Receiver) -> Iterator[DeliveryClient]:
    client = DeliveryClient(receiver.spool.root.parent)
    yield client
    client.close()


class Images:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self) -> Path:
        self._count += 1
        path = self._folder / f"{self._count}.dcm"
        make_ct(path, 16, 16, self._count)
        return path


@pytest.fixture
def image(tmp_path: Path) -> Images:
    return Images(tmp_path)


def wait_until_stored(hostile: HostileHttp, *deliveries: Delivery) -> None:
    wanted = {delivery.orthanc_id for delivery in deliveries}
    wait_until(lambda: wanted <= hostile.stored.keys(), DEADLINE_S, lambda: f"{len(hostile.stored)} are stored")


def test_socket_is_closed_to_others(forwarder: Forwarder, receiver: Receiver) -> None:
    forwarder.wait_until_up()
    assert stat.S_IMODE((receiver.spool.root.parent / SOCKET_NAME).stat().st_mode) == 0o600


def test_ready_instance_is_delivered(
    forwarder: Forwarder, receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    forwarder.wait_until_up()
    for _ in range(3):
        delivery = receiver.ready(image())
        client.ready(delivery)
        wait_until_stored(hostile, delivery)
        wait_until(lambda: not delivery.path.exists(), DEADLINE_S, "it stays in ready")  # noqa: B023


def test_instances_that_nobody_told_of_are_found_at_start_and_on_request(
    receiver: Receiver, hostile: HostileHttp, image: Images
) -> None:
    before = [receiver.ready(image()) for _ in range(3)]
    assert not request_rescan(receiver.spool.root.parent)
    forwarder = Forwarder(receiver.spool.root.parent, hostile)
    try:
        wait_until_stored(hostile, *before)
        later = receiver.ready(image())
        assert request_rescan(receiver.spool.root.parent)
        wait_until_stored(hostile, later)
    finally:
        forwarder.kill()


def test_wanted_instance_is_delivered_and_its_receiver_told(
    forwarder: Forwarder, receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    delivery = receiver.incoming(image())
    outcome = client.deliver(delivery, DEADLINE_S)
    assert outcome.result == "delivered"
    assert hostile.stored.keys() == {delivery.orthanc_id}
    assert not delivery.path.exists()


def test_wanted_instance_that_orthanc_refuses_is_left_to_its_receiver(
    forwarder: Forwarder, receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    hostile.rule = lambda _request: orthanc_error(400, 15)
    delivery = receiver.incoming(image())
    outcome = client.deliver(delivery, DEADLINE_S)
    assert outcome == Outcome("refused", "Orthanc refuses it: BadFileFormat (15)")
    assert delivery.path.exists()
    assert receiver.spool.names(receiver.spool.failed) == []


def test_instance_is_not_delivered_behind_the_back_of_a_modality_that_heard_no(
    forwarder: Forwarder, receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    hostile.rule = lambda _request: Answer(503)
    delivery = receiver.incoming(image())
    outcome = client.deliver(delivery, 0.5)
    assert outcome.result == "withdrawn"
    assert delivery.path.exists()
    hostile.rule = hostile.as_orthanc
    attempts = len(hostile.posts_of(delivery.sop_instance_uid))
    later = [receiver.ready(image()) for _ in range(3)]
    for one in later:
        client.ready(one)
    wait_until_stored(hostile, *later)
    assert len(hostile.posts_of(delivery.sop_instance_uid)) == attempts


def test_attempt_that_runs_at_the_deadline_may_still_succeed(
    forwarder: Forwarder, receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    assert client.deliver(receiver.incoming(image()), DEADLINE_S).result == "delivered"  # it is connected
    arrived, go = threading.Event(), threading.Event()

    def rule(request: Request) -> Answer:
        arrived.set()
        go.wait(DEADLINE_S)
        return hostile.as_orthanc(request)

    hostile.rule = rule
    outcomes: list[Outcome] = []
    delivery = receiver.incoming(image())
    waiting = threading.Thread(target=lambda: outcomes.append(client.deliver(delivery, 0.5)))
    waiting.start()
    assert arrived.wait(DEADLINE_S)
    waiting.join(0.8)  # past the deadline, within the grace
    assert waiting.is_alive()
    go.set()
    waiting.join(DEADLINE_S)
    assert [outcome.result for outcome in outcomes] == ["delivered"]


def test_instance_is_wanted_before_the_forwarder_is_up(
    receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    outcomes: list[Outcome] = []
    delivery = receiver.incoming(image())
    waiting = threading.Thread(target=lambda: outcomes.append(client.deliver(delivery, DEADLINE_S)))
    waiting.start()
    forwarder = Forwarder(receiver.spool.root.parent, hostile)
    try:
        waiting.join(DEADLINE_S)
        assert [outcome.result for outcome in outcomes] == ["delivered"]
    finally:
        forwarder.kill()


def test_forwarder_that_dies_loses_nothing(
    forwarder: Forwarder, receiver: Receiver, client: DeliveryClient, hostile: HostileHttp, image: Images
) -> None:
    hostile.rule = lambda _request: Answer(503)
    ready = [receiver.ready(image()) for _ in range(3)]
    for delivery in ready:
        client.ready(delivery)
    wanted = receiver.incoming(image())
    outcomes: list[Outcome] = []
    waiting = threading.Thread(target=lambda: outcomes.append(client.deliver(wanted, DEADLINE_S)))
    waiting.start()
    wait_until(lambda: len(hostile.posts) > 2, DEADLINE_S, "no attempts")
    forwarder.kill()
    unheard = receiver.ready(image())
    client.ready(unheard)
    hostile.rule = hostile.as_orthanc
    forwarder.start()
    waiting.join(DEADLINE_S)
    assert [outcome.result for outcome in outcomes] == ["delivered"]
    wait_until_stored(hostile, *ready, wanted, unheard)


def test_what_a_worker_wanted_that_is_gone_is_not_delivered(
    forwarder: Forwarder, receiver: Receiver, hostile: HostileHttp, image: Images
) -> None:
    hostile.rule = lambda _request: Answer(503)
    state = receiver.spool.root.parent
    forwarder.wait_until_up()
    worker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker.connect(str(state / SOCKET_NAME))
    delivery = receiver.incoming(image())
    message = f'"size": {delivery.size}, "sop": "{delivery.sop_instance_uid}", "id": "{delivery.orthanc_id}"'
    worker.send(f'{{"deliver": "{delivery.path}", {message}}}'.encode())
    wait_until(lambda: len(hostile.posts_of(delivery.sop_instance_uid)) > 1, DEADLINE_S, "no attempts")
    worker.close()

    # An attempt or two may be under way; then there are no more, although others are still tried.
    other = receiver.ready(image())
    assert request_rescan(state)

    def only_the_other() -> bool:
        return [request.uids for request in hostile.posts[-5:]] == [[other.sop_instance_uid]] * 5

    wait_until(only_the_other, DEADLINE_S, "it is still tried")
    hostile.rule = hostile.as_orthanc
    wait_until_stored(hostile, other)
    assert delivery.orthanc_id not in hostile.stored
    assert delivery.path.exists()


def test_forwarder_stops_when_told_and_ends_with_its_supervisor(
    forwarder: Forwarder, receiver: Receiver, hostile: HostileHttp
) -> None:
    forwarder.wait_until_up()
    forwarder.control.send(b"s")
    assert forwarder.process.wait(DEADLINE_S) == 0
    forwarder.control.close()
    forwarder.start()
    forwarder.wait_until_up()
    forwarder.control.close()
    assert forwarder.process.wait(DEADLINE_S) == 1


def test_forwarder_stops_while_it_still_asks_for_what_was_delivered(
    receiver: Receiver, hostile: HostileHttp, image: Images
) -> None:
    hostile.rule = lambda _request: Answer(503)
    delivery = receiver.ready(image())
    kept = delivery.path.rename(receiver.spool.delivered / delivery.path.name)
    forwarder = Forwarder(receiver.spool.root.parent, hostile, MinimumRetryDelay=3000, MaximumRetryDelay=3000)
    try:
        wait_until(lambda: hostile.requests, DEADLINE_S, "it does not ask")
        forwarder.control.send(b"s")
        assert forwarder.process.wait(DEADLINE_S) == 0
        assert kept.exists()
    finally:
        forwarder.kill()
