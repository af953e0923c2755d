"""A script's callbacks for storage commitment: setup once, lookup for each instance, reasons, exceptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import conftest as root
from tests.integration.commitments import TITLES, Site, site
from tests.support.commitments import ask_and_leave, ct_of
from tests.support.orthanc import Orthanc
from tests.support.rawdicom import CT_IMAGE

pytestmark = pytest.mark.integration

SCRIPT = """
import json, time, orthanc

CALLS = {calls!r}

def note(*what):
    with open(CALLS, 'a') as file:
        file.write(json.dumps(what) + '\\n')

def setup(jobId, transactionUid, sopClassUids, sopInstanceUids, remoteAet, calledAet):
    note('setup', bool(jobId), transactionUid, sopClassUids, sopInstanceUids, remoteAet, calledAet)
    if '1.2.7' in sopInstanceUids:
        raise ValueError('no setup')
    return {{'of': transactionUid, 'asked': 0}}

def lookup(sopClassUid, sopInstanceUid, data):
    data['asked'] += 1
    note('lookup', sopClassUid, sopInstanceUid, data['of'], data['asked'])
    reasons = orthanc.StorageCommitmentFailureReason
    if sopInstanceUid == '1.2.1':
        found = json.loads(orthanc.RestApiPost('/tools/lookup', sopInstanceUid))
        return reasons.SUCCESS if found else reasons.NO_SUCH_OBJECT_INSTANCE
    if sopInstanceUid == '1.2.2':
        raise ValueError('no lookup')
    if sopInstanceUid == '1.2.6':
        time.sleep(3600)
    return {{
        '1.2.3': reasons.RESOURCE_LIMITATION,
        '1.2.4': reasons.CLASS_INSTANCE_CONFLICT,
        '1.2.5': 'no reason',
    }}[sopInstanceUid]

orthanc.RegisterStorageCommitmentScpCallback(setup, lookup)
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("script") / "calls.jsonl"


@pytest.fixture(scope="module")
def here(calls: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    root._servers.append(server)
    script = calls.parent / "commitment.py"
    script.write_text(SCRIPT.format(calls=str(calls)))
    options = {"Script": str(script), "ScriptOptions": {"StorageCommitmentTimeout": 2}}
    try:
        server.start()
        with site(tmp_path_factory.mktemp("gateway"), server, **options) as made:
            yield made
    finally:
        root._closing([server])


def failed(here: Site, uid: str, *uids: str) -> dict[str, int]:
    """What a report says has failed."""
    with here.requester(TITLES[0]) as requester:
        assert ask_and_leave(here.gateway.dicom_port, uid, ct_of(*uids), TITLES[0]) == 0
        report = requester.next()
    assert report.transaction_uid == uid
    assert report.event_type == (2 if report.failed else 1)
    return dict(report.failed)


def test_script_decides_what_is_committed(here: Site, calls: Path) -> None:
    here.store(TITLES[0], "1.2.1")
    uids = ["1.2.1", "1.2.2", "1.2.3", "1.2.4", "1.2.5"]
    assert failed(here, "1.2.90.1", *uids) == {"1.2.2": 0x0110, "1.2.3": 0x0213, "1.2.4": 0x0119, "1.2.5": 0x0110}
    noted: list[Any] = [json.loads(line) for line in calls.read_text().splitlines()]
    assert noted == [
        ["setup", True, "1.2.90.1", [CT_IMAGE] * 5, uids, TITLES[0], "ORTHANC"],
        *(["lookup", CT_IMAGE, uid, "1.2.90.1", number] for number, uid in enumerate(uids, 1)),
    ]


def test_exception_in_setup_is_a_failure_of_all_and_no_silence(here: Site) -> None:
    assert failed(here, "1.2.90.2", "1.2.1", "1.2.7") == {"1.2.1": 0x0110, "1.2.7": 0x0110}


def test_hanging_lookup_is_a_failure_and_no_silence(here: Site) -> None:
    assert failed(here, "1.2.90.3", "1.2.6")["1.2.6"] == 0x0110
