"""What a retrieval is about, while some of it has been acknowledged and is not in Orthanc yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from gateway.archive.barrier import QueryBarrier
from gateway.archive.interface import (
    ACCESSION_NUMBER,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    ArchiveUnavailable,
    Level,
    Selection,
)
from gateway.archive.orthanc import Options, OrthancArchive
from gateway.archive.rest import OrthancRest
from gateway.deliveries import DeliveryClient
from gateway.forwarding.transports import Endpoint
from tests.conftest import MakeGateway
from tests.integration.gateways import section, spool_of
from tests.support.hostile_http import Answer, HostileHttp, Request, orthanc_error
from tests.support.images import make_cts
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration


@pytest.fixture
def busy() -> Iterator[HostileHttp]:
    """What the forwarder takes for an Orthanc that is not ready."""
    server = HostileHttp()
    server.rule = lambda _request: orthanc_error(503, 1)
    yield server
    server.close()


def send(gateway: Gateway, paths: list[Path]) -> None:
    peer = AE()
    peer.add_requested_context(CTImageStorage)
    association = peer.associate("127.0.0.1", gateway.dicom_port, ae_title="ORTHANC")
    for path in paths:
        assert association.send_c_store(dcmread(path)).Status == 0
    association.release()


def archive_of(gateway: Gateway, orthanc: Orthanc, timeout_s: float) -> OrthancArchive:
    deliveries = DeliveryClient(gateway.state_directory)
    return OrthancArchive(
        OrthancRest(Endpoint(orthanc.url), 2), Options("ORTHANC"), QueryBarrier(deliveries, timeout_s)
    )


def list_patiently(archive: OrthancArchive, selection: Selection) -> tuple[set[str], set[str]]:
    """UIDs of what is there and of what is missing; the forwarder may just be connected to."""

    def listed() -> tuple[set[str], set[str]] | None:
        try:
            listing = archive.list_instances(selection)
        except ArchiveUnavailable:
            return None
        return {one.sop_instance_uid for one in listing.instances}, set(listing.missing)

    return wait_until(listed, 30, "the forwarder says nothing")


def test_what_is_acknowledged_and_not_in_orthanc_is_missing(
    make_gateway: MakeGateway, orthanc: Orthanc, busy: HostileHttp, tmp_path: Path
) -> None:
    gateway = make_gateway(DicomGateway={**section(orthanc), "Orthanc": {"Url": busy.url}})
    gateway.start()
    first, other = make_cts(tmp_path / "first", 6, 8, 8), make_cts(tmp_path / "other", 2, 8, 8, series=1)
    uids = [str(dcmread(path).SOPInstanceUID) for path in first]
    study = str(dcmread(first[0]).StudyInstanceUID)
    for path in first[:3]:
        orthanc.post("/instances", path.read_bytes())
    send(gateway, [*first[2:], *other])
    archive = archive_of(gateway, orthanc, 0.2)
    there, late = set(uids[:3]), set(uids[3:])
    assert list_patiently(archive, Selection(Level.STUDY, {STUDY_INSTANCE_UID: (study,)})) == (there, late)
    chosen = Selection(Level.IMAGE, {STUDY_INSTANCE_UID: (study,), SOP_INSTANCE_UID: (uids[1], uids[4], "1.2.3")})
    assert list_patiently(archive, chosen) == ({uids[1]}, {uids[4]})
    assert list_patiently(archive, Selection(Level.STUDY, {ACCESSION_NUMBER: ("A2",)})) == (set(), set())
    by_accession = list_patiently(archive, Selection(Level.STUDY, {ACCESSION_NUMBER: ("A1",)}))
    assert (by_accession[0], len(by_accession[1])) == (there, len(late) + len(other))
    many = Selection(Level.STUDY, {STUDY_INSTANCE_UID: (study, *(f"1.2.3.{number}" for number in range(500)))})
    assert list_patiently(archive, many) == (there, late)


def test_what_arrives_in_time_is_listed_and_what_orthanc_refuses_is_missing(
    make_gateway: MakeGateway, orthanc: Orthanc, tmp_path: Path
) -> None:
    """Orthanc takes all but one; the forwarder holds for a minute, so only the barrier brings it there."""
    paths = make_cts(tmp_path / "images", 4, 8, 8)
    refused = str(dcmread(paths[0]).SOPInstanceUID)

    def rule(request: Request) -> Answer:
        if refused in request.uids:
            return orthanc_error(400, 15)
        answers = [orthanc.post("/instances", one.file) for one in request.instances]
        return Answer(200, json.dumps(answers if len(answers) > 1 else answers[0]).encode())

    picky = HostileHttp()
    picky.rule = rule
    try:
        gateway = make_gateway(
            DicomGateway={
                **section(orthanc, Forwarding={"HoldWhileReceiving": 60}),
                "Orthanc": {"Url": picky.url},
            }
        )
        gateway.start()
        archive = archive_of(gateway, orthanc, 20)
        study = Selection(Level.STUDY, {STUDY_INSTANCE_UID: (str(dcmread(paths[0]).StudyInstanceUID),)})
        assert list_patiently(archive, study) == (set(), set())
        send(gateway, paths)
        for _again in range(2):  # whether it is refused now or was before
            listing = archive.list_instances(study)
            assert listing.missing == [refused]
            assert len(listing.instances) == 3
        spool = spool_of(gateway)
        (name,) = spool.names(spool.failed)
        spool.discard(name)
        assert archive.list_instances(study).missing == []
    finally:
        picky.close()


def test_nobody_to_say_what_is_missing_is_no_answer(orthanc: Orthanc, tmp_path: Path) -> None:
    deliveries = DeliveryClient(tmp_path)
    archive = OrthancArchive(OrthancRest(Endpoint(orthanc.url), 2), Options("ORTHANC"), QueryBarrier(deliveries, 0.1))
    with pytest.raises(ArchiveUnavailable, match="forwarder"):
        archive.list_instances(Selection(Level.STUDY, {STUDY_INSTANCE_UID: ("1.2.3",)}))
    deliveries.close()
