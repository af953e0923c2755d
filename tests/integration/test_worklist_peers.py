"""DCMTK, odil, Orthanc and pynetdicom ask for the worklist, and see the same.

Debian's gdcmscu has no way to name keys within a sequence, and asks for no worklist without.
"""

from __future__ import annotations

import json
import subprocess
from typing import Final

import pytest
from pynetdicom import AE

from tests.conftest import MakeOrthanc
from tests.scp.conftest import StartGateway, start_gateway
from tests.support.querying import findscu
from tests.support.standalone import Gateway
from tests.support.worklist_queries import WORKLIST, add_items, an_item, nested

pytestmark = pytest.mark.integration

__all__ = ["start_gateway"]

EXPECTED: Final = [("P1", "Müller^Jörg", "CT1"), ("P2", "Müller^Anna", "CT1")]
TIMEOUT_S: Final = 60
# python3-odil is Debian's, for Debian's interpreter.
ODIL: Final = """
import json
import sys
import odil
r = odil.registry
parameters = odil.AssociationParameters()
parameters.set_called_ae_title("ORTHANC")
parameters.set_calling_ae_title("ODIL")
context = odil.AssociationParameters.PresentationContext(
    r.ModalityWorklistInformationModelFind, [r.ExplicitVRLittleEndian, r.ImplicitVRLittleEndian],
    odil.AssociationParameters.PresentationContext.Role.SCU)
parameters.set_presentation_contexts([context])
association = odil.Association()
association.set_peer_host("127.0.0.1")
association.set_peer_port(int(sys.argv[1]))
association.set_parameters(parameters)
association.associate()
scu = odil.FindSCU(association)
scu.set_affected_sop_class(r.ModalityWorklistInformationModelFind)
step = odil.DataSet()
step.add(r.Modality, ["CT"])
step.add(r.ScheduledStationAETitle)
query = odil.DataSet()
query.add(r.SpecificCharacterSet, ["ISO_IR 192"])
query.add(r.PatientName, ["müller*".encode()])
query.add(r.PatientID)
query.add(r.ScheduledProcedureStepSequence, [step])
found = []
for answer in scu.find(query):
    step = answer.as_data_set(r.ScheduledProcedureStepSequence)[0]
    found.append([answer.as_string(r.PatientID)[0].decode(), answer.as_string(r.PatientName)[0].decode(),
                  step.as_string(r.ScheduledStationAETitle)[0].decode()])
association.release()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Gateway:
    running = start_gateway(DicomGateway={"Worklist": {}}, DicomAlwaysAllowFindWorklist=True)
    add_items(
        running,
        *(an_item(int(number[1]), PatientName=name, ScheduledStationAETitle=at) for number, name, at in EXPECTED),
        an_item(3, PatientName="Müller^Eva", Modality="MR"),
        an_item(4),
    )
    return running


def test_findscu(gateway: Gateway) -> None:
    step = "(0040,0100)[0]."
    keys = ("SpecificCharacterSet=ISO_IR 192", "PatientName=Müller*", "PatientID", f"{step}Modality=CT")
    found = findscu(gateway.dicom_port, *keys, f"{step}ScheduledStationAETitle", model="-W")
    seen = []
    for answer in found.answers:
        answer.decode()
        (step,) = answer.ScheduledProcedureStepSequence
        seen.append((answer.PatientID, str(answer.PatientName), step.ScheduledStationAETitle))
    assert (found.status, seen) == (0, EXPECTED)


def test_pynetdicom(gateway: Gateway) -> None:
    ae = AE("PYNETDICOM")
    ae.add_requested_context(WORKLIST)
    association = ae.associate("127.0.0.1", gateway.dicom_port)
    identifier = nested(PatientName="müller*", PatientID="", Modality="CT", ScheduledStationAETitle="")
    identifier.SpecificCharacterSet = "ISO_IR 192"
    responses = list(association.send_c_find(identifier, WORKLIST))
    association.release()
    assert [status.Status for status, _identifier in responses] == [0xFF00, 0xFF00, 0x0000]
    seen = [
        (one.PatientID, str(one.PatientName), one.ScheduledProcedureStepSequence[0].ScheduledStationAETitle)
        for _status, one in responses[:2]
    ]
    assert seen == EXPECTED


def test_odil(gateway: Gateway) -> None:
    command = ["/usr/bin/python3", "-I", "-c", ODIL, str(gateway.dicom_port)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stderr
    assert [tuple(one) for one in json.loads(ended.stdout)] == EXPECTED


def test_orthanc_as_a_modality(gateway: Gateway, make_orthanc: MakeOrthanc) -> None:
    orthanc = make_orthanc(DicomModalities={"ris": ["ORTHANC", "127.0.0.1", gateway.dicom_port]})
    orthanc.start()
    step = {"Modality": "CT", "ScheduledStationAETitle": ""}
    query = {"PatientName": "müller*", "PatientID": "", "ScheduledProcedureStepSequence": [step]}
    found = orthanc.post("/modalities/ris/find-worklist", json=query)
    seen = [
        (one["PatientID"], one["PatientName"], one["ScheduledProcedureStepSequence"][0]["ScheduledStationAETitle"])
        for one in found
    ]
    assert seen == EXPECTED
