"""Stores to called AE titles that are DICOMweb servers: a gateway between modalities, Orthanc and a real origin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.dicom.part10 import MEDIA_STORAGE_SOP_INSTANCE_UID, find_data_set
from tests.conftest import MakeGateway
from tests.integration.gateways import (
    FORWARDER,
    IMPATIENT,
    assert_stored,
    ct,
    data_set_of,
    held,
    process_of,
    spool_of,
    wait_until_drained,
)
from tests.support.dcmtk import storescu, transfer_syntax_option
from tests.support.images import sop_instance_uid, unique_samples
from tests.support.orthanc import DICOMWEB_PLUGIN, Orthanc
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.querying import findscu
from tests.support.rawdicom import Context, RawPeer, Rejected
from tests.support.retrieving import Retriever
from tests.support.standalone import Gateway
from tests.support.storescp import StoreScp

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 60
OUT_OF_RESOURCES: Final = 0xA700
CLOUD: Final = "CLOUD"


@dataclass
class Site:
    """Orthanc, an origin, a gateway before both, and a receiver."""

    orthanc: Orthanc
    origin: Orthanc
    gateway: Gateway
    storescp: StoreScp


def options(orthanc: Orthanc | None, origin: Orthanc, **section: Any) -> dict[str, Any]:
    return {
        "DicomModalities": {
            "one": ["ONE", "127.0.0.1", 104],
            "stored": ["STORED", "127.0.0.1", 104],
            "silent": {"AET": "SILENT", "Host": "127.0.0.1", "Port": 104, "AllowStore": False},
        },
        "DicomGateway": {
            "Workers": 1,
            "Forwarding": IMPATIENT,
            "DicomWebServers": {
                CLOUD: {"Url": f"{origin.url}/dicom-web"},
                "DEAD": {"Url": f"http://127.0.0.1:{free_port()}"},
                "READONLY": {"Url": f"{origin.url}/dicom-web", "AllowStore": False},
            },
            **({"Orthanc": {"Url": orthanc.url}} if orthanc is not None else {}),
            **section,
        },
    }


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("stow")
    with ExitStack() as stack:

        def started(server: Any) -> Any:
            stack.callback(server.close)
            server.start()
            return server

        orthanc = started(Orthanc(directory / "orthanc"))
        origin = started(Orthanc(directory / "origin", Plugins=[DICOMWEB_PLUGIN]))
        storescp = started(StoreScp(directory / "storescp"))
        configuration = options(orthanc, origin, Acknowledge={"STORED": "Stored"}, StoredDeadline=1.0)
        configuration["DicomModalities"]["storescp"] = ["STORESCP", "127.0.0.1", storescp.port]
        yield Site(orthanc, origin, started(Gateway(directory / "gateway", **configuration)), storescp)


@pytest.fixture
def site(servers: Site) -> Site:
    """Both archives and the spool are empty."""
    for archive in (servers.orthanc, servers.origin):
        for study in archive.get("/studies"):
            archive.delete(f"/studies/{study}")
    spool = spool_of(servers.gateway)
    for name in spool.names(spool.failed):
        spool.discard(name)
    return servers


def store(port: int, called: str, *uids: str, calling: str = "ONE") -> list[int]:
    with RawPeer(port) as peer:
        peer.associate(calling=calling, called=called)
        statuses = [peer.store(uid, ct(uid)).status for uid in uids]
        peer.release()
    return statuses


def command(*arguments: str | Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return ran.stdout + ran.stderr


def test_the_called_ae_title_chooses_the_archive(site: Site) -> None:
    assert store(site.gateway.dicom_port, CLOUD.lower(), "1.2.3.1", "1.2.3.2") == [0, 0]
    assert store(site.gateway.dicom_port, "ORTHANC", "1.2.3.3") == [0]
    assert store(site.gateway.dicom_port, "WHATEVER", "1.2.3.4") == [0]
    wait_until_drained(site.gateway)
    assert_stored(site.origin, {uid: ct(uid) for uid in ("1.2.3.1", "1.2.3.2")})
    assert_stored(site.orthanc, {uid: ct(uid) for uid in ("1.2.3.3", "1.2.3.4")})


def test_all_transfer_syntaxes_arrive_byte_by_byte(site: Site, tmp_path: Path) -> None:
    samples = unique_samples(tmp_path)
    for option in sorted({transfer_syntax_option(path) for path in samples}):
        files = [path for path in samples if transfer_syntax_option(path) == option]
        sent = storescu(site.gateway.dicom_port, files, option, "-R", calling="ONE", called=CLOUD)
        assert sent.returncode == 0, sent
    wait_until_drained(site.gateway)
    # storescu encodes some anew: what counts is what the gateway received.
    received = {}
    for path in spool_of(site.gateway).delivered.iterdir():
        meta, _offset = find_data_set(memoryview(path.read_bytes()))
        received[meta[MEDIA_STORAGE_SOP_INSTANCE_UID]] = data_set_of(path.read_bytes())
    uids = {sop_instance_uid(path) for path in samples}
    assert_stored(site.origin, {uid: received[uid] for uid in uids})
    assert site.orthanc.count() == 0


def test_queries_and_retrievals_see_what_was_acknowledged(site: Site) -> None:
    for round_ in range(3):
        uids = [f"1.2.3.{round_}.{number}" for number in range(1, 6)]
        store(site.gateway.dicom_port, "DEAD", f"1.2.3.{round_}.9")
        with Retriever(site.gateway.dicom_port) as retriever:
            retriever.open(calling="ONE", called=CLOUD)
            assert store(site.gateway.dicom_port, CLOUD, *uids) == [0] * 5
            told = retriever.move("STORESCP", "IMAGE", SOPInstanceUID="\\".join(uids))
            assert (told.status, told.counters) == (0, (None, 5, 0, 0))
        keys = ("QueryRetrieveLevel=STUDY", "PatientID", "StudyInstanceUID", "NumberOfStudyRelatedInstances")
        found = findscu(site.gateway.dicom_port, *keys, calling="ONE", called=CLOUD)
        assert [one.NumberOfStudyRelatedInstances for one in found.answers] == [5 * (round_ + 1)]
    assert "a query is answered although" not in site.gateway.log_text()


def test_a_server_that_is_down_delays_nobody_and_its_instances_are_shown(site: Site) -> None:
    assert store(site.gateway.dicom_port, "DEAD", "1.2.3.1") == [0]
    assert store(site.gateway.dicom_port, CLOUD, "1.2.3.2") == [0]
    assert store(site.gateway.dicom_port, "ORTHANC", "1.2.3.3") == [0]
    site.origin.wait_for_count(1)
    site.orthanc.wait_for_count(1)
    names = [name for name in held(site.gateway)["ready"] if name.endswith("-DEAD.dcm")]
    listed = command("queue", "list", "-c", site.gateway.file)
    assert all(name in listed for name in names)
    assert "destination: DEAD" in command("queue", "show", "-c", site.gateway.file, names[0])
    assert f"{len(names)} instances wait there for DEAD" in command("check", site.gateway.file)
    for name in names:
        (spool_of(site.gateway).ready / name).unlink()
    wait_until(lambda: not held(site.gateway)["ready"], TIMEOUT_S, "they wait on")


def test_acknowledge_stored_waits_for_the_server(site: Site) -> None:
    for number in range(1, 4):
        assert store(site.gateway.dicom_port, CLOUD, f"1.2.3.{number}", calling="STORED") == [0]
        assert site.origin.count() == number
    with RawPeer(site.gateway.dicom_port) as peer:
        peer.associate(calling="STORED", called="DEAD")
        response = peer.store("1.2.3.9", ct("1.2.3.9"))
    assert (response.status, response.comment) == (OUT_OF_RESOURCES, "DEAD did not take it in time")
    assert not [name for name in held(site.gateway)["ready"] if "DEAD" in name]


def result(site: Site, calling: str, called: str) -> int | None:
    with RawPeer(site.gateway.dicom_port) as peer:
        try:
            return peer.associate([Context(1)], calling=calling, called=called).results[1]
        except Rejected:
            return None


def test_permissions_are_those_of_the_called_title(site: Site) -> None:
    """DicomAlwaysAllowStore is true, but speaks of Orthanc."""
    assert result(site, "STRANGER", CLOUD) is None
    assert result(site, "ONE", CLOUD) == 0
    assert result(site, "SILENT", CLOUD) == 1
    assert result(site, "ONE", "READONLY") == 1


def test_identical_instances_sent_again_are_delivered(site: Site) -> None:
    for _ in range(2):
        assert store(site.gateway.dicom_port, CLOUD, "1.2.3.1") == [0]
        wait_until_drained(site.gateway)
    assert_stored(site.origin, {"1.2.3.1": ct("1.2.3.1")})


def test_what_was_acknowledged_survives_kills(site: Site, make_gateway: MakeGateway) -> None:
    """A proxy without Orthanc; its processes are killed while instances are on their way."""
    gateway = make_gateway(**options(None, site.origin))
    gateway.start()
    sent = []
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(calling="ONE", called=CLOUD)
        for number in range(1, 41):
            uid = f"1.2.3.{number}"
            assert peer.store(uid, ct(uid)).status == 0
            sent.append(uid)
            if number in (3, 11, 26):
                os.kill(process_of(gateway, FORWARDER), signal.SIGKILL)
    gateway.kill()
    gateway.start()
    wait_until_drained(gateway)
    assert_stored(site.origin, {uid: ct(uid) for uid in sent})


def test_a_server_that_is_taken_out_of_the_configuration(site: Site, make_gateway: MakeGateway) -> None:
    configuration = options(site.orthanc, site.origin)
    url = configuration["DicomGateway"]["DicomWebServers"].pop(CLOUD)
    configuration["DicomGateway"]["DicomWebServers"]["LATER"] = {"Url": f"http://127.0.0.1:{free_port()}"}
    gateway = make_gateway(**configuration)
    gateway.start()
    assert store(gateway.dicom_port, "LATER", "1.2.3.1") == [0]
    gateway.stop()
    servers = gateway.configuration["DicomGateway"]["DicomWebServers"]
    del servers["LATER"]
    gateway.write_configuration()
    assert "1 instances wait there for LATER, which is not configured any more" in command("check", gateway.file)
    gateway.start()
    (name,) = wait_until(lambda: held(gateway)["failed"], TIMEOUT_S, "it is not in failed")
    assert "the configuration has no DICOMweb server LATER any more" in command("queue", "list", "-c", gateway.file)
    assert gateway.log_text().count("the configuration has no DICOMweb server LATER any more") == 1
    assert (site.orthanc.count(), site.origin.count()) == (0, 0)
    gateway.stop()
    servers["LATER"] = url
    gateway.start()
    assert f"{name}: waits for LATER again" in command("queue", "retry", "-c", gateway.file, name)
    wait_until_drained(gateway)
    assert_stored(site.origin, {"1.2.3.1": ct("1.2.3.1")})
