"""The section `DicomGateway` as it stands in the configuration, and those of its parts that are of no one subject."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from gateway.access.passcodes import PasscodeHash
from gateway.options.dicomweb import DicomWebServerSection
from gateway.options.hl7 import Hl7Section
from gateway.options.script import ScriptOptions
from gateway.options.section import AeTitle, NetworkText, Section
from gateway.options.storage_commitment import StorageCommitmentSection
from gateway.options.worklist import WorklistSection
from gateway.quotas.options import QuotasSection

MIB: Final = 1024 * 1024

Seconds = Annotated[float, Field(ge=0, le=365 * 24 * 3600)]
TransferMode = Literal["Spooled", "Stored"]


# A class in a module of the gateway's environment, or in a file.
MoveDriverName = Annotated[str, Field(pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")]


def _check_database(value: SecretStr) -> SecretStr:
    # Imported here: who needs no database does not pay for it with time and memory.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    url = value.get_secret_value()
    try:
        # what is wrong with it may be said in the words of its password
        is_usable = url.startswith("postgresql+psycopg://") and bool(make_url(url))
    except (ArgumentError, ValueError):
        is_usable = False
    if not is_usable:
        raise ValueError("expected postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
    return value


DatabaseUrl = Annotated[SecretStr, AfterValidator(_check_database)]


class ForwardingSection(Section):
    """`DicomGateway.Forwarding`: how what was received gets into Orthanc."""

    transport: Literal["Plugin", "Http"] = "Http"
    connections: Annotated[int, Field(ge=1, le=64)] = 4
    batch_size: Annotated[int, Field(ge=1, le=500)] = 20
    hold_while_receiving: Annotated[float, Field(ge=0, le=60)] = 2.0
    minimum_retry_delay: Seconds = 1.0
    maximum_retry_delay: Seconds = 60.0
    give_up_after: Seconds | None = None
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    plugin_maximum_bytes: Annotated[int, Field(ge=MIB, le=64 * MIB)] = 16 * MIB
    keep_delivered: Seconds = 60.0
    keep_delivered_bytes: Annotated[int, Field(ge=0)] = 1024 * MIB

    @model_validator(mode="after")
    def _check_delays(self) -> "ForwardingSection":
        if self.maximum_retry_delay < self.minimum_retry_delay:
            raise ValueError("MaximumRetryDelay: expected at least MinimumRetryDelay")
        return self


class OrthancSection(Section):
    """`DicomGateway.Orthanc`: where Orthanc is, for a gateway that runs without the plugin."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+(/[^\s]*)?$")] = "http://127.0.0.1:8042"
    username: str | None = None
    password: SecretStr | None = None
    password_file: str | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _check_password(self) -> "OrthancSection":
        if self.password is not None and self.password_file is not None:
            raise ValueError("PasswordFile: expected either Password or PasswordFile, not both")
        return self


class LogSection(Section):
    """`DicomGateway.Log`."""

    level: Literal["ERROR", "WARNING", "INFO", "DEBUG"] = "INFO"
    format: Literal["Text", "Json"] = "Text"


def _check_passcode_hash(text: str) -> str:
    PasscodeHash.parse(text)
    return text


UserName = Annotated[str, Field(min_length=1, max_length=255)]
PasscodeText = Annotated[str, AfterValidator(_check_passcode_hash)]


class UsersSection(Section):
    """`DicomGateway.Users`: who may associate, by user identity negotiation; null stands for no passcode."""

    required: bool = True
    accepted: dict[UserName, PasscodeText | None]


class GatewaySection(Section):
    """The section `DicomGateway`."""

    state_directory: str = "/var/lib/dicom-gateway"
    database: DatabaseUrl | None = None
    virtual_env: str | None = None
    # Read by orthanc_glue.py, inside Orthanc.
    orthanc_scripts: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    acknowledge: TransferMode | dict[AeTitle, TransferMode] = "Spooled"
    stored_deadline: Annotated[float, Field(gt=0, le=3600)] = 25.0
    shutdown_timeout: Seconds = 10.0
    bind_address: str = "0.0.0.0"
    allowed_hosts: Annotated[list[NetworkText], Field(min_length=1)] | None = None
    # docs/configuration.md says what they cost.
    maximum_associations: Annotated[int, Field(ge=1, le=10_000)] = 500
    maximum_associations_per_peer: Annotated[int, Field(ge=0, le=10_000)] = 250
    maximum_inflated_bytes: Annotated[int, Field(ge=MIB)] = 1024 * MIB
    modalities_refresh: Seconds = 5.0
    query_barrier_timeout: Annotated[float, Field(ge=0, le=60)] = 2.0
    query_index: bool = True
    tls_subjects: dict[AeTitle, Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    users: UsersSection | None = None
    quotas: QuotasSection = Field(default_factory=QuotasSection)
    worklist: WorklistSection | None = None
    hl7: Hl7Section | None = None
    storage_commitment: StorageCommitmentSection = Field(default_factory=StorageCommitmentSection)
    forwarding: ForwardingSection = Field(default_factory=ForwardingSection)
    script: Annotated[str, Field(min_length=1)] | None = None
    script_options: ScriptOptions = Field(default_factory=ScriptOptions)
    orthanc: OrthancSection | None = None
    dicom_web_servers: dict[AeTitle, DicomWebServerSection] = Field(default_factory=dict)
    use_orthanc_dicom_web_servers: bool = False
    move_drivers: dict[AeTitle, MoveDriverName] = Field(default_factory=dict)
    log: LogSection = Field(default_factory=LogSection)
