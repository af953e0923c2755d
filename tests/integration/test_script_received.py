"""The received-instance callback of a gateway on its own: what it decides is done once, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread

from gateway.deliveries import request_rescan
from tests.conftest import MakeGateway
from tests.integration.gateways import (
    IMPATIENT,
    data_set_of,
    held,
    process_of,
    spool_of,
    wait_until_drained,
)
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.querying import findscu
from tests.support.rawdicom import RawPeer, image
from tests.support.standalone import Gateway
from tests.support.stow_origin import StowOrigin

pytestmark = pytest.mark.integration

SCRIPT: Final = "gateway.script_host"
TIMEOUT_S: Final = 30

# What scripts have in common: their calls are counted in a file, `changed` gives the instance other attributes.
HEAD: Final = """
import io, os, time, uuid, orthanc
from pydicom import dcmread
A = orthanc.ReceivedInstanceAction

def changed(content, **attributes):
    data_set = dcmread(io.BytesIO(content))
    for name, value in attributes.items():
        setattr(data_set, name, value)
        if name == 'SOPInstanceUID':
            data_set.file_meta.MediaStorageSOPInstanceUID = value
    buffer = io.BytesIO()
    data_set.save_as(buffer)
    return buffer.getvalue()

def received(content, origin):
    assert type(content) is bytes and origin == orthanc.InstanceOrigin.DICOM_PROTOCOL
    data_set = dcmread(io.BytesIO(content))
    with open({calls!r}, 'a') as file:
        file.write(data_set.SOPInstanceUID + '\\n')
    return decide(content, data_set)

orthanc.RegisterReceivedInstanceCallback(received)
"""


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """SOP Instance UIDs of the calls of the callback so far."""
    path = tmp_path / "calls"
    return lambda: path.read_text().split() if path.exists() else []


@pytest.fixture
def scripted(make_gateway: MakeGateway, tmp_path: Path) -> Any:
    """Makes a standalone gateway in front of `url` whose script has this function `decide`; started."""

    def make(decide: str, url: str | None, **section: Any) -> Gateway:
        script = tmp_path / "script.py"
        script.write_text(decide + HEAD.format(calls=str(tmp_path / "calls")))
        orthanc = {"Orthanc": {"Url": url}} if url else {}
        gateway = make_gateway(
            DicomAlwaysAllowFind=True,
            DicomGateway={"Script": str(script), "Workers": 1, "Forwarding": IMPATIENT, **orthanc, **section},
        )
        gateway.start()
        return gateway

    return make


def store(gateway: Gateway, *instances: tuple[str, str], called: str = "ORTHANC") -> dict[str, bytes]:
    """Sends instances by SOP Instance UID and Patient ID, each of a study of its own; their data sets."""
    sent = {uid: image(uid, study=f"{uid}.1", series=f"{uid}.2", patient_id=patient) for uid, patient in instances}
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(called=called)
        for uid, data_set in sent.items():
            assert peer.store(uid, data_set).status == 0
        peer.release()
    return sent


def patient_of(orthanc: Orthanc, uid: str) -> str | None:
    identifier = orthanc.lookup(uid)
    return identifier and orthanc.get(f"/instances/{identifier}/simplified-tags")["PatientID"]


def changes(gateway: Gateway) -> list[Path]:
    return sorted(spool_of(gateway).changed.iterdir())


KINDS: Final = """
def decide(content, data_set):
    return {
        'KEEP': lambda: (A.KEEP_AS_IS, None),
        'KEEPS BYTES': lambda: (A.KEEP_AS_IS, b'nothing'),
        'MODIFY': lambda: (A.MODIFY, changed(content, PatientID='MODIFIED', StudyInstanceUID='2.25.7')),
        'DISCARD': lambda: (A.DISCARD, None),
        'RAISES': lambda: 1 / 0,
        'EXITS': lambda: exit(),
        'NO PAIR': lambda: None,
        'LIST': lambda: [A.DISCARD, None],
        'EMPTY': lambda: (A.MODIFY, b''),
        'NOTHING': lambda: (A.MODIFY, None),
        'TEXT': lambda: (A.MODIFY, 'text'),
        'JUNK': lambda: (A.MODIFY, b'junk' * 200),
    }[data_set.PatientID]()
