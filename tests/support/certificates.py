"""Certificates for tests: an authority, what it issues, and the options of Orthanc and DCMTK that name the files."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Credentials:
    """A certificate and its key in files of their own."""

    certificate: Path
    private_key: Path

    @property
    def dcmtk(self) -> list[str]:
        """The option with which DCMTK's tools show it."""
        return ["+tls", str(self.private_key), str(self.certificate)]

    def replace(self, other: Credentials) -> None:
        """Gives these files the contents of the others, key first, as a careless administrator would."""
        self.private_key.write_bytes(other.private_key.read_bytes())
        self.certificate.write_bytes(other.certificate.read_bytes())


class Authority:
    """A certification authority with its files in `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._ca = trustme.CA()
        self.certificate = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.certificate))

    def issue(
        self,
        common_name: str,
        *dns_names: str,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
    ) -> Credentials:
        """Issues a certificate; without DNS names it gets one nobody asks for, because it must have one."""
        issued = self._ca.issue_cert(
            *(dns_names or ("unused.example",)),
            common_name=common_name,
            not_before=not_before,
            not_after=not_after,
            key_type=key_type,
        )
        number = len(list(self._directory.iterdir()))
        certificate, key = self._directory / f"{number}.pem", self._directory / f"{number}.key"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return Credentials(certificate, key)

    @property
    def dcmtk(self) -> list[str]:
        """The option with which DCMTK's tools trust it."""
        return ["+cf", str(self.certificate)]

    def client_context(self, credentials: Credentials | None = None) -> ssl.SSLContext:
        """What a peer that trusts this authority connects with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certificate)
        if credentials is not None:
            context.load_cert_chain(credentials.certificate, credentials.private_key)
        return context


def tls_options(authority: Authority, server: Credentials, **options: Any) -> dict[str, Any]:
    """Orthanc's options for a DICOM port with TLS."""
    return {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(server.certificate),
        "DicomTlsPrivateKey": str(server.private_key),
        "DicomTlsTrustedCertificates": str(authority.certificate),
        **options,
    }
