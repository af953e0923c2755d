"""DICOM over TLS with DCMTK's and OpenSSL's tools: who gets in, by which version and suite, and what the log says."""

import os
import struct
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from gateway.tls.context import LOOK_INTERVAL_S
from tests.scp.conftest import DEADLINE_S, Log, StartGateway, spooled
from tests.support.certificates import DAY, NOW, Authority, Credentials, tls_options
from tests.support.data_sets import PIXEL_DATA, element
from tests.support.dcmtk import echoscu, storescu
from tests.support.processes import wait_until
from tests.support.rawdicom import VERIFICATION, Context, RawPeer, Rejected, image
from tests.support.standalone import Gateway

LARGE_BYTES: Final = 50_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other_authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Credentials:
    """With an RSA key, that old suites can be tried."""
    return authority.issue("gateway", "localhost", key_type=trustme.KeyType.RSA)


@pytest.fixture(scope="module")
def modality(authority: Authority) -> Credentials:
    return authority.issue("ct1", "ct1.example")


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, authority: Authority, server: Credentials) -> Gateway:
    """A gateway with TLS and Orthanc's defaults."""
    return start_gateway(**tls_options(authority, server), DicomGateway={"Log": {"Level": "DEBUG"}})


def echoes(port: int, *options: str, **titles: str) -> bool:
    """Whether echoscu gets its answer."""
    return echoscu(port, *options, **titles).returncode == 0


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_modality_with_its_certificate_is_served_by_each_profile_of_dcmtk(
    gateway: Gateway, authority: Authority, modality: Credentials, profile: str
) -> None:
    log = Log(gateway)
    assert echoes(gateway.dicom_port, *modality.dcmtk, *authority.dcmtk, profile)
    log.expect("TLS handshake done", "certificate=ct1")
    log.expect("association released", "certificate=ct1", "calling=ECHOSCU")


def test_large_instance_arrives_bit_by_bit(
    gateway: Gateway, authority: Authority, modality: Credentials, tmp_path: Path
) -> None:
    data_set = image("1.2.3.50", rest=element(PIXEL_DATA, "OW", os.urandom(LARGE_BYTES)))
    file = tmp_path / "large.dcm"
    file.write_bytes(part10("1.2.3.50", data_set))
    before = set(spooled(gateway))
    sent = storescu(gateway.dicom_port, [file], *modality.dcmtk, *authority.dcmtk)
    assert sent.returncode == 0, sent.stderr
    (name,) = set(spooled(gateway)) - before
    assert (gateway.state_directory / "spool" / "ready" / name).read_bytes().endswith(data_set)


def part10(uid: str, data_set: bytes) -> bytes:
    """A file around a CT image in Explicit VR Little Endian."""
    values = {0x00020002: "1.2.840.10008.5.1.4.1.1.2", 0x00020003: uid, 0x00020010: "1.2.840.10008.1.2.1"}
    values[0x00020012] = "1.2.3"
    meta = b"".join(element(tag, "UI", value.encode() + b"\0" * (len(value) % 2)) for tag, value in values.items())
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(meta)) + meta + data_set


