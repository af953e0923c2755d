"""A script of the gateway inside Orthanc hears Orthanc's events, unless Orthanc runs the same file itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.integration.gateways import process_of
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until

pytestmark = pytest.mark.integration

TIMEOUT_S = 30

SCRIPT = """
import os, sys, orthanc

def OnChange(changeType, level, resource):
    names = dict((value, name) for name, value in vars(orthanc.ChangeType).items() if name.isupper())
    where = 'Orthanc' if 'Orthanc' in os.readlink('/proc/self/exe') else 'gateway'
    with open({file!r}, 'a') as file:
        file.write('%s %s %s\\n' % (where, names[changeType], resource))

orthanc.RegisterOnChangeCallback(OnChange)
orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: 0)
"""


@pytest.fixture(params=[False, True], ids=["gateway", "both"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Orthanc]:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT.format(file=str(tmp_path / "events")))
    section = {"Script": str(script), "OrthancScripts": [str(script)] if request.param else [], "Workers": 1}
    made = Orthanc(tmp_path / "orthanc", gateway=True, DicomGateway=section)
    try:
        made.start()
        yield made
    finally:
        print(made.log_tail())
        made.close()


def test_each_event_is_heard_once(server: Orthanc, tmp_path: Path) -> None:
    events = tmp_path / "events"
    process_of(server, "gateway.script_host")
    wait_until(lambda: events.exists() and "ORTHANC_STARTED" in events.read_text(), TIMEOUT_S, "no start")
    identifier = server.post("/instances", Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())["ID"]
    server.delete(f"/instances/{identifier}")
    wait_until(lambda: f"DELETED {identifier}" in events.read_text(), TIMEOUT_S, lambda: events.read_text())
    server.stop()
    lines = events.read_text().splitlines()
    where = "Orthanc" if server.configuration["DicomGateway"]["OrthancScripts"] else "gateway"
    assert {line.split()[0] for line in lines} == {where}
    assert lines.count(f"{where} NEW_INSTANCE {identifier}") == 1
    assert [line.split()[1] for line in lines].count("ORTHANC_STOPPED") == 1
    assert "ORTHANC_STOPPED" in lines[-1]
