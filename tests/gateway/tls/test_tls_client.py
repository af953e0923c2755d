"""The TLS context of connections that the gateway opens, from Orthanc's options."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.options.config import Configuration, parse
from gateway.tls.client import client_context
from gateway.tls.context import TlsError
from tests.support.certificates import Authority, tls_options


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return tls_options(authority, authority.issue("gateway"), DicomTlsEnabled=False)


def configuration(options: dict[str, Any], **changes: Any) -> Configuration:
    return parse({**options, **changes}, Path("/"))


def test_peers_must_be_trusted_whatever_they_are_called(options: dict[str, Any]) -> None:
    """Also when peers that call us need no certificate."""
    context = client_context(configuration(options, DicomTlsRemoteCertificateRequired=False))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


def test_versions_and_suites_are_those_of_the_options(options: dict[str, Any]) -> None:
    suites = {"DicomTlsMinimumProtocolVersion": 4, "DicomTlsCiphersAccepted": ["ECDHE-RSA-AES256-GCM-SHA384"]}
    context = client_context(configuration(options, **suites))
    assert [each["name"] for each in context.get_ciphers() if each["protocol"] == "TLSv1.2"] == [
        "ECDHE-RSA-AES256-GCM-SHA384"
    ]


def test_our_certificate_is_not_needed(options: dict[str, Any]) -> None:
    client_context(configuration(options, DicomTlsCertificate="", DicomTlsPrivateKey=""))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"DicomTlsTrustedCertificates": ""}, "DicomTlsTrustedCertificates: expected the path of a file"),
        ({"DicomTlsTrustedCertificates": "/none.pem"}, "DicomTlsTrustedCertificates: /none.pem: No such file"),
        ({"DicomTlsPrivateKey": ""}, "expected both DicomTlsCertificate and DicomTlsPrivateKey"),
        ({"DicomTlsCertificate": "/none.pem"}, "DicomTlsCertificate: /none.pem: No such file"),
        ({"DicomTlsPrivateKey": "/none.key"}, "DicomTlsPrivateKey: /none.key: No such file"),
        ({"DicomTlsMinimumProtocolVersion": 4, "DicomTlsCiphersAccepted": ["NONSENSE"]}, "NONSENSE"),
    ],
)
def test_mistakes_are_named_with_their_option(options: dict[str, Any], changes: dict[str, Any], text: str) -> None:
    with pytest.raises(TlsError, match=text):
        client_context(configuration(options, **changes))
