"""The TLS context from Orthanc's options: what it offers, and what is wrong with files that cannot be used."""

import subprocess
from pathlib import Path
from ssl import TLSVersion
from typing import Any

import pytest
import trustme

from gateway.options.config import parse
from gateway.options.orthanc_json import ConfigurationError
from gateway.tls.context import TlsError, TlsFiles, files_of, make_context
from gateway.tls.policy import RECOMMENDED, SUITES, TLS_1_3_SUITES, policy
from tests.support.certificates import Authority, Credentials, tls_options


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Credentials:
    return authority.issue("gateway")


def openssl(*arguments: str) -> str:
    return subprocess.run(["/usr/bin/openssl", *arguments], capture_output=True, text=True, check=True).stdout


def test_names_of_suites_are_those_of_openssl() -> None:
    lines = [line.split() for line in openssl("ciphers", "-stdname", "-s", "ALL:@SECLEVEL=0").splitlines()]
    known = {fields[0]: fields[2] for fields in lines}
    assert SUITES.items() <= known.items()
    assert {name: known[name] for name in TLS_1_3_SUITES} == {name: name for name in TLS_1_3_SUITES}
    assert set(RECOMMENDED) <= set(SUITES.values())


def test_default_is_bcp_195(authority: Authority, server: Credentials) -> None:
    files = TlsFiles(server.certificate, server.private_key, authority.certificate)
    context = make_context(files, policy(0, []))
    assert context.minimum_version == TLSVersion.TLSv1_2
    offered = [suite["name"] for suite in context.get_ciphers()]
    assert set(offered) == {*RECOMMENDED, *TLS_1_3_SUITES}


@pytest.mark.parametrize(
    ("version", "names", "minimum", "ciphers"),
    [
        (0, [], TLSVersion.TLSv1_2, ":".join(RECOMMENDED)),
        (4, [], TLSVersion.TLSv1_2, ":".join(RECOMMENDED)),
        (5, [], TLSVersion.TLSv1_3, ":".join(RECOMMENDED)),
        (4, ["AES128-SHA", "TLS_AES_256_GCM_SHA384"], TLSVersion.TLSv1_2, "AES128-SHA"),
        (4, ["TLS_AES_256_GCM_SHA384"], TLSVersion.TLSv1_3, ":".join(RECOMMENDED)),
        (4, ["TLS_RSA_WITH_AES_128_CBC_SHA", "AES256-SHA"], TLSVersion.TLSv1_2, "AES128-SHA:AES256-SHA"),
        (1, ["AES128-SHA"], TLSVersion.TLSv1, "AES128-SHA:@SECLEVEL=0"),
        (2, ["AES128-SHA"], TLSVersion.TLSv1, "AES128-SHA:@SECLEVEL=0"),
        (3, ["AES128-SHA"], TLSVersion.TLSv1_1, "AES128-SHA:@SECLEVEL=0"),
    ],
)
def test_versions_and_suites_of_the_options(version: int, names: list[str], minimum: TLSVersion, ciphers: str) -> None:
    assert (policy(version, names).minimum_version, policy(version, names).ciphers) == (minimum, ciphers)