"""


def test_instances_are_kept_modified_and_discarded(
    scripted: Any, orthanc: Orthanc, calls: Callable[[], list[str]]
) -> None:
    gateway = scripted(KINDS, orthanc.url, Forwarding={**IMPATIENT, "KeepDelivered": 1})
    patients = ["KEEP", "KEEPS BYTES", "MODIFY", "DISCARD", "RAISES", "EXITS", "NO PAIR", "LIST"]
    no_instances = ["EMPTY", "NOTHING", "TEXT", "JUNK"]
    uids = {patient: f"1.2.1.{number}" for number, patient in enumerate([*patients, *no_instances])}
    sent = store(gateway, *((uid, patient) for patient, uid in uids.items()))
    wait_until(lambda: held(gateway)["ready"] == [], TIMEOUT_S, lambda: str(held(gateway)))
    found = {patient: patient_of(orthanc, uids[patient]) for patient in patients}
    assert found == {**{patient: patient for patient in patients}, "MODIFY": "MODIFIED", "DISCARD": None}
    kept = orthanc.lookup(uids["KEEP"])
    assert kept is not None
    assert data_set_of(orthanc.file(kept)) == sent[uids["KEEP"]]
    assert sorted(calls()) == sorted(uids.values())
    assert "ZeroDivisionError" in gateway.log_text()
    assert "returned no action and bytes" in gateway.log_text()
    # What is no instance is not sent, and what was received is not lost.
    spool, failed = spool_of(gateway), held(gateway)["failed"]
    assert [data_set_of((spool.failed / name).read_bytes()) for name in failed] == [
        sent[uids[patient]] for patient in no_instances
    ]
    reasons = [spool.note(name)["reason"] for name in failed]
    assert reasons[:3] == ["the script modifies it, and returns no bytes"] * 3
    assert reasons[3].startswith("what the script returned is no DICOM instance")
    # Changes leave the spool with their instances.
    wait_until(lambda: held(gateway)["delivered"] == [], TIMEOUT_S, lambda: str(held(gateway)))
    wait_until(lambda: changes(gateway) == [], TIMEOUT_S, lambda: str(changes(gateway)))


AT_RANDOM: Final = """
def decide(content, data_set):
    if data_set.PatientID == 'DISCARD':
        return A.DISCARD, None
    return A.MODIFY, changed(content, SOPInstanceUID='2.25.%d' % uuid.uuid4().int, PatientID='RANDOM')
"""


def uids_in(orthanc: Orthanc, patient: str) -> list[str]:
    found = orthanc.post("/tools/find", json={"Level": "Instance", "Query": {"PatientID": patient}, "Expand": True})
    return [one["MainDicomTags"]["SOPInstanceUID"] for one in found]


def test_what_was_made_before_a_kill_is_what_is_sent_after_it(
    scripted: Any, orthanc: Orthanc, calls: Callable[[], list[str]]
) -> None:
    gateway = scripted(AT_RANDOM, f"http://127.0.0.1:{free_port()}")
    store(gateway, ("1.2.3.1", "CHANGE"), ("1.2.3.2", "CHANGE"), ("1.2.3.3", "DISCARD"))
    wait_until(lambda: len(calls()) == 3 and not held(gateway)["ready"][2:], TIMEOUT_S, lambda: str(held(gateway)))
    made = [str(dcmread(path).SOPInstanceUID) for path in changes(gateway) if path.stat().st_size]
    assert len(made) == 2
    # What is left of a write that the kill cut off, and of an instance that is gone.
    for name in ("1-1-1.dcm.part", "1-1-1.dcm"):
        (spool_of(gateway).changed / name).write_bytes(b"half")
    before = set(gateway.family())
    gateway.kill()
    wait_until(lambda: not before & set(gateway.family()), TIMEOUT_S, "processes of the dead gateway are left")
    gateway.configuration["DicomGateway"]["Orthanc"]["Url"] = orthanc.url
    gateway.start()
    wait_until_drained(gateway)
    assert sorted(uids_in(orthanc, "RANDOM")) == sorted(made)
    # What was delivered shortly before an end is asked for by the name under which it was sent; what Orthanc has lost
    # is sent again as it was sent, and the other one is not.
    gateway.stop()
    orthanc.delete(f"/instances/{orthanc.lookup(made[0])}")
    gateway.start()
    wait_until(lambda: sorted(uids_in(orthanc, "RANDOM")) == sorted(made), TIMEOUT_S, "it is not sent again")
    assert gateway.log_text().count("lost a delivered instance") == 1
    assert len(calls()) == 3
    assert not any(path.name.startswith("1-1-1") for path in changes(gateway))


def test_script_that_dies_or_hangs_is_asked_again_and_others_go_on(
    scripted: Any, orthanc: Orthanc, tmp_path: Path
) -> None:
    gateway = scripted(
        f"""
def decide(content, data_set):
    if data_set.PatientID != 'GOOD' and not os.path.exists({str(tmp_path / "good")!r}):
        os.kill(os.getpid(), 9) if data_set.PatientID == 'KILLS' else [None for _ in iter(int, 1)]
    return A.MODIFY, changed(content, PatientID='DONE')