@pytest.mark.parametrize(
    ("validity", "reason"),
    [
        ({"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}, "certificate has expired"),
        ({"not_before": NOW + DAY, "not_after": NOW + 9 * DAY}, "certificate is not yet valid"),
    ],
    ids=["expired", "not yet valid"],
)
def test_certificate_out_of_its_time_is_refused(
    gateway: Gateway, authority: Authority, validity: dict[str, Any], reason: str
) -> None:
    log = Log(gateway)
    assert not echoes(gateway.dicom_port, *authority.issue("late", **validity).dcmtk, *authority.dcmtk)
    log.expect("WARNING", "TLS handshake failed", "peer=127.0.0.1", f"the peer's certificate is refused: {reason}")


def test_certificate_of_an_authority_that_is_not_trusted_is_refused(
    gateway: Gateway, authority: Authority, other_authority: Authority
) -> None:
    log = Log(gateway)
    assert not echoes(gateway.dicom_port, *other_authority.issue("ct1").dcmtk, *authority.dcmtk)
    log.expect("WARNING", "TLS handshake failed", "unable to get local issuer certificate")


def test_peer_without_certificate_is_refused(gateway: Gateway, authority: Authority) -> None:
    log = Log(gateway)
    assert not echoes(gateway.dicom_port, "+tla", *authority.dcmtk)
    log.expect("WARNING", "TLS handshake failed", "the peer sent no certificate (DicomTlsRemoteCertificateRequired)")


def test_peer_that_does_not_trust_us_is_named_as_the_one_who_refuses(
    gateway: Gateway, modality: Credentials, other_authority: Authority
) -> None:
    log = Log(gateway)
    assert not echoes(gateway.dicom_port, *modality.dcmtk, *other_authority.dcmtk)
    log.expect("WARNING", "TLS handshake failed", "the peer does not trust the issuer of our certificate")


def test_plain_peer_is_named_as_such(gateway: Gateway) -> None:
    log = Log(gateway)
    assert not echoes(gateway.dicom_port)
    log.expect("WARNING", "TLS handshake failed", "the peer speaks plain DICOM, and DicomTlsEnabled is true")


def test_peer_is_not_asked_for_a_certificate_if_none_is_required(
    start_gateway: StartGateway, authority: Authority, other_authority: Authority, server: Credentials
) -> None:
    options = tls_options(authority, server, DicomTlsRemoteCertificateRequired=False)
    del options["DicomTlsTrustedCertificates"]
    gateway = start_gateway(**options)
    assert echoes(gateway.dicom_port, "+tla", *authority.dcmtk)
    assert echoes(gateway.dicom_port, *other_authority.issue("stranger").dcmtk, *authority.dcmtk)


def negotiated(gateway: Gateway, authority: Authority, modality: Credentials, *options: str) -> str:
    """What openssl s_client says of the connection, without a DICOM byte: it speaks every version, DCMTK does not."""
    shown = subprocess.run(
        [
            *("/usr/bin/openssl", "s_client", "-connect", f"127.0.0.1:{gateway.dicom_port}"),
            *("-cert", str(modality.certificate), "-key", str(modality.private_key)),
            *("-CAfile", str(authority.certificate), *options),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return shown.stdout + shown.stderr


OLD = ("-cipher", "DEFAULT@SECLEVEL=0")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_versions_before_tls_1_2_are_refused(
    gateway: Gateway, authority: Authority, modality: Credentials, version: str
) -> None:
    log = Log(gateway)
    assert "alert protocol version" in negotiated(gateway, authority, modality, version, *OLD)
    log.expect("TLS handshake failed", "a TLS version that is accepted (DicomTlsMinimumProtocolVersion)")


@pytest.mark.parametrize("suite", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-SHA"])
def test_suites_that_bcp_195_does_not_recommend_are_refused(
    gateway: Gateway, authority: Authority, modality: Credentials, suite: str
) -> None:
    log = Log(gateway)
    assert "alert handshake failure" in negotiated(gateway, authority, modality, "-tls1_2", "-cipher", suite)
    log.expect("TLS handshake failed", "no cipher suite in common (DicomTlsCiphersAccepted)")


@pytest.mark.parametrize("suite", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"])
def test_suites_of_bcp_195_are_accepted(
    gateway: Gateway, authority: Authority, modality: Credentials, suite: str
) -> None:
    log = Log(gateway)
    assert f"Cipher is {suite}" in negotiated(gateway, authority, modality, "-tls1_2", "-cipher", suite)
    log.expect("TLS handshake done", f"TLSv1.2 {suite}")


def test_minimum_version_can_be_raised(
    start_gateway: StartGateway, authority: Authority, modality: Credentials, server: Credentials
) -> None:
    gateway = start_gateway(**tls_options(authority, server, DicomTlsMinimumProtocolVersion=5))
    assert "alert protocol version" in negotiated(gateway, authority, modality, "-tls1_2")
    assert echoes(gateway.dicom_port, *modality.dcmtk, *authority.dcmtk)


@pytest.mark.parametrize("names", [["AES128-SHA"], ["TLS_RSA_WITH_AES_128_CBC_SHA"]], ids=["OpenSSL's", "IANA's"])
def test_old_modality_is_served_if_its_version_and_suite_are_accepted(
    start_gateway: StartGateway, authority: Authority, modality: Credentials, server: Credentials, names: list[str]
) -> None:
    options = {"DicomTlsMinimumProtocolVersion": 3, "DicomTlsCiphersAccepted": names}
    gateway = start_gateway(**tls_options(authority, server, **options), DicomGateway={"Log": {"Level": "DEBUG"}})
    assert "Cipher is AES128-SHA" in negotiated(gateway, authority, modality, "-tls1_1", *OLD)
    assert "alert protocol version" in negotiated(gateway, authority, modality, "-tls1", *OLD)
    log = Log(gateway)
    assert echoes(gateway.dicom_port, *modality.dcmtk, *authority.dcmtk, "+pa")
    log.expect("TLS handshake done")


@pytest.fixture
def changing(start_gateway: StartGateway, tmp_path: Path) -> tuple[Gateway, Authority, Credentials]:
    """A gateway of its own whose files may be changed."""
    authority = Authority(tmp_path / "authority")
    server = authority.issue("gateway", "localhost")
    gateway = start_gateway(**tls_options(authority, server))
    # The port listens before the worker has read its files.
    assert echoes(gateway.dicom_port, *authority.issue("first").dcmtk, *authority.dcmtk)
    return gateway, authority, server


def test_changed_certificate_is_used_without_a_restart(changing: tuple[Gateway, Authority, Credentials]) -> None:
    gateway, authority, server = changing
    log = Log(gateway)
    modality = authority.issue("ct1")
    with RawPeer(gateway.dicom_port, context=authority.client_context(modality)) as before:
        before.associate()
        server.replace(authority.issue("renewed gateway"))
        wait_until(
            lambda: "renewed gateway" in negotiated(gateway, authority, modality), DEADLINE_S, "the old one stays"
        )
        assert before.store("1.2.3").status == 0
        before.release()
    log.expect("INFO", "TLS certificates were read again")


def test_broken_certificate_is_logged_once_and_the_old_one_stays(
    changing: tuple[Gateway, Authority, Credentials],
) -> None:
    gateway, authority, server = changing
    log = Log(gateway)
    modality = authority.issue("ct1")
    server.certificate.write_text("no certificate")

    def complains() -> bool:
        assert echoes(gateway.dicom_port, *modality.dcmtk, *authority.dcmtk)
        return "cannot be used" in gateway.log_text()

    wait_until(complains, DEADLINE_S, "the broken file is not noticed")
    line = log.expect("ERROR", "TLS certificates cannot be used; those before stay in use", "DicomTlsCertificate")
    assert str(server.certificate) in line
    server.private_key.unlink()
    wait_until(
        lambda: complains() and gateway.log_text().count("cannot be used") == 2, DEADLINE_S, "the next change is missed"
    )
    for _ in range(3):
        assert complains()
    assert gateway.log_text().count("cannot be used") == 2
    server.replace(authority.issue("mended gateway"))
    wait_until(lambda: "mended gateway" in negotiated(gateway, authority, modality), DEADLINE_S, "it is not mended")


def test_trusted_certificates_are_read_again_too(
    changing: tuple[Gateway, Authority, Credentials], other_authority: Authority
) -> None:
    gateway, authority, _server = changing
    newcomer = other_authority.issue("ct2")
    assert not echoes(gateway.dicom_port, *newcomer.dcmtk, *authority.dcmtk)
    authority.certificate.write_bytes(authority.certificate.read_bytes() + other_authority.certificate.read_bytes())
    wait_until(
        lambda: echoes(gateway.dicom_port, *newcomer.dcmtk, *authority.dcmtk),
        DEADLINE_S + LOOK_INTERVAL_S,
        "the new authority is not trusted",
    )


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"DicomTlsCertificate": "none.pem"}, "DicomTlsCertificate: {}/none.pem: No such file or directory"),
        ({"DicomTlsPrivateKey": "none.key"}, "DicomTlsPrivateKey: {}/none.key: No such file or directory"),
        ({"DicomTlsTrustedCertificates": ""}, "DicomTlsTrustedCertificates: expected the path of a file"),
    ],
)
def test_gateway_does_not_start_without_its_files(
    make_gateway: Any, authority: Authority, server: Credentials, broken: dict[str, str], text: str
) -> None:
    gateway = make_gateway(**tls_options(authority, server, **broken))
    gateway.launch()
    assert gateway.wait() != 0
    assert f"dicom-gateway: {text.format(gateway.directory)}" in gateway.log_text()


@pytest.fixture(scope="module")
def bound(start_gateway: StartGateway, authority: Authority, server: Credentials) -> Gateway:
    """A gateway that knows whose AE title CT1 is."""
    section = {"TlsSubjects": {"CT1": ["CT1.example", "ct1 spare"]}}
    return start_gateway(**tls_options(authority, server), DicomGateway=section)


@pytest.mark.parametrize("common_name", ["ct1", "CT1 Spare"])
def test_bound_ae_title_is_accepted_from_its_certificate(
    bound: Gateway, authority: Authority, common_name: str
) -> None:
    holder = authority.issue(common_name, *(["ct1.example"] if common_name == "ct1" else []))
    assert echoes(bound.dicom_port, *holder.dcmtk, *authority.dcmtk, calling="CT1")
    assert echoes(bound.dicom_port, *holder.dcmtk, *authority.dcmtk, calling="ct1")


@pytest.mark.parametrize("names", [("ct2", "ct2.example"), ("ct1.example.evil", "*.example"), ("ct1",)])
def test_bound_ae_title_is_refused_to_any_other_certificate(
    bound: Gateway, authority: Authority, names: tuple[str, ...]
) -> None:
    log = Log(bound)
    thief = authority.issue(*names)
    with (
        RawPeer(bound.dicom_port, context=authority.client_context(thief)) as peer,
        pytest.raises(Rejected) as rejected,
    ):
        peer.associate([Context(1, VERIFICATION)], calling="ct1")
    assert rejected.value == Rejected(1, 1, 3)
    log.expect(
        "WARNING",
        "association rejected",
        "calling=ct1",
        f"TlsSubjects does not give this calling AE title to {names[0]}",
    )
    assert echoes(bound.dicom_port, *thief.dcmtk, *authority.dcmtk, calling="OTHER")
