"""Scripts of a user inside Orthanc, beside the gateway: loaded by the glue, or importing it."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests.conftest import MakeOrthanc
from tests.integration.gateways import IMPATIENT, data_set_of, wait_until_drained
from tests.support.orthanc import REPOSITORY, Orthanc
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer, image
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

SCRIPTS: Final = Path(__file__).parent / "scripts_in_orthanc"
ALL: Final = [
    "broken.py",
    "missing.py",
    "failing.py",
    "rest.py",
    "other/rest.py",
    "routing.py",
    "periodic.py",
    "authorization.py",
    "received.py",
    "both_kinds.py",
    "rest.py",
]
KEY: Final = {"X-Key": "open"}
# OrthancPluginInstanceOrigin
REST_API: Final = 3
TIMEOUT_S: Final = 30
# Posted in-process, so many hang Orthanc; 40 do not yet.
PARALLEL: Final = 600


def copied(directory: Path, *names: str) -> list[str]:
    """The scripts in a folder of their own: Orthanc's interpreter writes its caches beside them."""
    folder = directory / "scripts"
    shutil.copytree(SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return [str(folder / name) for name in names]


@pytest.fixture(scope="module")
def destination(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreScp]:
    server = StoreScp(tmp_path_factory.mktemp("destination"))
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, destination: StoreScp) -> Iterator[Orthanc]:
    """An Orthanc with all the scripts, in which the gateway was told to post through the plugin."""
    directory = tmp_path_factory.mktemp("orthanc")
    server = Orthanc(
        directory,
        gateway=True,
        StableAge=1,
        DicomModalities={"destination": ["STORESCP", "127.0.0.1", destination.port]},
        DicomGateway={
            "Workers": 1,
            "Forwarding": {**IMPATIENT, "Transport": "Plugin"},
            "OrthancScripts": copied(directory, *ALL),
        },
    )
    server.start()
    yield server
    server.close()


def lines(server: Orthanc, *texts: str) -> list[str]:
    """The lines of Orthanc's log that have all these texts."""
    return [line for line in server.log_text().splitlines() if all(text in line for text in texts)]


def store(server: Orthanc, data_set: bytes, uid: str) -> None:
    with RawPeer(server.dicom_port) as peer:
        peer.associate()
        assert peer.store(uid, data_set).status == 0
        peer.release()
    wait_until_drained(server)


def part_10(uid: str, **attributes: Any) -> bytes:
    """A file that Orthanc takes without file meta information: it recognises an Implicit VR data set."""
    return image(uid, syntax="1.2.840.10008.1.2", **attributes)


def upload(server: Orthanc, uid: str, **attributes: Any) -> dict[str, Any]:
    answer = requests.post(server.url + "/instances", part_10(uid, **attributes), headers=KEY, timeout=TIMEOUT_S)
    answer.raise_for_status()
    return dict(answer.json())


def test_routes_of_several_scripts_are_served_and_their_globals_are_their_own(orthanc: Orthanc) -> None:
    assert orthanc.get("/count/a/b") == ["/count/a/b", "GET", ["a/b"], 1]
    assert orthanc.get("/count/c") == ["/count/c", "GET", ["c"], 2]
    assert orthanc.get_bytes("/other-count") == b"rest_2 another module"


def test_route_answers_a_body_and_refuses_a_method(orthanc: Orthanc) -> None:
    assert requests.post(orthanc.url + "/echo", b"text", timeout=TIMEOUT_S).text == "TEXT"
    assert requests.get(orthanc.url + "/echo", timeout=TIMEOUT_S).status_code == 405


def test_script_that_cannot_be_loaded_is_named_and_the_others_go_on(orthanc: Orthanc) -> None:
    (line,) = lines(orthanc, "cannot load")[:1]
    assert "broken.py" in line
    assert "KeyError: 'a mistake'" in line
    assert "line 6" in line
    assert len(lines(orthanc, "cannot load", "missing.py", "FileNotFoundError")) == 1
    assert len(lines(orthanc, "cannot load")) == 2


def test_script_that_is_named_twice_is_loaded_once(orthanc: Orthanc) -> None:
    assert len(lines(orthanc, "rest.py (DicomGateway.OrthancScripts) is loaded already")) == 1


def test_dicom_callbacks_of_a_file_of_both_kinds_are_ignored_with_a_line_each(orthanc: Orthanc) -> None:
    assert orthanc.get_bytes("/both") == b"loaded"
    ignored = lines(orthanc, "both_kinds.py is ignored inside Orthanc")
    assert len(ignored) == 10
    assert len({line.split("DICOM gateway: ")[1].split()[0] for line in ignored}) == 10


def test_stable_studies_are_routed(orthanc: Orthanc, destination: StoreScp) -> None:
    store(orthanc, image("1.2.3.10", study="2.25.10", series="2.25.11", patient_id="ROUTED"), "1.2.3.10")
    wait_until(
        lambda: any("1.2.3.10" in path.name for path in destination.received.iterdir()), TIMEOUT_S, "it is not routed"
    )


