"""Instances that a callback inside Orthanc changes or discards: what of them is asked for at the next start."""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import MakeOrthanc
from tests.integration.gateways import spool_of, wait_until_drained
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.rawdicom import RawPeer, image

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30
PATIENTS: Final = ("CHANGE", "CHANGE", "DISCARD", "KEEP")

# Never the same twice: what is delivered again is one more in Orthanc.
SCRIPT: Final = """
import random, re, orthanc

def received(content, origin):
    if b'DISCARD' in content:
        return orthanc.ReceivedInstanceAction.DISCARD, None
    if b'KEEP' in content:
        return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None
    another = b'2.25.1%018d' % random.randrange(10**18)
    return orthanc.ReceivedInstanceAction.MODIFY, re.sub(rb'2[.]25[.][0-9]{19}', another, content)

orthanc.RegisterReceivedInstanceCallback(received)
"""


def notes(orthanc: Orthanc) -> dict[str, str]:
    folder = spool_of(orthanc).delivered
    return {path.name: json.loads(path.read_text())["orthanc_id"] for path in folder.glob("*.json")}


def test_changed_instances_are_asked_for_by_the_name_that_orthanc_gave_them(
    make_orthanc: MakeOrthanc, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    orthanc = make_orthanc(gateway=True, DicomGateway={"OrthancScripts": [str(script)]})
    orthanc.start()
    with RawPeer(orthanc.dicom_port) as peer:
        peer.associate()
        for number, patient in enumerate(PATIENTS):
            uid = f"2.25.300000000000000000{number}"
            assert peer.store(uid, image(uid, study="1.2.3.4", series="1.2.3.5", patient_id=patient)).status == 0
        peer.release()
    wait_until_drained(orthanc)
    stored = sorted(orthanc.instances())
    assert len(stored) == 3
    kept = orthanc.lookup("2.25.3000000000000000003")
    assert sorted(notes(orthanc).values()) == ["", *(one for one in stored if one != kept)]
    # What is left of a crash between note and move.
    orphan = spool_of(orthanc).delivered / "1-1-1.dcm.json"
    orphan.write_text("{}")
    # The last one in the order in which they are asked for: when it is back, all others have been asked for.
    lose(orthanc, kept)
    orthanc.start()
    wait_until(
        lambda: orthanc.lookup("2.25.3000000000000000003"), TIMEOUT_S, "what Orthanc has lost is not delivered again"
    )
    wait_until_drained(orthanc)
    assert sorted(orthanc.instances()) == stored
    assert lost(orthanc) == 1
    assert not orphan.exists()
    (first, *_others) = filter(None, notes(orthanc).values())
    lose(orthanc, first)
    orthanc.start()
    wait_until(lambda: lost(orthanc) == 2, TIMEOUT_S, "what Orthanc has lost is not delivered again")
    wait_until(lambda: len(orthanc.instances()) == 3, TIMEOUT_S, lambda: str(orthanc.instances()))
    assert first not in orthanc.instances()


def lost(orthanc: Orthanc) -> int:
    return orthanc.log_text().count("Orthanc lost a delivered instance")


def lose(orthanc: Orthanc, identifier: str | None) -> None:
    """Kills Orthanc and its gateway, and takes an instance away while there is no gateway."""
    before = set(orthanc.family())
    orthanc.kill()
    wait_until(lambda: not before & set(orthanc.family()), TIMEOUT_S, "processes of the dead gateway are left")
    plugins, orthanc.configuration["Plugins"] = orthanc.configuration["Plugins"], []
    orthanc.has_dicom = False
    orthanc.start()
    orthanc.delete(f"/instances/{identifier}")
    orthanc.stop()
    orthanc.configuration["Plugins"] = plugins
    orthanc.has_dicom = True
