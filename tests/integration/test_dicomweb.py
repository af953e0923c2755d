"""A gateway without Orthanc before a real DICOMweb server, asked by DCMTK's tools and by peers that count."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import Dataset, dcmread

from gateway.archive.dicomweb import DicomWebArchive
from gateway.archive.interface import Level, Selection, WholeSeries
from gateway.dicomweb.client import DicomWebClient
from gateway.options.dicomweb import DicomWebServerSection
from tests.integration.gateways import data_set_of
from tests.support.dcmtk import echoscu
from tests.support.images import make_cts, unique_samples
from tests.support.orthanc import DICOMWEB_PLUGIN, REPOSITORY, Orthanc
from tests.support.ports import free_port
from tests.support.querying import STUDY_ROOT, findscu
from tests.support.rawdicom import Context, Rejected
from tests.support.retrieving import Retriever, getscu, movescu
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 60
SERVER: Final = "ARCHIVE"
USER, PASSWORD = "gateway", 'pass"word'

DOCUMENT: Final = (REPOSITORY / "docs" / "dicomweb.md").read_text()


def documented(first_words: str) -> str:
    """The indented block of docs/dicomweb.md that begins so."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", DOCUMENT, re.MULTILINE)
    (block,) = (text for block in blocks if (text := textwrap.dedent(block).strip()).startswith(first_words))
    return block


@dataclass
class Site:
    """An origin, a gateway before it, and receivers."""

    origin: Orthanc
    gateway: Gateway
    storescp: StoreScp
    all_syntaxes: StoreScp
    # By SOP Instance UID: what the origin has.
    data_sets: dict[str, bytes]
    samples: list[Dataset]

    @property
    def port(self) -> int:
        return self.gateway.dicom_port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("dicomweb")
    with ExitStack() as stack:

        def started(server: Any) -> Any:
            stack.callback(server.close)
            server.start()
            return server

        origin = started(
            Orthanc(
                directory / "origin",
                Plugins=[DICOMWEB_PLUGIN],
                RegisteredUsers={USER: PASSWORD},
                AuthenticationEnabled=True,
                DicomWeb={"QidoCaseSensitive": False},
                # As it is Latin-1, Orthanc 1.10.1 tells the ideographic group of a name as "^".
                DefaultEncoding="Utf8",
            )
        )
        storescp = started(StoreScp(directory / "storescp"))
        all_syntaxes = started(StoreScp(directory / "all", "+xa"))
        (directory / "password").write_text(PASSWORD + "\n")
        (directory / "driver.py").write_text(documented("from gateway"))
        entry = {
            "Url": f"{origin.url}/dicom-web/",
            "Username": USER,
            "PasswordFile": str(directory / "password"),
            "QidoPageSize": 3,
        }
        gateway = Gateway(
            directory / "gateway",
            DicomAet="PROXY",
            DicomCheckCalledAet=True,
            DicomAlwaysAllowFind=True,
            DicomScuTimeout=5,
            DicomModalities={
                "storescp": ["STORESCP", "127.0.0.1", storescp.port],
                "all": ["ALL", "127.0.0.1", all_syntaxes.port],
                "known": {"AET": "KNOWN", "Host": "127.0.0.1", "Port": 104, "AllowGet": False},
                "silent": ["SILENT", "127.0.0.1", 104],
            },
            DicomGateway={
                "Workers": 1,
                "DicomWebServers": {
                    SERVER: entry,
                    "OPEN": {**entry, "AlwaysAllowFind": True, "AllowMove": False},
                    "FEW": {**entry, "CallingAets": ["KNOWN"]},
                    "LOCKED": {**entry, "PasswordFile": str(directory / "driver.py")},
                    "DEAD": {"Url": f"http://127.0.0.1:{free_port()}", "Attempts": 1},
                    "IMAGES": entry,
                },
                "MoveDrivers": {"IMAGES": f"{directory}/driver.py:WithoutReports"},
            },
        )
        started(gateway)
        samples = unique_samples(directory / "samples")
        data_sets = {}
        for path in (*make_cts(directory / "a", 7, 64, 64), *make_cts(directory / "b", 3, 64, 64, 1), *samples):
            origin.post("/instances", path.read_bytes())
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            data_sets[uid] = data_set_of(path.read_bytes())
        yield Site(origin, gateway, storescp, all_syntaxes, data_sets, [dcmread(path) for path in samples])


