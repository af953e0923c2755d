"""What a worker may hold at a time, and what it does with one connection too many."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.conftest import MakeGateway
from tests.scp.conftest import DEADLINE_S, UNREACHABLE_ORTHANC, Log, resources, wait_for_resources, warm_up, workers
from tests.support.processes import wait_until
from tests.support.rawdicom import Gone, RawPeer
from tests.support.standalone import Gateway

MAXIMUM_DESCRIPTORS: Final = 100


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    running = make_gateway(DicomGateway={"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC})
    running.start()
    warm_up(running)
    return running


@contextmanager
def _crowd(gateway: Gateway) -> Iterator[None]:
    """Half-open connections that use all descriptors of the only worker, of which it has few."""
    (worker,) = workers(gateway)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (MAXIMUM_DESCRIPTORS, MAXIMUM_DESCRIPTORS))
    with ExitStack() as stack:
        for _ in range(MAXIMUM_DESCRIPTORS):
            stack.enter_context(RawPeer(gateway.dicom_port))
        wait_until(
            lambda: resources(gateway)[worker].descriptors == MAXIMUM_DESCRIPTORS,
            DEADLINE_S,
            lambda: f"{resources(gateway)}",
        )
        yield


def test_worker_may_open_as_many_descriptors_as_the_system_permits(gateway: Gateway) -> None:
    (worker,) = workers(gateway)
    soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    assert soft == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_connection_without_a_descriptor_for_it_is_closed_and_logged(gateway: Gateway) -> None:
    log = Log(gateway)
    with _crowd(gateway), RawPeer(gateway.dicom_port) as peer, pytest.raises(Gone):
        peer.associate()
    log.expect("ERROR", "peer=127.0.0.1", "no descriptor is left")


def test_instance_without_a_descriptor_for_it_is_out_of_resources_until_there_is_one(gateway: Gateway) -> None:
    before = resources(gateway)
    log = Log(gateway)
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate()
        with _crowd(gateway):
            assert peer.store("1.2.3").status == 0xA700
            log.expect("WARNING", "calling=RAW", "0xA700", "Too many open files")
        wait_until(lambda: peer.store("1.2.3").status == 0, DEADLINE_S, "no instance is stored")
        peer.release()
    wait_for_resources(gateway, before)