def test_exceptions_of_one_script_do_not_reach_the_others(orthanc: Orthanc) -> None:
    store(orthanc, image("1.2.3.20", study="2.25.20", series="2.25.21"), "1.2.3.20")
    stored = wait_until(
        lambda: [one for one in orthanc.get("/stored") if one[0] == orthanc.lookup("1.2.3.20")],
        TIMEOUT_S,
        "OnStoredInstance of routing.py is not called",
    )
    assert len(stored) == 1
    wait_until(lambda: lines(orthanc, "OnChangeCallback", "ValueError: always"), TIMEOUT_S, "nothing is said")
    assert lines(orthanc, "OnStoredInstanceCallback in", "failing.py failed: ValueError: never stored")
    assert lines(orthanc, "OnChangeCallback in", "failing.py failed: SystemExit: the first event")


def test_timer_of_a_script_runs(orthanc: Orthanc) -> None:
    before = orthanc.get("/ticks")
    wait_until(lambda: orthanc.get("/ticks") > before + 2, TIMEOUT_S, "it does not")


def test_http_filter_refuses_strangers_and_not_the_gateway(orthanc: Orthanc) -> None:
    refused = requests.post(orthanc.url + "/instances", part_10("1.2.3.30"), timeout=TIMEOUT_S)
    assert refused.status_code in (401, 403)
    store(orthanc, image("1.2.3.31", study="2.25.30", series="2.25.31"), "1.2.3.31")
    assert orthanc.lookup("1.2.3.31") is not None
    assert orthanc.lookup("1.2.3.30") is None


def test_received_instances_of_every_origin_are_changed_discarded_or_kept(orthanc: Orthanc) -> None:
    before = len(orthanc.get("/origins"))
    for number, patient in enumerate(["CHANGEME", "DISCARDS", "KEEPS"]):
        uids = {"study": f"2.25.4{number}", "series": f"2.25.5{number}", "patient_id": patient}
        store(orthanc, image(f"1.2.3.4{number}", **uids), f"1.2.3.4{number}")
        answer = upload(orthanc, f"1.2.3.5{number}", **uids)
        assert answer["Status"] == ("FilteredOut" if patient == "DISCARDS" else "Success")
    assert orthanc.get("/origins")[before:] == [REST_API] * 6
    for uid, patient in {"1.2.3.40": "IS DONE", "1.2.3.50": "IS DONE", "1.2.3.42": "KEEPS"}.items():
        identifier = orthanc.lookup(uid)
        assert orthanc.get(f"/instances/{identifier}/simplified-tags")["PatientID"] == patient
    assert orthanc.lookup("1.2.3.41") is None
    assert orthanc.lookup("1.2.3.51") is None


def test_posting_through_the_plugin_is_replaced_where_it_could_hang_orthanc(orthanc: Orthanc) -> None:
    (line,) = lines(orthanc, 'in spite of Forwarding.Transport "Plugin"')
    assert "RegisterReceivedInstanceCallback in" in line
    assert "RegisterOnStoredInstanceCallback in" in line
    assert "RegisterIncomingHttpRequestFilter" not in line

    def upload_many() -> None:
        for number in range(PARALLEL):
            upload(orthanc, f"1.2.4.{number}", study="2.25.70", series="2.25.71")

    uploading = threading.Thread(target=upload_many)
    uploading.start()
    with RawPeer(orthanc.dicom_port) as peer:
        peer.associate()
        for number in range(PARALLEL):
            uid = f"1.2.5.{number}"
            assert peer.store(uid, image(uid, study="2.25.72", series="2.25.73")).status == 0
        peer.release()
    uploading.join(2 * TIMEOUT_S)
    assert not uploading.is_alive()
    wait_until_drained(orthanc)
    assert orthanc.lookup(f"1.2.4.{PARALLEL - 1}") is not None
    assert orthanc.lookup(f"1.2.5.{PARALLEL - 1}") is not None


def test_changed_instances_are_delivered_in_batches_and_again(orthanc: Orthanc) -> None:
    before = len(orthanc.get("/origins"))
    for _ in range(2):
        with RawPeer(orthanc.dicom_port) as peer:
            peer.associate()
            for number in range(20):
                uid = f"1.2.6.{number}"
                content = image(uid, study="2.25.80", series="2.25.81", patient_id="CHANGEME")
                assert peer.store(uid, content).status == 0
            peer.release()
        wait_until_drained(orthanc)
    assert all(orthanc.lookup(f"1.2.6.{number}") for number in range(20))
    assert len(orthanc.get("/origins")) == before + 40


