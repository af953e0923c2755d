"""Orthanc's options for DICOM over TLS, and what must hold among them.

The files serve outgoing connections too (`UseDicomTls`), with DicomTlsEnabled or without it.
"""

from typing import Annotated

from pydantic import BaseModel, Field, model_validator

from gateway.tls.policy import MINIMUM_VERSIONS, TlsPolicy, policy


class TlsOptions(BaseModel):
    """The options by Orthanc's names, with Orthanc's defaults (Orthanc Book, "DICOM TLS")."""

    dicom_tls_enabled: bool = Field(default=False, alias="DicomTlsEnabled")
    dicom_tls_certificate: str = Field(default="", alias="DicomTlsCertificate")
    dicom_tls_private_key: str = Field(default="", alias="DicomTlsPrivateKey")
    dicom_tls_trusted_certificates: str = Field(default="", alias="DicomTlsTrustedCertificates")
    dicom_tls_remote_certificate_required: bool = Field(default=True, alias="DicomTlsRemoteCertificateRequired")
    dicom_tls_minimum_protocol_version: Annotated[int, Field(ge=0, le=max(MINIMUM_VERSIONS))] = Field(
        default=0, alias="DicomTlsMinimumProtocolVersion"
    )
    dicom_tls_ciphers_accepted: list[str] = Field(default_factory=list, alias="DicomTlsCiphersAccepted")

    @model_validator(mode="after")
    def _check_tls(self) -> "TlsOptions":
        if not self.dicom_tls_enabled:
            return self
        needed = {
            "DicomTlsCertificate": self.dicom_tls_certificate,
            "DicomTlsPrivateKey": self.dicom_tls_private_key,
        }
        if self.dicom_tls_remote_certificate_required:
            needed["DicomTlsTrustedCertificates"] = self.dicom_tls_trusted_certificates
        for option, path in needed.items():
            if not path:
                raise ValueError(f"{option}: expected the path of a file, because DicomTlsEnabled is true")
        self.tls_policy()
        return self

    def tls_policy(self) -> TlsPolicy:
        """Which versions and cipher suites are accepted."""
        return policy(self.dicom_tls_minimum_protocol_version, self.dicom_tls_ciphers_accepted)

    @property
    def proves_peers(self) -> bool:
        """Whether each connection comes with a certificate that was verified."""
        return self.dicom_tls_enabled and self.dicom_tls_remote_certificate_required
