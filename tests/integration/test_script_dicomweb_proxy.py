"""A script that makes the calls of orthanc-team's dicom-dicomweb-proxy, between workstations and a DICOMweb server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread

from tests.integration.gateways import data_set_of
from tests.support.images import make_cts
from tests.support.orthanc import DICOMWEB_PLUGIN, PYTHON_PLUGIN, Orthanc
from tests.support.querying import findscu
from tests.support.retrieving import Retriever, movescu
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

SCRIPT: Final = Path(__file__).parent / "scripts_in_gateway" / "dicomweb_proxy.py"
SERVER: Final = "ORIGIN"
STUDY: Final = "2.25.7"
NAME: Final = "Jodogne^Sébastien"
SERIES: Final = {0: 2, 1: 1}


@dataclass
class Site:
    """An origin, an Orthanc before it with the gateway in it, another gateway on its own, a receiver."""

    origin: Orthanc
    proxy: Orthanc
    standalone: Gateway
    receiver: StoreScp
    # By SOP Instance UID: what the origin has.
    data_sets: dict[str, bytes]
    # By Series Instance UID: the SOP Instance UIDs.
    series: dict[str, set[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("proxy")
    with ExitStack() as stack:

        def started(server: Any) -> Any:
            stack.callback(server.close)
            server.start()
            return server

        origin = started(
            Orthanc(
                directory / "origin",
                Plugins=[DICOMWEB_PLUGIN],
                RegisteredUsers={"demo": "demo"},
                AuthenticationEnabled=True,
            )
        )
        receiver = started(StoreScp(directory / "receiver"))
        options: dict[str, Any] = {
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"modality": ["MODALITY", "127.0.0.1", receiver.port]},
            "DicomWeb": {"Servers": {SERVER: [f"{origin.url}/dicom-web/", "demo", "demo"]}},
        }
        section = {"Workers": 1, "Script": str(SCRIPT)}
        proxy = started(
            Orthanc(
                directory / "inside",
                gateway=True,
                Plugins=[PYTHON_PLUGIN, DICOMWEB_PLUGIN],
                DicomGateway=section,
                **options,
            )
        )
        standalone = started(
            Gateway(directory / "alone", DicomGateway={**section, "Orthanc": {"Url": proxy.url}}, **options)
        )
        site = Site(origin, proxy, standalone, receiver, {}, {})
        for series, count in SERIES.items():
            for path in make_cts(directory / f"series{series}", count, 64, 64, series):
                fill(site, path)
        yield site


def fill(site: Site, path: Path) -> None:
    """Store an image of the one study in the origin."""
    data_set = dcmread(path)
    data_set.SpecificCharacterSet = "ISO_IR 100"
    data_set.PatientName, data_set.PatientID, data_set.StudyInstanceUID = NAME, "P1", STUDY
    file = BytesIO()
    data_set.save_as(file)
    site.origin.post("/instances", file.getvalue())
    site.data_sets[str(data_set.SOPInstanceUID)] = data_set_of(file.getvalue())
    site.series.setdefault(str(data_set.SeriesInstanceUID), set()).add(str(data_set.SOPInstanceUID))


@pytest.fixture(params=["inside Orthanc", "standalone"])
def port(request: pytest.FixtureRequest, site: Site) -> Iterator[int]:
    """Of the gateway that runs the script; whatever it sends is gone from the proxy afterwards."""
    yield site.proxy.dicom_port if request.param == "inside Orthanc" else site.standalone.dicom_port
    assert site.proxy.instances() == []
    for path in site.receiver.received.iterdir():
        path.unlink()


def received(site: Site) -> dict[str, bytes]:
    return {path.name.split(".", 1)[1]: path.read_bytes() for path in site.receiver.received.iterdir()}


def test_studies_and_series_are_found(site: Site, port: int) -> None:
    wanted = ("PatientName", "StudyDate", "StudyInstanceUID", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
    found = findscu(port, "QueryRetrieveLevel=STUDY", *wanted, called=SERVER)
    assert (found.status, [str(one.StudyInstanceUID) for one in found.answers]) == (0, [STUDY])
    assert found.answers[0].NumberOfStudyRelatedInstances == 3
    assert found.answers[0].ModalitiesInStudy == "CT"
    assert str(found.answers[0].PatientName) == NAME
    of_study = f"StudyInstanceUID={STUDY}"
    found = findscu(port, "QueryRetrieveLevel=SERIES", of_study, "SeriesInstanceUID", "Modality", called=SERVER)
    assert found.status == 0
    assert {str(one.SeriesInstanceUID) for one in found.answers} == set(site.series)


def test_what_the_server_does_not_have_is_not_found(site: Site, port: int) -> None:
    found = findscu(port, "QueryRetrieveLevel=STUDY", "PatientID=NOBODY", "StudyInstanceUID", called=SERVER)
    assert (found.status, found.answers) == (0, [])


def test_server_that_the_called_ae_title_does_not_name_is_a_failure(site: Site, port: int) -> None:
    assert findscu(port, "QueryRetrieveLevel=STUDY", "StudyInstanceUID", called="OTHER").status == 0xC000
    study = f"StudyInstanceUID={STUDY}"
    assert movescu(port, "MODALITY", "-S", "QueryRetrieveLevel=STUDY", study, called="OTHER") == 0xC000


def test_study_is_moved_unchanged(site: Site, port: int) -> None:
    study = f"StudyInstanceUID={STUDY}"
    assert movescu(port, "MODALITY", "-S", "QueryRetrieveLevel=STUDY", study, called=SERVER) == 0
    assert received(site) == site.data_sets


def test_series_is_moved_and_counted(site: Site, port: int) -> None:
    uid, uids = next(iter(site.series.items()))
    with Retriever(port) as peer:
        peer.open(called=SERVER)
        last = peer.move("MODALITY", "SERIES", StudyInstanceUID=STUDY, SeriesInstanceUID=uid)
    assert (last.status, last.counters[1:]) == (0, (len(uids), 0, 0))
    assert set(received(site)) == uids


def test_destination_that_is_no_modality_is_a_failure(site: Site, port: int) -> None:
    study = f"StudyInstanceUID={STUDY}"
    assert movescu(port, "NOWHERE", "-S", "QueryRetrieveLevel=STUDY", study, called=SERVER) == 0xC000
    assert received(site) == {}