def test_storage_area_of_a_script_is_used(make_orthanc: MakeOrthanc, tmp_path: Path) -> None:
    forwarding = {**IMPATIENT, "Transport": "Plugin"}
    scripts = copied(tmp_path, "storage.py")
    orthanc = make_orthanc(
        gateway=True, DicomGateway={"Workers": 1, "OrthancScripts": scripts, "Forwarding": forwarding}
    )
    orthanc.start()
    assert len(lines(orthanc, 'in spite of Forwarding.Transport "Plugin"', "RegisterStorageArea in")) == 1
    data_set = image("1.2.3.60", study="2.25.60", series="2.25.61")
    area = orthanc.directory / "area"
    store(orthanc, data_set, "1.2.3.60")
    (identifier,) = orthanc.instances()
    assert data_set_of(orthanc.file(identifier)) == data_set
    assert [path for path in area.iterdir() if data_set in path.read_bytes()]
    orthanc.delete(f"/instances/{identifier}")
    wait_until(lambda: not list(area.iterdir()), TIMEOUT_S, "it is not removed")


OWN_SCRIPT: Final = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
import orthanc
import orthanc_glue

EVENTS = []

def on_change(change, level, resource):
    EVENTS.append(change)
    if change == orthanc.ChangeType.ORTHANC_STOPPED:
        orthanc.LogWarning("own.py: stopped")

def events(output, uri, **request):
    output.AnswerBuffer(str(EVENTS), "application/json")

def late(output, uri, **request):
    try:
        orthanc.RegisterOnStoredInstanceCallback(print)
    except RuntimeError as error:
        output.AnswerBuffer(str(error), "text/plain")

orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterFindCallback(on_change)
orthanc.RegisterRestCallback("/late", late)
orthanc.RegisterRestCallback("/events", events)
"""


def test_script_of_ones_own_imports_the_gateway(make_orthanc: MakeOrthanc, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN_SCRIPT)
    scripts = [str(own), *copied(tmp_path, "periodic.py")]
    forwarding = {**IMPATIENT, "Transport": "Plugin"}
    orthanc = make_orthanc(
        gateway=True,
        PythonScript=str(own),
        DicomGateway={"Workers": 1, "OrthancScripts": scripts, "Forwarding": forwarding},
    )
    orthanc.start()
    store(orthanc, image("1.2.3.1"), "1.2.3.1")
    (identifier,) = orthanc.instances()
    # No callback of these scripts forbids the transport.
    assert orthanc.metadata(identifier)["Origin"] == "Plugins"
    assert b"only while Orthanc loads its scripts" in orthanc.get_bytes("/late")
    started, new_instance = 10, 3
    wait_until(lambda: {started, new_instance} <= set(orthanc.get("/events")), TIMEOUT_S, "events are missing")
    assert orthanc.get("/ticks") > 0
    assert len(lines(orthanc, "own.py (DicomGateway.OrthancScripts) is loaded already")) == 1
    assert len(lines(orthanc, "RegisterFindCallback in", "own.py is ignored inside Orthanc")) == 1
    assert orthanc.stop() == 0
    assert orthanc.family() == []
    assert lines(orthanc, "own.py: stopped")
    assert lines(orthanc, "periodic: the timer has ended")


NO_FILTER: Final = """
import orthanc
raise OSError("no database of users")
orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: False)
"""
SECOND_FILTER: Final = """
import orthanc
orthanc.RegisterIncomingHttpRequestFilter(lambda uri, **request: False)
"""
EARLY: Final = f"""
import sys
sys.path.append({str(REPOSITORY)!r})
import orthanc
orthanc.RegisterOnChangeCallback(print)
import orthanc_glue
"""


@pytest.mark.parametrize(
    ("scripts", "texts"),
    [
        (
            {"OrthancScripts": {"a.py": NO_FILTER}},
            ["must not run without RegisterIncomingHttpRequestFilter in", "a.py"],
        ),
        (
            {"OrthancScripts": {"a.py": SECOND_FILTER, "b.py": SECOND_FILTER}},
            ["b.py, line 3", "Orthanc takes one, and", "a.py has registered it"],
        ),
        ({"PythonScript": {"own.py": EARLY}}, ["import orthanc_glue before anything is registered with Orthanc"]),
    ],
    ids=["filter that fails", "two filters", "glue imported too late"],
)
def test_orthanc_does_not_start_without_what_decides(
    make_orthanc: MakeOrthanc, tmp_path: Path, scripts: dict[str, dict[str, str]], texts: list[str]
) -> None:
    named = []
    for name, content in next(iter(scripts.values())).items():
        (tmp_path / name).write_text(content)
        named.append(str(tmp_path / name))
    if "PythonScript" in scripts:
        orthanc = make_orthanc(gateway=True, PythonScript=named[0])
    else:
        orthanc = make_orthanc(gateway=True, DicomGateway={"OrthancScripts": named})
    orthanc.launch()
    assert orthanc.wait(TIMEOUT_S) != 0
    assert all(text in orthanc.log_text() for text in texts), orthanc.log_tail()
