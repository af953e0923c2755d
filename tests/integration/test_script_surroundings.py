"""What a script finds around it is what it finds in the plugin: its folder, its output, its child processes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import MakeGateway
from tests.support.processes import wait_until
from tests.support.querying import findscu

TIMEOUT_S = 30

SCRIPT = """
import faulthandler, json, logging, multiprocessing, os, subprocess, sys, orthanc
import beside, on_the_path

sys.stdout.reconfigure(line_buffering=True)
sys.stdout.buffer.write(b'through the buffer\\n')
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(message)s')
logging.info('through logging')
faulthandler.enable()
subprocess.run(['/bin/true'], stdout=sys.stdout, stderr=sys.stderr, check=True)

sleeping = subprocess.Popen(['/bin/sleep', '60'])
sleeping.terminate()

def square(number):
    return number * number

def forked():
    process = multiprocessing.Process(target=__import__('time').sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(10)
    return process.exitcode

def OnFind(answers, query, issuer, called):
    with multiprocessing.Pool(2) as pool:
        squares = pool.map(square, [2, 3])
    said = [squares, forked(), sleeping.wait(10), beside.NAME, on_the_path.NAME, os.getcwd(),
            json.loads(orthanc.GetConfiguration())['OfMyOwn']]
    with open('said.json', 'w') as file:
        json.dump(said, file)

orthanc.RegisterFindCallback(OnFind)
"""


def test_surroundings_of_a_script(make_gateway: MakeGateway, tmp_path: Path) -> None:
    for folder, name in (("scripts", "beside"), ("elsewhere", "on_the_path")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(f"NAME = {name!r}")
    script = tmp_path / "scripts" / "mine.py"
    script.write_text(SCRIPT)
    gateway = make_gateway(
        OfMyOwn=["anything"], DicomAlwaysAllowFind=True, DicomGateway={"Script": str(script), "Workers": 1}
    )
    gateway.environment["PYTHONPATH"] = str(tmp_path / "elsewhere")
    gateway.start()
    assert findscu(gateway.dicom_port, "QueryRetrieveLevel=STUDY").status == 0
    said = json.loads((gateway.directory / "said.json").read_text())
    assert said == [[4, 9], -15, -15, "beside", "on_the_path", str(gateway.directory), ["anything"]]
    for text in ("through the buffer", "through logging"):
        wait_until(lambda text=text: text in gateway.log_text(), TIMEOUT_S, gateway.log_tail)


ANSWERS = """
import io, orthanc
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

def OnFind(answers, query, issuer, called):
    for is_implicit in (False, True):
        data_set = Dataset()
        data_set.PatientID = 'implicit' if is_implicit else 'explicit'
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, is_implicit
        write_dataset(buffer, data_set)
        answers.FindAddAnswer(buffer.getvalue())

def OnWorklist(answers, query, issuer, called):
    for content in (b'', b'half a file', orthanc.CreateDicom('{"PatientID": "whole"}', None, 0)):
        if query.WorklistIsMatch(content):
            answers.WorklistAddAnswer(query, content)

orthanc.RegisterFindCallback(OnFind)
orthanc.RegisterWorklistCallback(OnWorklist)
"""


def test_answers_that_are_no_files(make_gateway: MakeGateway, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(ANSWERS)
    options = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowFindWorklist": True}
    gateway = make_gateway(**options, DicomGateway={"Script": str(script), "Workers": 1})
    gateway.start()
    found = findscu(gateway.dicom_port, "QueryRetrieveLevel=STUDY", "PatientID")
    assert (found.status, [one.PatientID for one in found.answers]) == (0, ["explicit", "implicit"])
    found = findscu(gateway.dicom_port, "PatientID", model="-W")
    assert (found.status, [one.PatientID for one in found.answers]) == (0, ["whole"])
