"""Procedure steps of a live gateway: kill -9 behind the response, independent modalities, the commands."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Iterator
from typing import Any, Final

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from typer.testing import CliRunner

from gateway import cli
from tests.conftest import MakeGateway
from tests.support.mpps import MPPS, Modality, begun, ended, scheduled
from tests.support.ports import free_port
from tests.support.processes import kill, wait_until
from tests.support.ris import Ris, field
from tests.support.standalone import Gateway
from tests.support.worklist_queries import WorklistQuerier, add_items, an_item, nested

pytestmark = pytest.mark.integration

UNREACHABLE_ORTHANC: Final = {"Url": "http://127.0.0.1:9"}
SECTION: Final[dict[str, Any]] = {"Workers": 1, "Orthanc": UNREACHABLE_ORTHANC, "Worklist": {}}
TIMEOUT_S: Final = 60


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    made = make_gateway(DicomAlwaysAllowFindWorklist=True, DicomGateway=SECTION)
    made.start()
    return made


def printed(gateway: Gateway, *arguments: str, status: int = 0) -> str:
    """What a command of `dicom-gateway` prints."""
    done = CliRunner().invoke(cli.app, [*arguments, "-c", str(gateway.file)])
    assert done.exit_code == status, done.output
    return done.output


def status_of(gateway: Gateway, number: int) -> str:
    with WorklistQuerier(gateway.dicom_port) as querier:
        querier.open()
        found = querier.find(nested(PatientID=f"P{number}", ScheduledProcedureStepStatus="*"))
        return found.values("ScheduledProcedureStepStatus")[0]


def kill_all(gateway: Gateway) -> None:
    """SIGKILL for each process, those first that answer modalities."""
    for pid in sorted(gateway.family(), reverse=True):
        kill(pid)
    gateway.kill()


def test_what_was_acknowledged_survives_kill_9(gateway: Gateway) -> None:
    add_items(gateway, an_item(1))
    with Modality(gateway.dicom_port) as modality:
        assert modality.open().create("2.25.1", begun(scheduled(1))).status == 0
        kill_all(gateway)
    gateway.start()
    assert status_of(gateway, 1) == "STARTED"
    with Modality(gateway.dicom_port) as modality:
        assert modality.open().set("2.25.1", ended(images=1000)).status == 0
        kill_all(gateway)
    gateway.start()
    assert status_of(gateway, 1) == "COMPLETED"
    with Modality(gateway.dicom_port) as modality:
        modality.open()
        assert modality.create("2.25.1", begun(scheduled(1))).status == 0x0111
        assert modality.set("2.25.1", ended()).status == 0x0110


def by_pynetdicom(port: int, *calls: tuple[str, str, Dataset]) -> Iterator[int]:
    """The statuses of creates and sets."""
    ae = AE(ae_title="PYNETDICOM")
    ae.add_requested_context(MPPS)
    association = ae.associate("127.0.0.1", port, ae_title="ORTHANC")
    assert association.is_established
    for call, uid, content in calls:
        with warnings.catch_warnings(action="ignore"):
            if call == "create":
                answer, _ = association.send_n_create(content, MPPS, uid)
            else:
                answer, _ = association.send_n_set(content, MPPS, uid)
        yield answer.Status
    association.release()


# python3-odil is Debian's, for Debian's interpreter.
ODIL: Final = """
import json
import sys
import odil
r = odil.registry
MPPS = "1.2.840.10008.3.1.2.3.3"
parameters = odil.AssociationParameters()
parameters.set_called_ae_title("ORTHANC")
parameters.set_calling_ae_title("ODIL")
Context = odil.AssociationParameters.PresentationContext
parameters.set_presentation_contexts([Context(MPPS, [r.ExplicitVRLittleEndian], Context.Role.SCU)])
association = odil.Association()
association.set_peer_host("127.0.0.1")
association.set_peer_port(int(sys.argv[1]))
association.set_parameters(parameters)
association.associate()

