"""Modalities that are added, changed and removed over the REST API of a running Orthanc."""

from pathlib import Path
from typing import Any, Final

import pytest

from gateway.modalities import FILE_NAME
from tests.conftest import MakeGateway, MakeOrthanc
from tests.support.dcmtk import echoscu, storescu
from tests.support.images import make_ct
from tests.support.orthanc import Orthanc
from tests.support.processes import wait_until
from tests.support.rawdicom import VERIFICATION, Context, RawPeer, Rejected
from tests.support.server import Server
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

TIMEOUT_S: Final = 30
REFRESH: Final = {"ModalitiesRefresh": 0.2, "Workers": 2}
STRICT: Final = {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False}
CT: Final = {"AET": "CT", "Host": "192.0.2.1", "Port": 104}
CONTEXTS: Final = (Context(1), Context(3, VERIFICATION))

# The modality that makes visible that the gateway has taken a list.
MARK: Final = {"AET": "MARK", "Host": "192.0.2.99", "Port": 104}


def put(orthanc: Orthanc, name: str, entry: Any) -> None:
    orthanc.put(f"/modalities/{name}", json=entry)


def results(port: int, calling: str) -> dict[int, int] | None:
    """Results of a storage (1) and a verification (3) context; None if the association is rejected."""
    with RawPeer(port) as peer:
        try:
            answer = peer.associate(CONTEXTS, calling=calling)
        except Rejected as rejected:
            assert rejected == Rejected(1, 1, 3)
            return None
        peer.release()
        return dict(answer.results)


def wait_for(port: int, calling: str, expected: dict[int, int] | None) -> None:
    """Waits until all workers answer so; they serve in turns."""

    def settled() -> bool:
        return all(results(port, calling) == expected for _ in range(4))

    wait_until(settled, TIMEOUT_S, lambda: f"{calling}: {results(port, calling)} instead of {expected}")


def expect_line(server: Server, *fragments: str) -> None:
    """Waits for a line of the log with all of `fragments`."""

    def is_there() -> bool:
        return any(all(f in line for f in fragments) for line in server.log_text().splitlines())

    wait_until(is_there, TIMEOUT_S, lambda: f"no log line with {fragments}")


def warnings(gateway: Gateway) -> int:
    """How often the log says that Orthanc does not tell its modalities."""
    return gateway.log_text().count("the last known one counts")


@pytest.fixture
def server(make_orthanc: MakeOrthanc) -> Orthanc:
    orthanc = make_orthanc(gateway=True, **STRICT, DicomModalities={"ct": CT}, DicomGateway=REFRESH)
    orthanc.start()
    return orthanc


def test_modality_is_served_from_put_to_delete(server: Orthanc, tmp_path: Path) -> None:
    make_ct(tmp_path / "ct.dcm", 16, 16, seed=1)
    port = server.dicom_port

    def echoed() -> bool:
        # The exit status is 0 after an abort.
        answer = echoscu(port, calling="NEW")
        return "Received Echo Response (Success)" in answer.stdout + answer.stderr

    def stored() -> bool:
        return storescu(port, [tmp_path / "ct.dcm"], calling="NEW").returncode == 0

    assert not echoed()
    assert not stored()
    put(server, "new", {"AET": "NEW", "Host": "192.0.2.2", "Port": 104})
    wait_for(port, "NEW", {1: 0, 3: 0})
    assert echoed()
    assert stored()
    put(server, "new", {"AET": "NEW", "Host": "192.0.2.2", "Port": 104, "AllowStore": False})
    wait_for(port, "NEW", {1: 1, 3: 0})
    assert echoed()
    assert not stored()
    server.delete("/modalities/new")
    wait_for(port, "NEW", None)
    assert not echoed()
    assert not stored()
    expect_line(server, "modalities changed in Orthanc", "removed=new")
    server.wait_for_count(1)


def test_modality_of_the_file_can_be_removed_and_is_back_after_a_restart_as_in_orthanc(server: Orthanc) -> None:
    wait_for(server.dicom_port, "CT", {1: 0, 3: 0})
    server.delete("/modalities/ct")
    wait_for(server.dicom_port, "CT", None)
    server.restart()
    assert list(server.get("/modalities")) == ["ct"]
    wait_for(server.dicom_port, "CT", {1: 0, 3: 0})


