"""Reports of storage commitment to a modality with `UseDicomTls`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from gateway import cli
from tests import conftest as root
from tests.support.certificates import Authority, Credentials, tls_options
from tests.support.commitments import Requester, ask_and_leave, ct_of
from tests.support.orthanc import Orthanc
from tests.support.ports import free_port
from tests.support.processes import wait_until
from tests.support.standalone import Gateway

pytestmark = pytest.mark.integration

DEADLINE_S: Final = 30
PORT: Final = free_port()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Gateway]:
    """In front of an empty Orthanc: nothing is committed, and that is told over TLS."""
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"))
    gateway = Gateway(
        tmp_path_factory.mktemp("gateway"),
        DicomModalities={"tls": {"AET": "MODALITY", "Host": "127.0.0.1", "Port": PORT, "UseDicomTls": True}},
        **{**tls_options(authority, authority.issue("gateway")), "DicomTlsEnabled": False},
        DicomGateway={
            "Workers": 1,
            "Orthanc": {"Url": orthanc.url},
            "StorageCommitment": {"GracePeriod": "0s", "RetryDelay": "1s", "MaximumRetries": 100},
        },
    )
    root._servers.extend([orthanc, gateway])
    try:
        orthanc.start()
        gateway.start()
        yield gateway
    finally:
        root._closing([gateway, orthanc])


def server_context(authority: Authority, credentials: Credentials) -> ssl.SSLContext:
    """A modality that wants a certificate of its authority from whoever calls it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate, credentials.private_key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def listed(gateway: Gateway) -> str:
    return CliRunner().invoke(cli.app, ["commitment", "list", "-c", str(gateway.file)]).output


def test_report_goes_over_tls_with_a_certificate_of_ours(gateway: Gateway, authority: Authority) -> None:
    with Requester(port=PORT, context=server_context(authority, authority.issue("modality"))) as requester:
        assert ask_and_leave(gateway.dicom_port, "1.2.7.1", ct_of("1.2.3")) == 0
        report = requester.next()
    assert (report.transaction_uid, report.event_type, report.failed) == ("1.2.7.1", 2, {"1.2.3": 0x0112})


def test_a_modality_with_a_foreign_certificate_is_told_nothing_until_it_has_the_right_one(
    gateway: Gateway, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    with Requester(port=PORT, context=server_context(other, other.issue("stranger"))) as stranger:
        assert ask_and_leave(gateway.dicom_port, "1.2.7.2", ct_of("1.2.3")) == 0
        wait_until(lambda: "certificate" in listed(gateway), DEADLINE_S, lambda: listed(gateway))
        assert stranger.reports.empty()
    with Requester(port=PORT, context=server_context(authority, authority.issue("modality"))) as requester:
        assert requester.next().transaction_uid == "1.2.7.2"
