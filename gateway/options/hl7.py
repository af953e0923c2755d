"""`DicomGateway.Hl7` as it stands in the configuration: the port that takes orders."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from gateway.hl7_character_sets import find_codec, is_undeclared
from gateway.options.hl7_receivers import MAXIMUM_RECEIVERS, ReceiverSection
from gateway.options.orders import OrderSection
from gateway.options.section import NetworkText, Port

KIB: Final = 1024
MIB: Final = 1024 * 1024


def _known_character_set(name: str) -> str:
    if is_undeclared(name) or find_codec([name]) is None:
        raise ValueError('expected a character set as in MSH-18, "8859/1" or "UNICODE UTF-8"')
    return name


class Hl7Section(OrderSection):
    """`DicomGateway.Hl7`. The listener runs if the section is there."""

    port: Port = 2575
    host: str = "127.0.0.1"
    allowed_hosts: Annotated[list[NetworkText], Field(min_length=1)] | None = None
    tls_certificate: str | None = None
    tls_private_key: str | None = None
    tls_trusted_certificates: str | None = None
    maximum_message_size: Annotated[int, Field(ge=4 * KIB, le=64 * MIB)] = MIB
    # A night without orders is no reason to close a connection: dead peers are found by TCP's keepalive.
    idle_timeout: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] = 24 * 3600.0
    maximum_connections: Annotated[int, Field(ge=1, le=500)] = 100
    # docs/configuration.md says why; 0: no limit but the one above.
    maximum_connections_per_peer: Annotated[int, Field(ge=0, le=500)] = 50
    default_character_set: Annotated[str, AfterValidator(_known_character_set)] = "8859/1"
    # Days.
    retention: Annotated[int, Field(ge=1, le=3650)] = 30
    receivers: Annotated[list[ReceiverSection], Field(max_length=MAXIMUM_RECEIVERS)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_tls(self) -> "Hl7Section":
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ValueError("TlsCertificate and TlsPrivateKey: expected both or none")
        if self.tls_trusted_certificates is not None and self.tls_certificate is None:
            raise ValueError("TlsTrustedCertificates: expected TlsCertificate with it")
        return self

    @model_validator(mode="after")
    def _check_receivers(self) -> "Hl7Section":
        names = [receiver.name for receiver in self.receivers]
        if len(set(names)) < len(names):
            raise ValueError("Receivers: expected each Name once")
        return self
