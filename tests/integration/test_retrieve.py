"""C-MOVE and C-GET of what a real Orthanc has, asked by DCMTK, GDCM and pynetdicom, sent to DCMTK's storescp."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelGet

from tests.integration.gateways import IMPATIENT, ct, data_set_of
from tests.support.certificates import Authority, tls_options
from tests.support.images import make_cts, unique_samples
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.querying import keys
from tests.support.rawdicom import RawPeer
from tests.support.rawscp import RawConnection, RawScp
from tests.support.retrieving import Retriever, getscu, movescu
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30
SLOW_PORT: Final = free_port()
GDCM_PORT: Final = free_port()
# What Orthanc 1.10.1 can and cannot make uncompressed, of tests.support.images.SAMPLES.
JPEG_LOSSLESS, JPEG_2000 = "SC_rgb_jpeg_gdcm.dcm", "MR_small_jp2klossless.dcm"


@dataclass
class Site:
    """An Orthanc, a gateway with one worker before it, and receivers."""

    orthanc: Orthanc
    gateway: Gateway
    storescp: StoreScp
    all_syntaxes: StoreScp
    over_tls: StoreScp
    # By SOP Instance UID: what Orthanc has.
    data_sets: dict[str, bytes]
    samples: dict[str, Dataset]

    @property
    def port(self) -> int:
        return self.gateway.dicom_port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("retrieve")
    authority = Authority(directory / "authority")
    with ExitStack() as stack:

        def started(server: Any) -> Any:
            stack.callback(server.close)
            server.start()
            return server

        orthanc = started(Orthanc(directory / "orthanc"))
        storescp = started(StoreScp(directory / "storescp"))
        all_syntaxes = started(StoreScp(directory / "all", "+xa"))
        over_tls = started(StoreScp(directory / "tls", *authority.issue("storescp").dcmtk, *authority.dcmtk))
        gateway = Gateway(
            directory / "gateway",
            DicomAlwaysAllowMove=True,
            DicomAlwaysAllowGet=True,
            DicomScuTimeout=5,
            **{**tls_options(authority, authority.issue("gateway")), "DicomTlsEnabled": False},
            DicomGateway={"Workers": 1, "Orthanc": {"Url": orthanc.url}, "Forwarding": IMPATIENT},
        )
        gateway.configuration["DicomModalities"] = {
            "storescp": ["STORESCP", "127.0.0.1", storescp.port],
            "all": ["ALL", "127.0.0.1", all_syntaxes.port],
            "plain": {"AET": "UNTOUCHED", "Host": "127.0.0.1", "Port": storescp.port, "AllowTranscoding": False},
            "tls": {"AET": "OVER_TLS", "Host": "127.0.0.1", "Port": over_tls.port, "UseDicomTls": True},
            "self": ["SELF", "127.0.0.1", gateway.dicom_port],
            "dead": ["DEAD", "127.0.0.1", free_port()],
            "gdcm": ["GDCMSCU", "127.0.0.1", GDCM_PORT],
            "slow": ["SLOW", "127.0.0.1", SLOW_PORT],
        }
        started(gateway)
        samples = {path.name: path for path in unique_samples(directory / "samples")}
        data_sets = {}
        for path in (
            *make_cts(directory / "a", 5, 64, 64),
            *make_cts(directory / "b", 3, 64, 64, 1),
            *samples.values(),
        ):
            orthanc.post("/instances", path.read_bytes())
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            data_sets[uid] = data_set_of(path.read_bytes())
        yield Site(
            orthanc,
            gateway,
            storescp,
            all_syntaxes,
            over_tls,
            data_sets,
            {name: dcmread(path) for name, path in samples.items()},
        )


def uids(site: Site, series: int) -> list[str]:
    return sorted(uid for uid in site.data_sets if uid.startswith("2.25.103") and f"{series:012}000064" in uid)


def study_of(site: Site, uid: str) -> str:
    return str(dcmread(BytesIO(site.orthanc.file(str(site.orthanc.lookup(uid))))).StudyInstanceUID)


def assert_received(site: Site, receiver: StoreScp, wanted: list[str]) -> None:
    for uid in wanted:
        assert receiver.data_set(uid) == site.data_sets[uid], uid


@pytest.fixture(autouse=True)
def empty_receivers(site: Site) -> None:
    for receiver in (site.storescp, site.all_syntaxes, site.over_tls):
        for path in receiver.received.iterdir():
            path.unlink()


def received(receiver: StoreScp) -> int:
    return len(list(receiver.received.iterdir()))


@pytest.mark.parametrize("model", ["-P", "-S"])
def test_movescu_moves_a_study_byte_by_byte(site: Site, model: str) -> None:
    wanted = uids(site, 0)
    study = study_of(site, wanted[0])
    assert movescu(site.port, "STORESCP", model, "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}") == 0
    assert_received(site, site.storescp, wanted)
    assert received(site.storescp) == 5


def test_move_at_each_level_and_with_lists(site: Site) -> None:
    first, second = uids(site, 0), uids(site, 1)
    studies = "\\".join((study_of(site, first[0]), study_of(site, second[0])))
    asked = {
        "PATIENT": ("PatientID=PHANTOM", 8),
        "STUDY": (f"StudyInstanceUID={studies}", 8),
        "IMAGE": ("SOPInstanceUID=" + "\\".join((first[0], second[1], "1.2.3")), 2),
    }
    for level, (key, count) in asked.items():
        assert movescu(site.port, "STORESCP", "-P", f"QueryRetrieveLevel={level}", key) == 0
        assert received(site.storescp) == count, level
        for path in site.storescp.received.iterdir():
            path.unlink()
    with Retriever(site.port) as peer:
        told = peer.open().move("STORESCP", "STUDY", StudyInstanceUID=studies.replace("\\", "\\1.2.3\\"))
        assert (told.status, told.counters) == (0, (None, 8, 0, 0))
        told = peer.move("STORESCP", "STUDY", StudyInstanceUID="1.2.3")
        assert (told.status, told.counters) == (0, (None, 0, 0, 0))
        peer.release()


def test_getscu_gets_a_study_byte_by_byte(site: Site, tmp_path: Path) -> None:
    wanted = uids(site, 0)
    study = study_of(site, wanted[0])
    status = getscu(
        site.port, "-S", "+B", "QueryRetrieveLevel=STUDY", f"StudyInstanceUID={study}", folder=str(tmp_path)
    )
    assert status == 0
    got = {str(dcmread(path).SOPInstanceUID): data_set_of(path.read_bytes()) for path in tmp_path.iterdir()}
    assert got == {uid: site.data_sets[uid] for uid in wanted}


def test_stored_transfer_syntaxes_are_kept_where_the_receiver_takes_them(site: Site) -> None:
    """One SOP class in several syntaxes on one association, none of it decoded."""
    wanted = {name: str(sample.SOPInstanceUID) for name, sample in site.samples.items()}
    identifier = keys("IMAGE", SOPInstanceUID="\\".join(wanted.values()))
    with Retriever(site.port) as peer:
        peer.open().ask(identifier, "ALL")
        last = peer.responses()[-1]
    assert (last.failed, last.completed) == (0, len(wanted)), last
    assert_received(site, site.all_syntaxes, list(wanted.values()))


@pytest.mark.parametrize("name", [JPEG_LOSSLESS, "SC_rgb_dcmtk_+eb+cr.dcm", "MR_small_jpeg_ls_lossless.dcm"])
def test_what_the_receiver_does_not_take_is_transcoded_and_keeps_its_uids(site: Site, name: str) -> None:
    sample = site.samples[name]
    count = site.orthanc.count()
    with Retriever(site.port) as peer:
        assert peer.open().move("STORESCP", "IMAGE", SOPInstanceUID=sample.SOPInstanceUID).status == 0
        told = peer.move("UNTOUCHED", "IMAGE", SOPInstanceUID=sample.SOPInstanceUID)
    data_set = site.storescp.data_set(sample.SOPInstanceUID)
    received = dcmread(BytesIO(data_set), force=True)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID", "PatientID", "Rows"):
        assert received.get(keyword) == sample.get(keyword)
    assert len(received.PixelData) >= sample.Rows * sample.Columns * sample.SamplesPerPixel
    assert site.orthanc.count() == count
    assert (told.status, told.failed_uids) == (0xA702, (sample.SOPInstanceUID,))
    assert told.comment == "none of 1 presentation contexts was accepted"


def test_what_cannot_be_transcoded_fails_and_the_rest_arrives(site: Site) -> None:
    broken, sound = site.samples[JPEG_2000].SOPInstanceUID, uids(site, 0)
    with Retriever(site.port) as peer:
        told = peer.open().move("STORESCP", "IMAGE", SOPInstanceUID="\\".join((broken, *sound)))
    assert (told.status, told.counters, told.failed_uids) == (0xB000, (None, 5, 1, 0), (broken,))
    assert told.comment.startswith("cannot be transcoded: ")
    assert_received(site, site.storescp, sound)


def test_destination_over_tls(site: Site) -> None:
    wanted = uids(site, 1)
    with Retriever(site.port) as peer:
        told = peer.open().move("OVER_TLS", "STUDY", StudyInstanceUID=study_of(site, wanted[0]))
    assert (told.status, told.completed) == (0, 3), told
    assert_received(site, site.over_tls, wanted)


def test_echo_over_tls(site: Site) -> None:
    command = [sys.executable, "-m", "gateway.cli", "echo", "tls", str(site.gateway.file)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^TLS: TLSv1\.[23] \S+ \(", ran.stdout, re.MULTILINE)
    assert "C-ECHO: status 0x0000" in ran.stdout


def test_destination_that_is_the_gateway_itself(site: Site) -> None:
    """With one worker, which serves both associations."""
    with Retriever(site.port) as peer:
        told = peer.open().move("SELF", "STUDY", StudyInstanceUID=study_of(site, uids(site, 0)[0]))
        assert (told.status, told.completed) == (0, 5)
        peer.release()


def test_destination_that_is_dead(site: Site) -> None:
    study = f"StudyInstanceUID={study_of(site, uids(site, 0)[0])}"
    assert movescu(site.port, "DEAD", "-S", "QueryRetrieveLevel=STUDY", study, calling="DEADMOVER") == 0xA702
    assert movescu(site.port, "NOBODY", "-S", "QueryRetrieveLevel=STUDY", study) == 0xA801
    line = next(line for line in site.gateway.log_text().splitlines() if "DEADMOVER" in line and "C-MOVE" in line)
    for part in ("C-MOVE failed", "destination=DEAD", "query_level=STUDY", "failed=5", "completed=0", "seconds="):
        assert part in line
    assert 'Connection refused"' in line


def test_slow_destination_does_not_hold_up_others(site: Site) -> None:
    """Two moves wait for it; a third, and the association of a stranger, do not."""
    go, waiting = threading.Event(), threading.Semaphore(0)

    def script(peer: RawConnection) -> None:
        peer.accept()
        waiting.release()
        while True:
            request = peer.request()
            assert go.wait(TIMEOUT_S)
            peer.answer(request)

    slow = RawScp(script, port=SLOW_PORT)
    study = keys("STUDY", StudyInstanceUID=study_of(site, uids(site, 1)[0]))
    with slow, Retriever(site.port) as one, Retriever(site.port) as two, Retriever(site.port) as three:
        for peer in (one, two):
            peer.open().ask(study, "SLOW")
        for _ in range(2):
            assert waiting.acquire(timeout=TIMEOUT_S)
        assert three.open().move("STORESCP", "STUDY", StudyInstanceUID=study.StudyInstanceUID).counters[1] == 3
        three.release()
        go.set()
        assert [peer.responses()[-1].counters for peer in (one, two)] == [(None, 3, 0, 0)] * 2


def test_what_was_acknowledged_just_now_is_moved(site: Site) -> None:
    """The gateway itself has told that it has it, so it must not say that there is nothing."""
    with RawPeer(site.port) as modality:
        modality.associate()
        for number in range(20):
            uid = f"2.25.88{number}"
            data_set = ct(uid, 1000)
            assert modality.store(uid, data_set).status == 0
        with Retriever(site.port) as peer:
            told = peer.open().move("STORESCP", "STUDY", StudyInstanceUID="2.25.1")
    assert (told.status, told.completed) == (0, 20), told


def test_pynetdicom_gets_in_its_role(site: Site) -> None:
    got: list[str] = []

    def on_store(event: Any) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        return 0

    ae = AE("PYNETDICOM")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage)
    role = build_role(CTImageStorage, scp_role=True)
    handlers = [(evt.EVT_C_STORE, on_store)]
    association = ae.associate("127.0.0.1", site.port, ext_neg=[role], evt_handlers=handlers)
    identifier = keys("STUDY", StudyInstanceUID=study_of(site, uids(site, 0)[0]))
    responses = list(association.send_c_get(identifier, StudyRootQueryRetrieveInformationModelGet))
    association.release()
    assert responses[-1][0].Status == 0
    assert responses[-1][0].NumberOfCompletedSuboperations == 5
    assert sorted(got) == uids(site, 0)


def test_gdcmscu_is_understood_and_missed(site: Site, tmp_path: Path) -> None:
    """It asks for instances at a port of its own, and Debian's breaks down at the first, Orthanc's own server's too."""
    key = f"20,d={study_of(site, uids(site, 1)[0])}"
    command = ["/usr/bin/gdcmscu", "--move", "--studyroot", "--study", "--key", key, "--port-scp", str(GDCM_PORT)]
    command += ["--aetitle", "GDCMSCU", "--call", "ORTHANC", "-o", str(tmp_path), "127.0.0.1", str(site.port)]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    pattern = r"C-MOVE ended early .*calling=GDCMSCU .*destination=GDCMSCU .*query_level=STUDY .*the requester has gone"
    wait_until(lambda: re.search(pattern, site.gateway.log_text()), TIMEOUT_S, site.gateway.log_tail)