""",
        orthanc.url,
        ScriptOptions={"ReceivedInstanceTimeout": 1},
    )
    store(gateway, ("1.2.4.1", "KILLS"), ("1.2.4.2", "HANGS"), ("1.2.4.3", "GOOD"))
    wait_until(lambda: patient_of(orthanc, "1.2.4.3"), TIMEOUT_S, "the other one is not delivered")
    wait_until(lambda: "took too long" in gateway.log_text(), TIMEOUT_S, "the one that hangs is not interrupted")
    assert len(held(gateway)["ready"]) == 2
    (tmp_path / "good").touch()
    wait_until_drained(gateway)
    assert {patient_of(orthanc, f"1.2.4.{number}") for number in (1, 2, 3)} == {"DONE"}
    assert sorted(uids_in(orthanc, "DONE")) == ["1.2.4.1", "1.2.4.2", "1.2.4.3"]


def test_nothing_is_sent_unseen_while_the_script_cannot_be_loaded(
    scripted: Any, orthanc: Orthanc, tmp_path: Path
) -> None:
    gateway = scripted("def decide(content, data_set):\n    os._exit(3)\n", orthanc.url)
    process_of(gateway, SCRIPT)
    store(gateway, ("1.2.5.1", "KEEP"))
    script = tmp_path / "script.py"
    good = script.read_text().replace("os._exit(3)", "return A.KEEP_AS_IS, None")
    script.write_text("import nothing_like_this")
    wait_until(lambda: "Orthanc takes nothing" in gateway.log_text(), TIMEOUT_S, "the queue is not held")
    assert "what is sent is for the script to say, and the script cannot be loaded" in gateway.log_text()
    assert orthanc.lookup("1.2.5.1") is None
    assert len(held(gateway)["ready"]) == 1
    script.write_text(good)
    os.kill(process_of(gateway, SCRIPT), signal.SIGKILL)  # it would try again in a while
    wait_until_drained(gateway)
    assert patient_of(orthanc, "1.2.5.1") == "KEEP"


def test_query_waits_for_an_instance_whose_identifiers_the_script_changes(scripted: Any, orthanc: Orthanc) -> None:
    gateway = scripted(
        "def decide(content, data_set):\n"
        "    time.sleep(0.5)\n"
        "    return A.MODIFY, changed(content, PatientID='NEWNAME', StudyInstanceUID='2.25.66')\n",
        orthanc.url,
        QueryBarrierTimeout=20,
        Forwarding={**IMPATIENT, "HoldWhileReceiving": 10},
    )
    store(gateway, ("1.2.6.1", "OLD"))
    found = findscu(gateway.dicom_port, "QueryRetrieveLevel=STUDY", "StudyInstanceUID=2.25.66", "PatientID")
    assert [one.PatientID for one in found.answers] == ["NEWNAME"]


def test_sender_that_waits_for_orthanc_is_answered_for_what_the_script_discards(
    scripted: Any, orthanc: Orthanc
) -> None:
    gateway = scripted(KINDS, orthanc.url, Acknowledge="Stored")
    store(gateway, ("1.2.7.1", "DISCARD"), ("1.2.7.2", "MODIFY"))
    assert orthanc.lookup("1.2.7.1") is None
    assert patient_of(orthanc, "1.2.7.2") == "MODIFIED"


def test_dicomweb_server_gets_what_the_script_makes(scripted: Any) -> None:
    server = StowOrigin()
    try:
        gateway = scripted(
            """
def decide(content, data_set):
    if data_set.PatientID == 'DISCARD':
        return A.DISCARD, None
    return A.MODIFY, changed(content, PatientID='CLOUDY', SOPInstanceUID=data_set.SOPInstanceUID + '.9')
""",
            None,
            DicomWebServers={"CLOUD": {"Url": server.url, "AlwaysAllowStore": True}},
        )
        store(gateway, ("1.2.8.1", "A"), ("1.2.8.2", "DISCARD"), ("1.2.8.3", "B"), called="CLOUD")
        wait_until_drained(gateway)
        assert set(server.stored) == {"1.2.8.1.9", "1.2.8.3.9"}
        assert {dcmread(BytesIO(file)).PatientID for file in server.stored.values()} == {"CLOUDY"}
    finally:
        server.close()


def test_what_was_received_is_not_sent_in_the_place_of_a_change_that_cannot_be_read(
    scripted: Any, orthanc: Orthanc
) -> None:
    anonymous = "def decide(content, data_set):\n    return A.MODIFY, changed(content, PatientID='NOBODY')\n"
    gateway = scripted(anonymous, f"http://127.0.0.1:{free_port()}")
    store(gateway, ("1.2.10.1", "SECRET"))
    (change,) = wait_until(
        lambda: [path for path in changes(gateway) if path.suffix == ".dcm"], TIMEOUT_S, "nothing is changed"
    )
    before = set(gateway.family())
    gateway.kill()
    wait_until(lambda: not before & set(gateway.family()), TIMEOUT_S, "processes of the dead gateway are left")
    change.write_bytes(bytes(change.stat().st_size))
    gateway.configuration["DicomGateway"]["Orthanc"]["Url"] = orthanc.url
    gateway.start()
    wait_until(lambda: not held(gateway)["ready"], TIMEOUT_S, lambda: str(held(gateway)))
    assert orthanc.lookup("1.2.10.1") is None
    (name,) = held(gateway)["failed"]
    assert spool_of(gateway).note(name)["reason"].startswith("what the script made of it cannot be read")
    # Sent again by hand, the script is asked anew.
    spool_of(gateway).retry(name)
    assert request_rescan(gateway.state_directory)
    wait_until(lambda: patient_of(orthanc, "1.2.10.1") == "NOBODY", TIMEOUT_S, lambda: str(held(gateway)))
