"""DICOM over TLS with Orthanc on both sides: as the modality that sends, and as the host of the gateway."""

from pathlib import Path

import pytest

from tests.conftest import MakeOrthanc
from tests.integration.gateways import ct
from tests.support.certificates import Authority, tls_options
from tests.support.dcmtk import storescu
from tests.support.rawdicom import RawPeer

pytestmark = pytest.mark.integration


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def test_orthanc_sends_over_tls_to_the_gateway_in_another_orthanc(
    make_orthanc: MakeOrthanc, authority: Authority, samples: list[Path]
) -> None:
    receiver = make_orthanc(gateway=True, **tls_options(authority, authority.issue("receiver")))
    receiver.start()
    modality = {"AET": "RECEIVER", "Host": "127.0.0.1", "Port": receiver.dicom_port, "UseDicomTls": True}
    # Orthanc as SCU shows the certificate of the same options.
    options = tls_options(authority, authority.issue("sender"), DicomTlsEnabled=False)
    sender = make_orthanc(**options, DicomModalities={"receiver": modality})
    sender.start()
    for sample in samples[:3]:
        sender.post("/instances", sample.read_bytes())
    sender.post("/modalities/receiver/echo", json={})
    sender.post("/modalities/receiver/store", json=sender.instances())
    receiver.wait_for_count(sender.count())
    assert "certificate=sender" in receiver.log_text()


def test_modality_without_certificate_does_not_reach_the_gateway_in_orthanc(
    make_orthanc: MakeOrthanc, authority: Authority, samples: list[Path]
) -> None:
    server = make_orthanc(gateway=True, **tls_options(authority, authority.issue("receiver")))
    server.start()
    assert storescu(server.dicom_port, samples[:1]).returncode != 0
    assert storescu(server.dicom_port, samples[:1], "+tla", *authority.dcmtk).returncode != 0
    with RawPeer(server.dicom_port, context=authority.client_context(authority.issue("ct1"))) as peer:
        peer.associate()
        assert peer.store("1.2.3", ct("1.2.3")).status == 0
        peer.release()
    server.wait_for_count(1)


def test_orthanc_does_not_stay_up_with_a_gateway_that_cannot_use_its_key(
    make_orthanc: MakeOrthanc, authority: Authority
) -> None:
    """Orthanc itself finds only files that are missing."""
    other = authority.issue("other").private_key
    server = make_orthanc(
        gateway=True, **tls_options(authority, authority.issue("receiver"), DicomTlsPrivateKey=str(other))
    )
    server.launch()
    server.wait()
    assert f"DicomTlsPrivateKey: {other}: is not the key of the certificate" in server.log_text()
