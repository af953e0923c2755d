"""What Orthanc knows of where an instance came from, as docs/migration.md says it."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import MakeOrthanc
from tests.support.dcmtk import storescu
from tests.support.images import make_ct

pytestmark = pytest.mark.integration

ADDRESS: Final = "127.0.0.1"
# Of where it came from: not what Orthanc finds in the file, and when.
OF_THE_FILE: Final = {"IndexInSeries", "PixelDataOffset", "ReceptionDate", "SopClassUid", "TransferSyntax"}

BUILT_IN: Final = {"Origin": "DicomProtocol", "RemoteAET": "CT1", "CalledAET": "ARCHIVE", "RemoteIP": ADDRESS}
HTTP: Final = {"Origin": "RestApi", "RemoteAET": "", "RemoteIP": ADDRESS, "HttpUsername": ""}
PLUGIN: Final = {"Origin": "Plugins", "RemoteAET": ""}

AE_TITLES: Final = {
    "SourceApplicationEntityTitle": "CT1",
    "SendingApplicationEntityTitle": "CT1",
    "ReceivingApplicationEntityTitle": "ARCHIVE",
}


@pytest.mark.parametrize(
    ("server", "metadata", "ae_titles"),
    [
        ({"dicom_server": True}, BUILT_IN, {}),
        ({"gateway": True}, HTTP, AE_TITLES),
        ({"gateway": True, "DicomGateway": {"Forwarding": {"Transport": "Plugin"}}}, PLUGIN, AE_TITLES),
    ],
    ids=["built-in", "Http", "Plugin"],
)
def test_origin_is_in_the_metadata_or_in_the_file_meta_information(
    make_orthanc: MakeOrthanc,
    tmp_path: Path,
    server: dict[str, Any],
    metadata: dict[str, str],
    ae_titles: dict[str, str],
) -> None:
    make_ct(tmp_path / "ct.dcm", 16, 16, seed=1)
    orthanc = make_orthanc(**server, DicomAet="ARCHIVE")
    orthanc.start()
    sent = storescu(orthanc.dicom_port, [tmp_path / "ct.dcm"], calling="CT1", called="ARCHIVE")
    assert sent.returncode == 0
    orthanc.wait_for_count(1)
    (identifier,) = orthanc.instances()
    (series,) = orthanc.get("/series")
    found = orthanc.metadata(identifier)
    assert {name: value for name, value in found.items() if name not in OF_THE_FILE} == metadata
    assert found.keys() >= OF_THE_FILE
    assert orthanc.get(f"/series/{series}/metadata?expand")["RemoteAET"] == metadata["RemoteAET"]
    header = orthanc.get(f"/instances/{identifier}/header?simplify")
    assert {name: value for name, value in header.items() if name.endswith("ApplicationEntityTitle")} == ae_titles
    assert ("SendingPresentationAddress" in header) == bool(ae_titles)