@pytest.mark.parametrize(
    ("changed", "mistake"),
    [
        ({"DicomTlsCertificate": ""}, "DicomTlsCertificate: expected the path of a file"),
        ({"DicomTlsPrivateKey": ""}, "DicomTlsPrivateKey: expected the path of a file"),
        ({"DicomTlsTrustedCertificates": ""}, "DicomTlsTrustedCertificates: expected the path of a file"),
        ({"DicomTlsMinimumProtocolVersion": 6}, "DicomTlsMinimumProtocolVersion: "),
        ({"DicomTlsMinimumProtocolVersion": 3}, "DicomTlsCiphersAccepted: expected cipher suites"),
        (
            {"DicomTlsCiphersAccepted": ["AES128-SHA"]},
            "DicomTlsCiphersAccepted: expected DicomTlsMinimumProtocolVersion",
        ),
        (
            {"DicomTlsMinimumProtocolVersion": 4, "DicomTlsCiphersAccepted": ["NULL-SHA"]},
            "DicomTlsCiphersAccepted: NULL-SHA is no cipher suite that the gateway offers",
        ),
        (
            {"DicomTlsMinimumProtocolVersion": 4, "DicomTlsCiphersAccepted": ["ALL:@SECLEVEL=0"]},
            "DicomTlsCiphersAccepted: ALL:@SECLEVEL=0 is no cipher suite",
        ),
        (
            {"DicomTlsEnabled": False, "DicomGateway": {"TlsSubjects": {"CT1": ["ct1"]}}},
            "DicomGateway.TlsSubjects: expected DicomTlsEnabled and DicomTlsRemoteCertificateRequired to be true",
        ),
        (
            {"DicomTlsRemoteCertificateRequired": False, "DicomGateway": {"TlsSubjects": {"CT1": ["ct1"]}}},
            "DicomGateway.TlsSubjects: expected DicomTlsEnabled and DicomTlsRemoteCertificateRequired to be true",
        ),
        ({"DicomGateway": {"TlsSubjects": {"CT1": []}}}, "DicomGateway.TlsSubjects.CT1: "),
    ],
)
def test_mistakes_in_the_options(
    authority: Authority, server: Credentials, tmp_path: Path, changed: dict[str, Any], mistake: str
) -> None:
    parse(tls_options(authority, server), tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        parse(tls_options(authority, server, **changed), tmp_path)
    assert str(raised.value).startswith(mistake)


def test_options_of_tls_mean_nothing_without_tls(tmp_path: Path) -> None:
    options = {"DicomTlsCertificate": "none.pem", "DicomTlsCiphersAccepted": ["ANY"]}
    assert not parse(options, tmp_path).orthanc.dicom_tls_enabled


def encrypted(key: Path, directory: Path) -> Path:
    path = directory / "encrypted.key"
    openssl("pkey", "-in", str(key), "-aes128", "-passout", "pass:secret", "-out", str(path))
    return path


def weak(directory: Path) -> tuple[Path, Path]:
    """A certificate whose key OpenSSL's security level 2 finds too short."""
    certificate, key = directory / "weak.pem", directory / "weak.key"
    subject = ["-subj", "/CN=weak", "-days", "2", "-nodes"]
    openssl("req", "-x509", "-newkey", "rsa:1024", *subject, "-keyout", str(key), "-out", str(certificate))
    return certificate, key


def test_files_that_cannot_be_used_are_named_with_their_option(
    authority: Authority, server: Credentials, tmp_path: Path
) -> None:
    other = authority.issue("other")
    junk = tmp_path / "junk"
    junk.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    certificate, key, trusted = server.certificate, server.private_key, authority.certificate
    none, weak_certificate, weak_key = tmp_path / "none", *weak(tmp_path)
    cases = [
        (none, key, trusted, f"DicomTlsCertificate: {none}: No such file or directory"),
        (tmp_path, key, trusted, f"DicomTlsCertificate: {tmp_path}: Is a directory"),
        (key, key, trusted, f"DicomTlsCertificate: {key}: expected certificates in PEM format"),
        (junk, key, trusted, f"DicomTlsCertificate: {junk}: expected certificates in PEM format"),
        (certificate, none, trusted, f"DicomTlsPrivateKey: {none}: No such file or directory"),
        (certificate, junk, trusted, f"DicomTlsPrivateKey: {junk}: expected a private key in PEM format"),
        (
            certificate,
            other.private_key,
            trusted,
            f"DicomTlsPrivateKey: {other.private_key}: is not the key of the certificate {certificate}",
        ),
        (weak_certificate, weak_key, trusted, f"DicomTlsCertificate: {weak_certificate}: its key is too short"),
        (certificate, key, none, f"DicomTlsTrustedCertificates: {none}: No such file or directory"),
        (certificate, key, key, f"DicomTlsTrustedCertificates: {key}: expected certificates in PEM format"),
    ]
    locked = encrypted(key, tmp_path)
    cases.append((certificate, locked, trusted, f"DicomTlsPrivateKey: {locked}: expected a key without password"))
    for certificate_file, key_file, trusted_file, text in cases:
        with pytest.raises(TlsError) as raised:
            make_context(TlsFiles(certificate_file, key_file, trusted_file), policy(0, []))
        assert str(raised.value) == text


def test_rsa_key_of_another_kind_is_not_the_key(authority: Authority, server: Credentials) -> None:
    rsa = authority.issue("rsa", key_type=trustme.KeyType.RSA)
    with pytest.raises(TlsError, match=r"DicomTlsPrivateKey: .* is not the key of the certificate"):
        make_context(TlsFiles(server.certificate, rsa.private_key, None), policy(0, []))


def test_trusted_certificates_are_not_read_if_nobody_is_asked(
    authority: Authority, server: Credentials, tmp_path: Path
) -> None:
    options = tls_options(authority, server, DicomTlsRemoteCertificateRequired=False, DicomTlsTrustedCertificates="no")
    assert files_of(parse(options, tmp_path)).trusted is None