@pytest.fixture(autouse=True)
def empty_receivers(site: Site) -> None:
    for receiver in (site.storescp, site.all_syntaxes):
        for path in receiver.received.iterdir():
            path.unlink()


def uids(site: Site, series: int) -> list[str]:
    return sorted(uid for uid in site.data_sets if uid.startswith("2.25.103") and f"{series:012}000064" in uid)


def entity(site: Site, uid: str) -> Dataset:
    return dcmread(BytesIO(site.origin.file(str(site.origin.lookup(uid)))))


def received(receiver: StoreScp) -> int:
    return len(list(receiver.received.iterdir()))


def find(site: Site, *keys: str, calling: str = "KNOWN", called: str = SERVER, model: str = "-S") -> Any:
    return findscu(site.port, *keys, calling=calling, called=called, model=model)


def test_queries_at_all_levels(site: Site) -> None:
    first = entity(site, uids(site, 0)[0])
    study, series = first.StudyInstanceUID, first.SeriesInstanceUID
    asked = ("StudyInstanceUID", "NumberOfStudyRelatedInstances", "ModalitiesInStudy", "RetrieveAETitle")
    found = find(site, "QueryRetrieveLevel=STUDY", "PatientName=Phan*", "PatientID=PHANTOM", *asked)
    assert (found.status, len(found.answers)) == (0, 2)
    answer = next(one for one in found.answers if one.StudyInstanceUID == study)
    assert (answer.NumberOfStudyRelatedInstances, answer.ModalitiesInStudy, answer.RetrieveAETitle) == (7, "CT", SERVER)

    patients = find(site, "QueryRetrieveLevel=PATIENT", "PatientID=PHANTOM", "PatientName", model="-P").answers
    assert [one.PatientID for one in patients] == ["PHANTOM"]

    below = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
    (answer,) = find(site, "QueryRetrieveLevel=SERIES", f"StudyInstanceUID={study}", *below).answers
    assert (answer.SeriesInstanceUID, answer.Modality, answer.NumberOfSeriesRelatedInstances) == (series, "CT", 7)

    images = ("QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}")
    answers = find(site, *images, "SOPInstanceUID", "InstanceNumber").answers
    assert sorted(one.SOPInstanceUID for one in answers) == uids(site, 0)
    wanted = "\\".join((*uids(site, 0)[:2], "1.2.3"))
    answers = find(site, *images, f"SOPInstanceUID={wanted}").answers
    assert sorted(one.SOPInstanceUID for one in answers) == uids(site, 0)[:2]


@pytest.mark.parametrize("name", ["Phantom^Synthetic", "PHAN*^synth*", "Phantom^S?nthetic", "Phantom^Synthetical"])
def test_names_are_found_with_all_their_components(site: Site, name: str) -> None:
    """Orthanc 1.10.1 does not decode what is quoted in a URL."""
    found = find(site, "QueryRetrieveLevel=STUDY", f"PatientName={name}", "StudyInstanceUID")
    assert (found.status, len(found.answers)) == (0, 0 if name.endswith("al") else 2)


NAMES: Final = {
    "ISO_IR 100": "Müller^Jörg",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
}


@pytest.fixture(scope="module")
def named(site: Site) -> Iterator[dict[str, str]]:
    """Studies of patients with these names: Study Instance UIDs by character set."""
    studies, stored = {}, []
    for number, (character_set, name) in enumerate(NAMES.items(), 1):
        data_set = dcmread(BytesIO(site.origin.file(str(site.origin.lookup(uids(site, 0)[0])))))
        data_set.SpecificCharacterSet = character_set.split("\\")
        data_set.PatientName = name
        data_set.PatientID = f"NAMED{number}"
        data_set.StudyInstanceUID = studies[character_set] = f"2.25.77.{number}"
        data_set.SeriesInstanceUID = f"2.25.77.{number}.1"
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = f"2.25.77.{number}.1.1"
        file = BytesIO()
        data_set.save_as(file)
        stored.append(site.origin.post("/instances", file.getvalue())["ID"])
    yield studies
    for identifier in stored:
        site.origin.delete(f"/instances/{identifier}")


