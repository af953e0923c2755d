"""Where peers may come from: AllowedHosts, and IPv4 and IPv6 on one port."""

import socket
from collections.abc import Iterator
from typing import Final

import pytest
from pydicom import dcmread

from tests.scp.conftest import Log, StartGateway, resources, spooled, wait_for_resources
from tests.support.dcmtk import echoscu
from tests.support.rawdicom import RawPeer, Rejected
from tests.support.standalone import Gateway


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")

MAXIMUM_PER_PEER: Final = 2


@pytest.fixture(scope="module")
def choosy(start_gateway: StartGateway) -> Gateway:
    """A gateway that only 127.0.0.2 and 127.0.1.0/24 may connect to."""
    return start_gateway(DicomGateway={"AllowedHosts": ["127.0.0.2", "127.0.1.0/24"]})


@pytest.fixture(scope="module")
def dual(start_gateway: StartGateway) -> Gateway:
    """A gateway on all addresses, where 127.0.0.0/16 and ::1 may connect to."""
    limits = {"AllowedHosts": ["127.0.0.0/16", "::1"], "MaximumAssociationsPerPeer": MAXIMUM_PER_PEER}
    return start_gateway(DicomGateway={"BindAddress": "::", **limits})


@pytest.fixture
def peers() -> Iterator[list[RawPeer]]:
    """Filled by the test, closed after it."""
    made: list[RawPeer] = []
    yield made
    for peer in made:
        peer.socket.close()


def test_address_that_is_not_allowed_is_closed_before_it_says_a_word(choosy: Gateway) -> None:
    log = Log(choosy)
    with RawPeer(choosy.dicom_port, source="127.0.0.3") as stranger:
        assert stranger.ends() == []
    line = log.expect("WARNING gateway: connection refused", "peer=127.0.0.3", "option=DicomGateway.AllowedHosts")
    assert "its address is not allowed" in line
    assert echoscu(choosy.dicom_port).returncode != 0


@pytest.mark.parametrize("source", ["127.0.0.2", "127.0.1.77"])
def test_address_that_is_allowed_is_served(choosy: Gateway, source: str) -> None:
    with RawPeer(choosy.dicom_port, source=source) as peer:
        peer.associate()
        assert peer.store("1.2.3").status == 0
        peer.release()


@needs_ipv6
@pytest.mark.parametrize(("host", "uri"), [("127.0.0.1", "dicom://127.0.0.1:"), ("::1", "dicom://[::1]:")])
def test_all_addresses_are_ipv4_and_ipv6_each_by_its_name(dual: Gateway, host: str, uri: str) -> None:
    log = Log(dual)
    before = set(spooled(dual))
    with RawPeer(dual.dicom_port, host=host) as peer:
        peer.associate()
        assert peer.store("1.2.3").status == 0
        peer.release()
    log.expect("association released", f"peer={host} ")
    (name,) = set(spooled(dual)) - before
    meta = dcmread(dual.state_directory / "spool" / "ready" / name).file_meta
    assert meta.SendingPresentationAddress.startswith(uri)
    assert meta.ReceivingPresentationAddress == f"{uri}{dual.dicom_port}"


@needs_ipv6
def test_mapped_addresses_are_allowed_refused_and_counted_as_ipv4(dual: Gateway, peers: list[RawPeer]) -> None:
    log = Log(dual)
    with RawPeer(dual.dicom_port, source="127.1.0.1") as stranger:
        assert stranger.ends() == []
    log.expect("connection refused", "peer=127.1.0.1 ", "DicomGateway.AllowedHosts")
    before = resources(dual)
    peers += [RawPeer(dual.dicom_port, source="127.0.0.9") for _ in range(MAXIMUM_PER_PEER + 1)]
    for peer in peers[:-1]:
        peer.associate()
    with pytest.raises(Rejected):
        peers[-1].associate()
    log.expect("association rejected", "peer=127.0.0.9 ", "DicomGateway.MaximumAssociationsPerPeer")
    for peer in peers:
        peer.socket.close()
    wait_for_resources(dual, before)
