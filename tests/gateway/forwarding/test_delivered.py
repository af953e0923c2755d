"""The folder `delivered`: kept for a time and up to a size, and looked at when the forwarder starts."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.spool import Delivery
from tests.gateway.forwarding.conftest import DEADLINE_S, Forwarding, MakeForwarding
from tests.support.hostile_http import Answer, Fault, HostileHttp, Request
from tests.support.processes import wait_until

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

IMAGE_BYTES = 16 * 16 * 2


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def delivered_before(forwarding: Forwarding, count: int) -> list[Delivery]:
    """Instances that an earlier forwarder delivered."""
    deliveries = [forwarding.receiver.ready(forwarding.image()) for _ in range(count)]
    for delivery in deliveries:
        delivery.path.rename(forwarding.spool.delivered / delivery.path.name)
    return deliveries


@contextmanager
def checking(forwarding: Forwarding) -> Iterator[threading.Thread]:
    check = threading.Thread(
        target=forwarding.forwarder.check_delivered,
        args=(forwarding.transport, forwarding.spool.names(forwarding.spool.delivered)),
        name="check",
        daemon=True,
    )
    check.start()
    yield check
    check.join(DEADLINE_S)
    assert not check.is_alive()


def test_nothing_is_kept_if_keep_delivered_is_zero(make_forwarding: MakeForwarding) -> None:
    forwarding = make_forwarding(KeepDelivered=0)
    deliveries = forwarding.receive(5)
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    assert names(forwarding.spool.delivered) == []
    assert names(forwarding.spool.ready) == []


def test_kept_instances_go_when_their_time_is_over(make_forwarding: MakeForwarding) -> None:
    forwarding = make_forwarding(KeepDelivered=0.5)
    deliveries = forwarding.receive(5)
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    wait_until(lambda: not names(forwarding.spool.delivered), DEADLINE_S, "they stay")


def test_kept_instances_stay_within_their_bytes_and_the_oldest_go_first(make_forwarding: MakeForwarding) -> None:
    one = make_forwarding()
    size = one.receive()[0].size
    assert size > IMAGE_BYTES
    forwarding = make_forwarding(BatchSize=1, KeepDelivered=3600, KeepDeliveredBytes=2 * size + size // 2)
    deliveries = forwarding.receive(6)
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    newest = [delivery.path.name for delivery in deliveries[-2:]]
    wait_until(lambda: names(forwarding.spool.delivered) == newest, DEADLINE_S, "not the newest two are kept")


def test_instance_larger_than_all_that_may_be_kept_is_not_kept(make_forwarding: MakeForwarding) -> None:
    forwarding = make_forwarding(KeepDeliveredBytes=2000)
    (small,) = forwarding.receive(1)
    (large,) = forwarding.receive(1, rows=64)
    forwarding.start()
    forwarding.wait_until_delivered([small, large])
    assert names(forwarding.spool.delivered) == [small.path.name]


def test_instance_that_orthanc_lost_is_delivered_again(make_forwarding: MakeForwarding, hostile: HostileHttp) -> None:
    forwarding = make_forwarding()
    lost, stored = delivered_before(forwarding, 2)
    content = (forwarding.spool.delivered / stored.path.name).read_bytes()
    hostile.stored[stored.orthanc_id] = content
    forwarding.start()
    with checking(forwarding):
        forwarding.wait_until_delivered([lost])
    assert hostile.stored.keys() == {lost.orthanc_id, stored.orthanc_id}
    assert hostile.posts_of(stored.sop_instance_uid) == []
    assert names(forwarding.spool.delivered) == sorted([lost.path.name, stored.path.name])


def test_instance_that_orthanc_has_goes_when_its_time_is_over(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding(KeepDelivered=0.1)
    deliveries = delivered_before(forwarding, 3)
    for delivery in deliveries:
        hostile.stored[delivery.orthanc_id] = b""
    with checking(forwarding):
        pass
    wait_until(lambda: not names(forwarding.spool.delivered), DEADLINE_S, "they stay")
    assert hostile.posts == []


def test_instance_without_an_answer_is_asked_for_again_and_delays_no_other(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding(KeepDelivered=0)
    first, *others = delivered_before(forwarding, 5)
    for delivery in [first, *others]:
        hostile.stored[delivery.orthanc_id] = b""
    recovered = threading.Event()

    def rule(request: Request) -> Answer:
        in_trouble = first.orthanc_id in request.path and not recovered.is_set()
        return Answer(500) if in_trouble else hostile.as_orthanc(request)

    hostile.rule = rule
    with checking(forwarding):
        wait_until(lambda: names(forwarding.spool.delivered) == [first.path.name], DEADLINE_S, "others wait for it")
        recovered.set()
    wait_until(lambda: not names(forwarding.spool.delivered), DEADLINE_S, "it stays")


@pytest.mark.parametrize("trouble", [Answer(401), Answer(503), Fault.CLOSE_BEFORE_ANSWER], ids=str)
def test_check_waits_for_orthanc_and_ends_with_the_forwarder(
    make_forwarding: MakeForwarding, hostile: HostileHttp, trouble: Answer | Fault
) -> None:
    hostile.rule = lambda request: trouble if request.method == "GET" else hostile.as_orthanc(request)
    forwarding = make_forwarding(MinimumRetryDelay=3000, MaximumRetryDelay=3000)
    kept = delivered_before(forwarding, 2)
    forwarding.start()
    with checking(forwarding) as check:
        wait_until(lambda: hostile.requests, DEADLINE_S, "it does not ask")
        # Nothing else waits for the check.
        forwarding.wait_until_delivered(forwarding.receive(3))
        assert check.is_alive()
        forwarding.forwarder.stop()
    assert {delivery.path.name for delivery in kept} <= set(names(forwarding.spool.delivered))


def test_kept_file_that_is_no_instance_does_not_stop_the_check(
    make_forwarding: MakeForwarding, hostile: HostileHttp
) -> None:
    forwarding = make_forwarding()
    (forwarding.spool.delivered / "00000000000000000001-1-000000.dcm").write_bytes(b"cut")
    (lost,) = delivered_before(forwarding, 1)
    forwarding.start()
    with checking(forwarding):
        forwarding.wait_until_delivered([lost])
    assert forwarding.spool.names(forwarding.spool.failed) == ["00000000000000000001-1-000000.dcm"]


def test_rest_of_what_is_kept_stays_for_the_next_start(make_forwarding: MakeForwarding) -> None:
    forwarding = make_forwarding(KeepDelivered=3600)
    deliveries = forwarding.receive(3)
    forwarding.start()
    forwarding.wait_until_delivered(deliveries)
    forwarding.stop()
    assert len(names(forwarding.spool.delivered)) == 3
