"""Quotas of instances that go to DICOMweb servers, with a gateway that has no Orthanc: they count until a server has
them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import MakeGateway
from tests.integration.gateways import IMPATIENT, ct, held
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer
from tests.support.standalone import Gateway
from tests.support.stow_origin import StowOrigin, StowReply, StowRequest, stow_json

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 40
OUT_OF_RESOURCES: Final = 0xA700
LIMIT: Final = 3
RULE: Final = {"Name": "x", "MaximumInstances": LIMIT}
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
FILLED: Final = [0] * LIMIT + [OUT_OF_RESOURCES]


@pytest.fixture
def origin() -> Iterator[StowOrigin]:
    server = StowOrigin()
    yield server
    server.close()


@pytest.fixture
def start(origin: StowOrigin, make_gateway: MakeGateway) -> Any:
    """Starts a gateway with these quotas before the origin, which is stopped."""

    def make(quotas: dict[str, Any], title: str = "CLOUD", **forwarding: Any) -> Gateway:
        origin.stop()
        server = {"Url": origin.url, "AlwaysAllowStore": True, "Attempts": 1}
        gateway = make_gateway(
            DicomGateway={
                "Workers": 1,
                "Forwarding": {**IMPATIENT, "HoldWhileReceiving": 0, **forwarding},
                "Quotas": quotas,
                "DicomWebServers": {title: server},
            }
        )
        gateway.start()
        return gateway

    return make


def store(gateway: Gateway, *uids: str, size: int = 1000, called: str = "CLOUD") -> list[int]:
    """The statuses of these instances on one association."""
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(called=called)
        statuses = [peer.store(uid, ct(uid, size)).status for uid in uids]
        peer.release()
    return statuses


def fill(gateway: Gateway, study: int = 5, **options: Any) -> list[int]:
    return store(gateway, *(f"1.{study}.{n}" for n in range(LIMIT + 1)), **options)


def wait_for_room(gateway: Gateway, uid: str, **options: Any) -> None:
    wait_until(lambda: store(gateway, uid, **options) == [0], DEADLINE_S, f"{uid} is not accepted")


def counted(gateway: Gateway) -> str:
    command = [sys.executable, "-m", "gateway.cli", "quota", "list", "-c", str(gateway.file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return next(line for line in printed.splitlines() if line.split()[:1] == ["x"]).split()[1]


# The second cannot stand as it is in a file's name.
@pytest.mark.parametrize("title", ["CLOUD", "A/B 50%"])
def test_what_a_server_has_taken_counts_no_more(origin: StowOrigin, start: Any, title: str) -> None:
    gateway = start({"Rules": [RULE]}, title)
    assert fill(gateway, called=title) == FILLED
    origin.start()
    # The files are there for a minute.
    wait_until(lambda: len(held(gateway)["delivered"]) == LIMIT, DEADLINE_S, "not delivered")
    wait_for_room(gateway, "1.6.0", called=title)  # on a slow machine it is not looked for at once
    assert fill(gateway, 6, called=title)[:LIMIT] == [0] * LIMIT


def test_what_a_server_has_taken_counts_in_its_window(origin: StowOrigin, start: Any) -> None:
    gateway = start({"Rules": [{**RULE, "Window": "1h"}]})
    assert fill(gateway) == FILLED
    origin.start()
    wait_until(lambda: len(held(gateway)["delivered"]) == LIMIT, DEADLINE_S, "not delivered")
    assert store(gateway, "1.6.1") == [OUT_OF_RESOURCES]


def test_what_is_not_kept_counts_no_more_when_it_leaves_the_spool(origin: StowOrigin, start: Any) -> None:
    gateway = start({"Rules": [RULE]}, KeepDelivered=0)
    assert store(gateway, "1.5.1", "1.5.2") == [0, 0]
    wait_until(lambda: counted(gateway) == "2", DEADLINE_S, lambda: counted(gateway))
    origin.start()
    wait_until(lambda: counted(gateway) == "0", DEADLINE_S, lambda: counted(gateway))


def test_what_a_server_refused_counts_until_somebody_deletes_it(origin: StowOrigin, start: Any) -> None:
    def refuse(request: StowRequest) -> StowReply:
        return StowReply(409, stow_json([], dict.fromkeys(request.uids, SOP_CLASS_NOT_SUPPORTED)))

    gateway = start({"Rules": [RULE]})
    origin.rule = refuse
    origin.start()
    assert fill(gateway) == FILLED
    wait_until(lambda: len(held(gateway)["failed"]) == LIMIT, DEADLINE_S, "not refused")
    assert store(gateway, "1.6.1") == [OUT_OF_RESOURCES]
    command = [sys.executable, "-m", "gateway.cli", "queue", "delete", "all", "-c", str(gateway.file)]
    subprocess.run(command, check=True, capture_output=True)
    wait_for_room(gateway, "1.6.1")


def test_what_is_taken_out_by_hand_counts_no_more_after_a_start(start: Any) -> None:
    gateway = start({"Rules": [RULE]})
    assert fill(gateway) == FILLED
    assert gateway.stop() == 0
    for name in held(gateway)["ready"][1:]:
        (Path(gateway.state_directory) / "spool" / "ready" / name).unlink()
    gateway.start()
    assert fill(gateway, 6) == [0, 0, OUT_OF_RESOURCES, OUT_OF_RESOURCES]


def test_stored_bytes_without_an_orthanc_are_those_that_wait(origin: StowOrigin, start: Any) -> None:
    gateway = start({"MaximumStoredBytes": 500_000})
    assert fill(gateway, size=150_000) == FILLED
    origin.start()
    wait_for_room(gateway, "1.6.1", size=150_000)
