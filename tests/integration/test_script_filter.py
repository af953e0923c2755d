"""A script's filter of incoming instances: what it is given, what its result means, what becomes of its failures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.integration.gateways import ct, process_of
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer
from tests.support.standalone import Gateway

SCRIPT = "gateway.script_host"
REFUSED = 0xA700
TIMEOUT_S = 30


@pytest.fixture
def scripted(make_gateway: MakeGateway, tmp_path: Path) -> Any:
    """Makes a standalone gateway whose script is `text`, without any Orthanc; the test stops at acceptance."""

    def make(text: str, *, workers: int = 1, **options: Any) -> Gateway:
        script = tmp_path / "script.py"
        script.write_text(text)
        section = {"Script": str(script), "Workers": workers, "ScriptOptions": options}
        gateway = make_gateway(DicomGateway=section)
        gateway.start()
        return gateway

    return make


def statuses(gateway: Gateway, uids: list[str], calling: str = "STORESCU") -> list[int]:
    """Of one C-STORE for each UID, on one association."""
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(calling=calling)
        return [peer.store(uid, ct(uid, 1000)).status for uid in uids]


THREE_OF_STORESCU = """
import orthanc

accepted = 0

def Filter(receivedDicom):
    global accepted
    if receivedDicom.GetInstanceRemoteAet() == 'STORESCU':
        if accepted >= 3:
            return 0xA700
        accepted += 1
    return 0

orthanc.RegisterIncomingCStoreInstanceFilter(Filter)
"""


def test_three_instances_are_accepted_and_no_more(scripted: Any) -> None:
    gateway = scripted(THREE_OF_STORESCU)
    assert statuses(gateway, [f"1.2.{n}" for n in range(5)]) == [0, 0, 0, 0xA700, 0xA700]
    assert statuses(gateway, ["1.3.1"], calling="OTHER") == [0]


def test_three_instances_are_accepted_by_four_workers_on_four_associations(scripted: Any) -> None:
    gateway = scripted(THREE_OF_STORESCU, workers=4)
    with ThreadPoolExecutor(4) as executor:
        found = executor.map(lambda a: statuses(gateway, [f"1.2.{a}.{n}" for n in range(5)]), range(4))
        assert sorted(status for each in found for status in each) == [0] * 3 + [0xA700] * 17
