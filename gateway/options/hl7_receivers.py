"""`DicomGateway.Hl7.Receivers` as it stands in the configuration: who hears of what modalities did, and how."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from gateway import hl7_character_sets
from gateway.options.section import Port, Section

MAXIMUM_RECEIVERS: Final = 20
# HD in HL7 2.5.1.
MAXIMUM_NAME_CHARACTERS: Final = 227

# SCHEDULED is where an item begins; only an order brings it back there, and who sends orders knows.
ChangeName = Literal["ARRIVED", "READY", "STARTED", "DEPARTED", "CANCELED", "DISCONTINUED", "COMPLETED"]


def _check_character_set(name: str) -> str:
    if hl7_character_sets.encoder_of(name) is None:
        raise ValueError('expected a character set as in MSH-18, "8859/1" or "UNICODE UTF-8"')
    return name


HierarchicDesignator = Annotated[str, Field(max_length=MAXIMUM_NAME_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]*$")]
Pattern = Annotated[str, Field(min_length=1, max_length=MAXIMUM_NAME_CHARACTERS)]
Delay = Annotated[float, Field(ge=0.1, le=24 * 3600)]
Timeout = Annotated[float, Field(gt=0, le=600)]


class ReceiverSection(Section):
    """One receiver of `DicomGateway.Hl7.Receivers`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
    host: Annotated[str, Field(min_length=1, max_length=255)]
    port: Port
    use_tls: bool = False
    tls_trusted_certificates: str | None = None
    tls_certificate: str | None = None
    tls_private_key: str | None = None
    tls_check_host: bool = True
    sending_application: HierarchicDesignator = "DICOM-GATEWAY"
    sending_facility: HierarchicDesignator = ""
    receiving_application: HierarchicDesignator = ""
    receiving_facility: HierarchicDesignator = ""
    changes: Annotated[list[ChangeName], Field(min_length=1)] = Field(default=["STARTED", "COMPLETED", "DISCONTINUED"])
    applications: Annotated[list[Pattern], Field(min_length=1, max_length=100)] | None = None
    partitions: Annotated[list[Pattern], Field(min_length=1, max_length=100)] | None = None
    echo_changes: bool = False
    message: Literal["ORM^O01", "OMG^O19"] = "ORM^O01"
    version: Literal["2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8"] = "2.5"
    character_set: Annotated[str, AfterValidator(_check_character_set)] = "UNICODE UTF-8"
    connect_timeout: Timeout = 10.0
    ack_timeout: Timeout = 30.0
    minimum_retry_delay: Delay = 1.0
    maximum_retry_delay: Delay = 60.0
    rejected_retries: Annotated[int, Field(ge=0, le=100)] = 5

    @model_validator(mode="after")
    def _check(self) -> "ReceiverSection":
        if self.use_tls and self.tls_trusted_certificates is None:
            raise ValueError("TlsTrustedCertificates: expected the path of a file, because of UseTls")
        if (self.tls_certificate is None) != (self.tls_private_key is None):
            raise ValueError("TlsCertificate and TlsPrivateKey: expected both or none")
        if not self.use_tls and (self.tls_trusted_certificates is not None or self.tls_certificate is not None):
            raise ValueError("UseTls: expected true, because of certificates")
        if self.maximum_retry_delay < self.minimum_retry_delay:
            raise ValueError("MaximumRetryDelay: expected at least MinimumRetryDelay")
        if self.message == "OMG^O19" and self.version < "2.4":
            raise ValueError("Version: expected 2.4 or later, because OMG^O19 is not older")
        return self