@pytest.mark.parametrize(
    ("character_set", "asked"),
    [
        ("ISO_IR 100", "Müller^J?rg"),
        ("ISO_IR 100", "m?ller^*"),
        ("ISO_IR 100", "MÜLLER*"),
        ("\\ISO 2022 IR 87", "Yamada*"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎"),
        ("\\ISO 2022 IR 149", "Hong^*=*=*길동"),
    ],
)
def test_names_of_other_scripts_are_found_and_told(
    site: Site, named: dict[str, str], character_set: str, asked: str
) -> None:
    keys = ("QueryRetrieveLevel=STUDY", "SpecificCharacterSet=ISO_IR 192", f"PatientName={asked}", "StudyInstanceUID")
    (answer,) = find(site, *keys).answers
    assert (answer.StudyInstanceUID, str(answer.PatientName)) == (named[character_set], NAMES[character_set])


def test_a_name_that_cannot_be_asked_for_is_found_with_another_key(site: Site, named: dict[str, str]) -> None:
    keys = ("QueryRetrieveLevel=STUDY", "SpecificCharacterSet=ISO_IR 192", "PatientName=*=山田*", "StudyInstanceUID")
    answers = find(site, *keys, "PatientID=NAMED2").answers
    assert [one.StudyInstanceUID for one in answers] == [named["\\ISO 2022 IR 87"]]


def test_values_of_lists_are_alternatives(site: Site) -> None:
    studies = [str(entity(site, uids(site, series)[0]).StudyInstanceUID) for series in (0, 1)]
    listed = "\\".join((*studies, "1.2.3"))
    found = find(site, "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={listed}", "PatientName")
    assert sorted(one.StudyInstanceUID for one in found.answers) == sorted(studies)
    found = find(site, "QueryRetrieveLevel=STUDY", "ModalitiesInStudy=SR\\RTDOSE", "StudyInstanceUID")
    modalities = {value for one in found.answers for value in [one.ModalitiesInStudy]}
    assert modalities == {"SR", "RTDOSE"}


def test_a_study_is_moved_byte_by_byte(site: Site) -> None:
    wanted = uids(site, 0)
    study = entity(site, wanted[0]).StudyInstanceUID
    with Retriever(site.port) as peer:
        peer.open(calling="KNOWN", called=SERVER)
        told = peer.move("STORESCP", "STUDY", StudyInstanceUID=study)
        assert (told.status, told.counters) == (0, (None, 7, 0, 0))
        peer.release()
    assert {uid: site.storescp.data_set(uid) for uid in wanted} == {uid: site.data_sets[uid] for uid in wanted}


def test_orthanc_counts_the_instances_of_its_series(site: Site, tmp_path: Path) -> None:
    """So that they are sent without a list."""
    (tmp_path / "password").write_text(PASSWORD)
    entry = {"Url": f"{site.origin.url}/dicom-web", "Username": USER, "PasswordFile": str(tmp_path / "password")}
    client = DicomWebClient(SERVER, DicomWebServerSection.model_validate(entry), Path)
    study = str(entity(site, uids(site, 0)[0]).StudyInstanceUID)
    selected = DicomWebArchive(client).select(Selection(Level.STUDY, {0x0020000D: (study,)}))
    assert isinstance(selected, WholeSeries)
    assert [series.count for series in selected.series] == [7]
    with selected.read(selected.series) as reading:
        assert sorted(one.instance.sop_instance_uid for one in reading) == uids(site, 0)


def test_moves_at_each_level(site: Site) -> None:
    first, second = (entity(site, uids(site, series)[0]) for series in (0, 1))
    images = "\\".join((*uids(site, 0)[:2], uids(site, 1)[0], "1.2.3"))
    studies = f"{first.StudyInstanceUID}\\1.2.3\\{second.StudyInstanceUID}"
    asked = {
        "PATIENT": (["PatientID=PHANTOM"], 10),
        "STUDY": (["PatientID=PHANTOM", f"StudyInstanceUID={studies}"], 10),
        "SERIES": ([f"StudyInstanceUID={studies}", f"SeriesInstanceUID={second.SeriesInstanceUID}"], 3),
        "IMAGE": ([f"SOPInstanceUID={images}"], 3),
    }
    for level, (given, count) in asked.items():
        arguments = ["-P", f"QueryRetrieveLevel={level}", *given]
        assert movescu(site.port, "STORESCP", *arguments, calling="KNOWN", called=SERVER) == 0
        assert received(site.storescp) == count, level
        for path in site.storescp.received.iterdir():
            path.unlink()
    arguments = ["-P", "QueryRetrieveLevel=STUDY", "PatientID=ANOTHER", f"StudyInstanceUID={first.StudyInstanceUID}"]
    assert movescu(site.port, "STORESCP", *arguments, calling="KNOWN", called=SERVER) == 0
    assert received(site.storescp) == 0


def test_all_transfer_syntaxes_go_out_as_they_are_stored(site: Site) -> None:
    """The origin does not say them: each series is looked at, and the association is ready for all."""
    wanted = [str(sample.SOPInstanceUID) for sample in site.samples]
    with Retriever(site.port) as peer:
        peer.open(calling="KNOWN", called=SERVER)
        told = peer.move("ALL", "IMAGE", SOPInstanceUID="\\".join(wanted))
    assert (told.status, told.counters) == (0, (None, len(wanted), 0, 0)), told
    for uid in wanted:
        assert site.all_syntaxes.data_set(uid) == site.data_sets[uid]


def test_what_the_receiver_does_not_take_is_transcoded_by_the_server(site: Site) -> None:
    (sample,) = (one for one in site.samples if one.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70")
    with Retriever(site.port) as peer:
        peer.open(calling="KNOWN", called=SERVER)
        told = peer.move("STORESCP", "IMAGE", SOPInstanceUID=str(sample.SOPInstanceUID))
    assert (told.status, told.counters) == (0, (None, 1, 0, 0)), told
    got = dcmread(BytesIO(site.storescp.data_set(sample.SOPInstanceUID)), force=True)
    assert got.SOPInstanceUID == sample.SOPInstanceUID
    assert len(got.PixelData) >= sample.Rows * sample.Columns * sample.SamplesPerPixel


def test_a_study_is_got_byte_by_byte(site: Site, tmp_path: Path) -> None:
    wanted = uids(site, 0)
    keys = ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={entity(site, wanted[0]).StudyInstanceUID}"]
    status = getscu(site.port, "-S", "+B", *keys, folder=str(tmp_path), calling="SILENT", called=SERVER)
    assert status == 0
    got = {str(dcmread(path).SOPInstanceUID): data_set_of(path.read_bytes()) for path in tmp_path.iterdir()}
    assert got == {uid: site.data_sets[uid] for uid in wanted}


def test_the_documented_class_of_a_site_drives_moves_of_its_title(site: Site) -> None:
    report = next(str(one.SOPInstanceUID) for one in site.samples if ".88." in one.SOPClassUID)
    wanted = uids(site, 0)[0]
    with Retriever(site.port) as peer:
        peer.open(calling="KNOWN", called="IMAGES")
        told = peer.move("STORESCP", "IMAGE", SOPInstanceUID=f"{report}\\{wanted}")
    assert (told.status, told.counters) == (0, (None, 1, 0, 0))
    assert site.storescp.data_set(wanted) == site.data_sets[wanted]


def test_the_documented_example_is_checked_as_printed(site: Site, tmp_path: Path) -> None:
    content = json.loads(documented("{"))
    content["DicomGateway"]["DicomWebServers"]["ARCHIVE"] |= {"Url": f"{site.origin.url}/dicom-web", "Username": USER}
    (tmp_path / "archive-password").write_text(PASSWORD)
    (tmp_path / "gateway.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "gateway.cli", "check", str(tmp_path / "gateway.json")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    printed = ran.stdout.replace(site.origin.url, "http://127.0.0.1:8042").splitlines()
    assert printed == documented("$ dicom-gateway check").splitlines()[1:]


def test_the_gateway_itself_has_no_archive(site: Site) -> None:
    assert echoscu(site.port, called="PROXY").returncode == 0
    with Retriever(site.port) as peer:
        answer = peer.associate([Context(1, STUDY_ROOT, ["1.2.840.10008.1.2"])], calling="KNOWN", called="PROXY")
    assert answer.results[1] == 1
    assert "this gateway has no Orthanc" in site.gateway.log_text()


def results(site: Site, calling: str, called: str) -> dict[int, int]:
    """The results of contexts for FIND, MOVE and GET; none when the association is rejected."""
    syntaxes = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
    contexts = [Context(2 * n + 1, syntax, ["1.2.840.10008.1.2"]) for n, syntax in enumerate(syntaxes)]
    with Retriever(site.port) as peer:
        try:
            return peer.associate(contexts, calling=calling, called=called).results
        except Rejected:
            return {}


def test_permissions_are_those_of_the_called_title(site: Site) -> None:
    """DicomAlwaysAllowFind is true, but speaks of Orthanc."""
    assert results(site, "STRANGER", SERVER) == {}
    assert results(site, "KNOWN", SERVER) == {1: 0, 3: 0, 5: 1}
    assert results(site, "SILENT", SERVER) == {1: 0, 3: 0, 5: 0}
    assert results(site, "STRANGER", "OPEN") == {1: 0, 3: 1, 5: 1}
    assert results(site, "SILENT", "OPEN") == {1: 0, 3: 1, 5: 0}
    assert results(site, "KNOWN", "FEW") == {1: 0, 3: 0, 5: 1}
    assert results(site, "SILENT", "FEW") == {}
    assert results(site, "KNOWN", "NOBODY") == {}


def test_a_server_that_refuses_us_and_one_that_is_not_there(site: Site) -> None:
    query = ("QueryRetrieveLevel=STUDY", "PatientID=PHANTOM", "StudyInstanceUID")
    assert find(site, *query, called="LOCKED").status == 0x0124
    assert find(site, *query, called="DEAD").status == 0xA700
    with Retriever(site.port) as peer:
        told = peer.open(calling="KNOWN", called="LOCKED").move("STORESCP", "STUDY", StudyInstanceUID="1.2.3")
    assert (told.status, told.comment) == (0x0124, "LOCKED: HTTP 401 Unauthorized to GET /studies/1.2.3/series"[:64])
    with Retriever(site.port) as peer:
        told = peer.open(calling="KNOWN", called="DEAD").move("STORESCP", "STUDY", StudyInstanceUID="1.2.3")
    assert told.status == 0xA701


def test_check_speaks_of_each_server(site: Site) -> None:
    command = [sys.executable, "-m", "gateway.cli", "check", str(site.gateway.file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    lines = ran.stdout.splitlines()
    assert f"called AE title {SERVER}: {site.origin.url}/dicom-web/" in lines
    assert f"{SERVER}: searches studies, all series, all instances" in lines
    assert "PROBLEM: LOCKED: HTTP 401 Unauthorized to GET /studies" in lines
    assert any(line.startswith("PROBLEM: DEAD: no answer to GET /studies") for line in lines)
    assert any("no Orthanc" in line for line in lines)
    assert ran.returncode == 1


def test_orthanc_and_servers_side_by_side(site: Site, tmp_path: Path) -> None:
    """With Orthanc's own section `DicomWeb`, as a proxy has it that moves here."""
    origin = {"Url": site.origin.url, "Username": USER, "Password": PASSWORD}
    gateway = Gateway(
        tmp_path,
        DicomModalities={"known": ["KNOWN", "127.0.0.1", 104]},
        DicomWeb={"Servers": {"theirs": [f"{site.origin.url}/dicom-web/", USER, PASSWORD]}},
        DicomGateway={"Workers": 1, "Orthanc": origin, "UseOrthancDicomWebServers": True},
    )
    query = ("QueryRetrieveLevel=STUDY", "PatientID=PHANTOM", "StudyInstanceUID", "RetrieveAETitle")
    try:
        gateway.start()
        answers = {
            called: findscu(gateway.dicom_port, *query, calling="KNOWN", called=called).answers
            for called in ("ORTHANC", "THEIRS")
        }
    finally:
        gateway.close()
    titles = {called: {one.RetrieveAETitle for one in found} for called, found in answers.items()}
    assert titles == {"ORTHANC": {"ORTHANC"}, "THEIRS": {"theirs"}}
    uids_found = [sorted(one.StudyInstanceUID for one in found) for found in answers.values()]
    assert uids_found[0] == uids_found[1] != []
