"""One file for Orthanc and for the gateway: each callback is called once, and each side says what it ignores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.integration.gateways import process_of, wait_until_drained
from tests.support.orthanc import REPOSITORY, Orthanc
from tests.support.processes import wait_until
from tests.support.querying import findscu
from tests.support.rawdicom import RawPeer, image

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30

# What runs inside Orthanc, and in the gateway.
OF_ORTHANC: Final = {"OnChange", "OnStored", "Received", "Route"}
OF_THE_GATEWAY: Final = {"Filter", "Find"}

IMPORTS_THE_GLUE: Final = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
import orthanc
import orthanc_glue
"""
SCRIPT: Final = """
import os, orthanc

WHERE = 'Orthanc' if 'Orthanc' in os.readlink('/proc/self/exe') else 'gateway'

def say(*words):
    with open({calls!r}, 'a') as file:
        file.write(' '.join((WHERE, *words)) + '\\n')

def on_change(change, level, resource):
    if change == orthanc.ChangeType.NEW_INSTANCE:
        say('OnChange', resource)

def on_stored(instance, identifier):
    say('OnStored', identifier)

def received(content, origin):
    say('Received', str(origin))
    return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None

def route(output, uri, **request):
    say('Route', uri)
    output.AnswerBuffer('{{}}', 'application/json')

def accept(instance):
    say('Filter', instance.GetInstanceRemoteAet())
    return 0

def find(answers, query, issuer, called):
    say('Find', issuer)

orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterOnStoredInstanceCallback(on_stored)
orthanc.RegisterReceivedInstanceCallback(received)
orthanc.RegisterRestCallback('/both', route)
orthanc.RegisterIncomingCStoreInstanceFilter(accept)
orthanc.RegisterFindCallback(find)
"""
REGISTERS: Final = {
    "OnChange": "RegisterOnChangeCallback",
    "OnStored": "RegisterOnStoredInstanceCallback",
    "Received": "RegisterReceivedInstanceCallback",
    "Route": "RegisterRestCallback",
    "Filter": "RegisterIncomingCStoreInstanceFilter",
    "Find": "RegisterFindCallback",
}


@pytest.fixture(scope="module", params=["OrthancScripts", "PythonScript", "import"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc that runs the file of the gateway's script too: by the glue, as its own script that imports
    the glue, or because another one imports it."""
    directory = tmp_path_factory.mktemp("both")
    script = directory / "both.py"
    text = SCRIPT.format(calls=str(directory / "calls"))
    section: dict[str, Any] = {"Script": str(script), "Workers": 1}
    options: dict[str, Any] = {"DicomAlwaysAllowFind": True, "DicomGateway": section}
    if request.param == "OrthancScripts":
        section["OrthancScripts"] = [str(script)]
    elif request.param == "PythonScript":
        text = IMPORTS_THE_GLUE + text
        options["PythonScript"] = str(script)
    else:
        importing = directory / "importing.py"
        importing.write_text(f"import sys\nsys.path.append({str(directory)!r})\nimport both\n")
        section["OrthancScripts"] = [str(importing)]
    script.write_text(text)
    made = Orthanc(directory, gateway=True, **options)
    try:
        made.start()
        process_of(made, "gateway.script_host")
        yield made
    finally:
        print(made.log_tail())
        made.close()


def test_each_callback_is_called_once_where_it_belongs(server: Orthanc) -> None:
    calls = server.directory / "calls"
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        assert peer.store("1.2.3.1", image("1.2.3.1")).status == 0
        peer.release()
    wait_until_drained(server)
    findscu(server.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID")
    server.get("/both")
    identifier = server.lookup("1.2.3.1")
    wait_until(
        lambda: {line.split()[1] for line in calls.read_text().splitlines()} == OF_ORTHANC | OF_THE_GATEWAY,
        TIMEOUT_S,
        lambda: calls.read_text(),
    )
    server.stop()  # what was to come has come
    rest_api = 3
    assert Counter(calls.read_text().splitlines()) == Counter(
        [
            f"Orthanc OnChange {identifier}",
            f"Orthanc OnStored {identifier}",
            f"Orthanc Received {rest_api}",
            "Orthanc Route /both",
            "gateway Filter RAW",
            "gateway Find FINDSCU",
        ]
    )


def test_each_side_says_once_what_it_ignores(server: Orthanc) -> None:
    lines = server.log_text().splitlines()
    for name, function in REGISTERS.items():
        inside = [line for line in lines if f"{function} in" in line and "ignored inside Orthanc" in line]
        outside = [line for line in lines if f"script: {function} is ignored here" in line]
        assert (len(inside), len(outside)) == ((0, 1) if name in OF_ORTHANC else (1, 0)), (name, inside, outside)


def test_gateway_is_started_once(server: Orthanc) -> None:
    assert server.log_text().count("listening with AE title") == 1