def ask(message):
    association.send_message(message, MPPS)
    answer = association.receive_message().get_command_set()
    uid = answer.as_string(r.AffectedSOPInstanceUID)[0].decode() if answer.has(r.AffectedSOPInstanceUID) else ""
    return answer.as_int(r.Status)[0], uid

def data_set(values):
    made = odil.DataSet()
    for name, value in values.items():
        made.add(getattr(r, name), value)
    return made

scheduled = data_set({"StudyInstanceUID": ["2.25.1001"], "ScheduledProcedureStepID": ["S1"], "AccessionNumber": ["A1"]})
begun = data_set({
    "Modality": ["CT"], "PatientID": ["P1"], "PerformedStationAETitle": ["CT1"], "PerformedProcedureStepID": ["1"],
    "PerformedProcedureStepStartDate": ["20240102"], "PerformedProcedureStepStartTime": ["101500"],
    "PerformedProcedureStepStatus": ["IN PROGRESS"], "ScheduledStepAttributesSequence": [scheduled],
})
ended = data_set({
    "PerformedProcedureStepStatus": ["DISCONTINUED"], "PerformedProcedureStepEndDate": ["20240102"],
    "PerformedProcedureStepEndTime": ["103000"],
})
status, uid = ask(odil.messages.NCreateRequest(association.next_message_id(), MPPS, begun))
said = [status, uid]
said.append(ask(odil.messages.NSetRequest(association.next_message_id(), MPPS, "2.25.4711", ended))[0])
said.append(ask(odil.messages.NSetRequest(association.next_message_id(), MPPS, uid, ended))[0])
said.append(ask(odil.messages.NSetRequest(association.next_message_id(), MPPS, uid, ended))[0])
association.release()
print(json.dumps(said))
"""


def test_independent_modalities_report_and_the_commands_show_it(gateway: Gateway) -> None:
    add_items(gateway, an_item(1), an_item(2))
    port = gateway.dicom_port
    create, end = ("create", "2.25.8", begun(scheduled(2), PatientID="P2")), ("set", "2.25.8", ended())
    assert list(by_pynetdicom(port, create)) == [0]
    assert status_of(gateway, 2) == "STARTED"
    unknown = ("set", "2.25.4711", ended())
    assert list(by_pynetdicom(port, create, unknown, end, end)) == [0x0111, 0x0112, 0, 0x0110]
    assert status_of(gateway, 2) == "COMPLETED"

    command = ["/usr/bin/python3", "-c", ODIL, str(port)]
    ended_odil = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, text=True)
    assert ended_odil.returncode == 0, ended_odil.stderr
    status, odils_uid, *others = json.loads(ended_odil.stdout)
    assert (status, others) == (0, [0x0112, 0, 0x0110])
    assert status_of(gateway, 1) == "DISCONTINUED"

    rows = [line.split() for line in printed(gateway, "mpps", "list").splitlines()[1:] if line.strip()]
    assert [row[:3] + row[-1:] for row in rows] == [
        ["1", "COMPLETED", "PYNETDICOM", "2"],
        ["2", "DISCONTINUED", "ODIL", "1"],
    ]
    assert "PYNETDICOM" not in printed(gateway, "mpps", "list", "--status", "DISCONTINUED")
    assert "ODIL" not in printed(gateway, "mpps", "list", "--calling", "PYNETDICOM", "--limit", "5")
    assert "--status: expected IN PROGRESS" in printed(gateway, "mpps", "list", "--status", "DONE", status=1)
    shown = printed(gateway, "mpps", "show", "2")
    assert f"SOP instance: {odils_uid}\nstatus: DISCONTINUED\nfrom: ODIL, 127.0.0.1, to ORTHANC\n" in shown
    assert "item: 1, DISCONTINUED\n" in shown and "(0040,0241) PerformedStationAETitle: CT1\n" in shown
    assert "there is no procedure step 3" in printed(gateway, "mpps", "show", "3", status=1)
    history = printed(gateway, "worklist", "show", "2").splitlines()
    assert any("mpps PYNETDICOM: SCHEDULED to STARTED: procedure step 1 IN PROGRESS" in line for line in history)
    assert any(line.startswith("procedure step 1: COMPLETED, from PYNETDICOM, begun 20") for line in history)


def test_the_ris_learns_what_was_acknowledged_to_the_modality_whoever_is_killed(make_gateway: MakeGateway) -> None:
    with Ris() as ris:
        receiver = {"Name": "RIS", "Host": "127.0.0.1", "Port": ris.port, "MinimumRetryDelay": 0.1}
        section = SECTION | {"Hl7": {"Port": free_port(), "Receivers": [{**receiver, "MaximumRetryDelay": 0.5}]}}
        gateway = make_gateway(DicomAlwaysAllowFindWorklist=True, DicomGateway=section)
        gateway.start()
        ris.stop()
        add_items(gateway, an_item(1, PlacerOrderNumberImagingServiceRequest="PLACER1"))
        with Modality(gateway.dicom_port) as modality:
            assert modality.open().create("2.25.1", begun(scheduled(1))).status == 0
            assert modality.set("2.25.1", ended()).status == 0
            kill_all(gateway)
        ris.start()
        gateway.start()
        messages = ris.wait_for(2)
        assert [field(message, "ORC", 5) for message in messages] == ["IP", "CM"]
        assert [field(message, "ORC", 2) for message in messages] == ["PLACER1", "PLACER1"]

        def told() -> list[str]:
            lines = printed(gateway, "worklist", "show", "1").splitlines()
            return [line for line in lines if line.startswith("message ")]

        wait_until(lambda: all(line.endswith(", AA") for line in told()), TIMEOUT_S, lambda: f"{told()}")
        assert told()[0].startswith("message 1 to RIS: STARTED, accepted, sent 20")
        assert told()[1].startswith("message 2 to RIS: COMPLETED, accepted, sent 20")


def test_the_command_without_worklist(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(DicomGateway={"Orthanc": UNREACHABLE_ORTHANC})
    gateway.write_configuration()
    assert "the worklist is off" in printed(gateway, "mpps", "list", status=1)


def test_a_person_ends_what_a_modality_left_open_and_the_ris_is_told(make_gateway: MakeGateway) -> None:
    with Ris() as ris:
        receiver = {"Name": "RIS", "Host": "127.0.0.1", "Port": ris.port}
        section = SECTION | {"Hl7": {"Port": free_port(), "Receivers": [receiver]}}
        gateway = make_gateway(DicomAlwaysAllowFindWorklist=True, DicomGateway=section)
        gateway.start()
        add_items(gateway, *(an_item(n, FillerOrderNumberImagingServiceRequest=f"F{n}") for n in (1, 2)))
        with Modality(gateway.dicom_port) as modality:
            modality.open()
            for number in (1, 2):
                begin = begun(scheduled(number), PatientID=f"P{number}")
                assert modality.create(f"2.25.{number}", begin).status == 0
        assert "step 1: DISCONTINUED; item 1 DISCONTINUED" in printed(gateway, "mpps", "discontinue", "1")
        assert "step 2: COMPLETED; item 2 COMPLETED" in printed(gateway, "mpps", "complete", "2")
        told = {(field(message, "ORC", 3), field(message, "ORC", 5)) for message in ris.wait_for(4)}
        assert told == {("F1", "IP"), ("F2", "IP"), ("F1", "DC"), ("F2", "CM")}

        # All of them or none; what is over stays as it is.
        add_items(gateway, an_item(3))
        with Modality(gateway.dicom_port) as modality:
            modality.open()
            assert modality.set("2.25.1", ended()).status == 0x0110
            assert modality.create("2.25.3", begun(scheduled(3), PatientID="P3")).status == 0
        assert "step 1 is DISCONTINUED already" in printed(gateway, "mpps", "discontinue", "3", "1", status=1)
        assert "there is no procedure step 9" in printed(gateway, "mpps", "complete", "9", status=1)
        assert [status_of(gateway, number) for number in (1, 2, 3)] == ["DISCONTINUED", "COMPLETED", "STARTED"]
        assert "command line " in printed(gateway, "worklist", "show", "1")