def test_association_keeps_the_permissions_with_which_it_began(server: Orthanc) -> None:
    with RawPeer(server.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="CT")
        put(server, "ct", {**CT, "AllowStore": False, "AllowEcho": False})
        wait_for(server.dicom_port, "CT", {1: 1, 3: 1})
        assert peer.echo(1).status == 0
        assert peer.store("1.2.3").status == 0


def test_modalities_in_the_database_count_and_those_of_the_file_do_not(make_orthanc: MakeOrthanc) -> None:
    server = make_orthanc(
        gateway=True, **STRICT, DicomModalities={"ct": CT}, DicomModalitiesInDatabase=True, DicomGateway=REFRESH
    )
    server.start()
    assert server.get("/modalities") == []
    assert results(server.dicom_port, "CT") is None
    put(server, "new", {"AET": "NEW", "Host": "192.0.2.2", "Port": 104})
    wait_for(server.dicom_port, "NEW", {1: 0, 3: 0})
    server.restart()
    wait_for(server.dicom_port, "NEW", {1: 0, 3: 0})
    assert results(server.dicom_port, "CT") is None


def test_ten_thousand_modalities_reach_the_workers(server: Orthanc, make_orthanc: MakeOrthanc) -> None:
    many = {f"m{n}": [f"M{n}", "192.0.2.3", 104] for n in range(10_000)}
    large = make_orthanc(**STRICT, DicomModalities=many)
    large.start()
    server.stop()
    server.configuration["DicomGateway"]["Orthanc"] = {"Url": large.url}
    server.start()
    wait_for(server.dicom_port, "M9999", {1: 0, 3: 0})
    assert results(server.dicom_port, "CT") is None


def test_modalities_of_the_gateways_own_file_count_besides_those_of_orthanc(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway
) -> None:
    orthanc = make_orthanc(DicomModalities={"mark": MARK})
    section = {**REFRESH, "Orthanc": {"Url": orthanc.url}}
    gateway = make_gateway(**STRICT, DicomModalities={"ct": CT}, DicomGateway=section)
    gateway.start()
    assert results(gateway.dicom_port, "CT") == {1: 0, 3: 0}
    orthanc.start()
    wait_for(gateway.dicom_port, "MARK", {1: 0, 3: 0})
    assert results(gateway.dicom_port, "CT") == {1: 0, 3: 0}


def test_last_known_list_remains_while_orthanc_is_away_and_over_a_restart(
    make_orthanc: MakeOrthanc, make_gateway: MakeGateway
) -> None:
    orthanc = make_orthanc()
    gateway = make_gateway(**STRICT, DicomGateway={**REFRESH, "Orthanc": {"Url": orthanc.url}})
    orthanc.start()
    gateway.start()
    put(orthanc, "new", {"AET": "NEW", "Host": "192.0.2.2", "Port": 104})
    wait_for(gateway.dicom_port, "NEW", {1: 0, 3: 0})
    orthanc.stop()
    expect_line(gateway, "WARNING", "the last known one counts", "reason=")
    assert results(gateway.dicom_port, "NEW") == {1: 0, 3: 0}
    gateway.restart()
    assert results(gateway.dicom_port, "NEW") == {1: 0, 3: 0}
    wait_until(lambda: warnings(gateway) == 2, TIMEOUT_S, lambda: f"{warnings(gateway)} warnings instead of 2")
    orthanc.start()
    wait_for(gateway.dicom_port, "NEW", None)  # Orthanc has forgotten what was not in its file
    expect_line(gateway, "Orthanc answers with its modalities again")
    assert warnings(gateway) == 2  # once for each life of the gateway


def test_without_refresh_orthanc_is_not_asked(make_orthanc: MakeOrthanc, make_gateway: MakeGateway) -> None:
    orthanc = make_orthanc(DicomModalities={"mark": MARK})
    section = {**REFRESH, "ModalitiesRefresh": 0, "Orthanc": {"Url": orthanc.url}}
    gateway = make_gateway(**STRICT, DicomModalities={"ct": CT}, DicomGateway=section)
    orthanc.start()
    gateway.start()
    with RawPeer(gateway.dicom_port) as peer:
        peer.associate(CONTEXTS, calling="CT")
        assert peer.store("1.2.3").status == 0
    orthanc.wait_for_count(1)  # the forwarder has been at work
    assert not (gateway.state_directory / FILE_NAME).exists()
    assert "/modalities" not in orthanc.log_text()
    assert results(gateway.dicom_port, "MARK") is None
