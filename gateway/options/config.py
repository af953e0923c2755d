"""The gateway's view of Orthanc's configuration: Orthanc's options by their names, ours in `DicomGateway`.

Unknown keys in `DicomGateway` and wrong values of any option that the gateway reads are refused; Orthanc's
other options are Orthanc's own. docs/configuration.md is the reference for a person.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from gateway.access.passcodes import PasscodeHash
from gateway.dicom import transfer_syntaxes
from gateway.options.dicomweb import DicomWebServerSection
from gateway.options.dicomweb_servers import Servers, same_titles, with_orthancs
from gateway.options.hl7 import Hl7Section
from gateway.options.orthanc_json import ConfigurationError
from gateway.options.script import ScriptOptions
from gateway.options.section import AeTitle, EncodingName, NetworkText, Port, Section
from gateway.options.storage_commitment import StorageCommitmentSection
from gateway.options.tls import TlsOptions
from gateway.options.worklist import OrthancWorklists, WorklistFolder, WorklistSection
from gateway.quotas.options import QuotasSection

MINIMUM_PDU_BYTES: Final = 4096
MAXIMUM_PDU_BYTES: Final = 131072

MIB: Final = 1024 * 1024

# The script that an Orthanc with the gateway in it names as `PythonScript`.
GLUE_NAME: Final = "orthanc_glue.py"

Seconds = Annotated[float, Field(ge=0, le=365 * 24 * 3600)]
TransferMode = Literal["Spooled", "Stored"]


# A class in a module of the gateway's environment, or in a file.
MoveDriverName = Annotated[str, Field(pattern=r"^[^:]+:[A-Za-z_][A-Za-z0-9_]*$")]
Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]


def _check_database(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("postgresql+psycopg://"):
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


def _read_port(value: Any) -> Any:
    """Orthanc takes the port of a modality as a number or as text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


class Modality(BaseModel):
    """One entry of Orthanc's `DicomModalities`, with the keys and defaults of Orthanc 1.10.1.

    Validate what comes from outside through `read_modality`, which also takes the array form.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    ae_title: AeTitle = Field(alias="AET")
    host: str = Field(alias="Host")
    port: Annotated[Port, BeforeValidator(_read_port)] = Field(alias="Port")
    manufacturer: str = Field(default="Generic", alias="Manufacturer")
    allow_echo: bool = Field(default=True, alias="AllowEcho")
    allow_find: bool = Field(default=True, alias="AllowFind")
    allow_find_worklist: bool = Field(default=True, alias="AllowFindWorklist")
    allow_get: bool = Field(default=True, alias="AllowGet")
    allow_move: bool = Field(default=True, alias="AllowMove")
    allow_store: bool = Field(default=True, alias="AllowStore")
    allow_storage_commitment: bool | None = Field(default=None, alias="AllowStorageCommitment")
    allow_n_action: bool = Field(default=True, alias="AllowNAction")
    allow_event_report: bool = Field(default=True, alias="AllowEventReport")
    allow_transcoding: bool = Field(default=True, alias="AllowTranscoding")
    use_dicom_tls: bool = Field(default=False, alias="UseDicomTls")
    local_aet: Annotated[AeTitle | None, BeforeValidator(_none_if_empty)] = Field(default=None, alias="LocalAet")
    timeout: Annotated[int, Field(ge=0)] = Field(default=0, alias="Timeout")

    @model_validator(mode="before")
    @classmethod
    def _read_storage_commitment(cls, value: Any) -> Any:
        """AllowStorageCommitment decides about both N-ACTION and N-EVENT-REPORT, whatever their own keys say."""
        if isinstance(value, dict) and value.get("AllowStorageCommitment") is not None:
            both = value["AllowStorageCommitment"]
            return {**value, "AllowNAction": both, "AllowEventReport": both}
        return value


def read_modality(value: Any) -> Any:
    """Return an entry in the array form in the object form, anything else as it is. Raises ValueError."""
    if not isinstance(value, list):
        return value
    if not 3 <= len(value) <= 4:
        raise ValueError("expected [AET, Host, Port] or [AET, Host, Port, Manufacturer]")
    return dict(zip(("AET", "Host", "Port", "Manufacturer"), value, strict=False))


class OrthancOptions(TlsOptions):
    """The options of Orthanc that the gateway honours, with Orthanc's defaults and meaning."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    dicom_aet: AeTitle = Field(default="ORTHANC", alias="DicomAet")
    dicom_port: Port = Field(default=4242, alias="DicomPort")
    dicom_check_called_aet: bool = Field(default=False, alias="DicomCheckCalledAet")
    strict_aet_comparison: bool = Field(default=False, alias="StrictAetComparison")
    dicom_scp_timeout: Annotated[int, Field(ge=0)] = Field(default=30, alias="DicomScpTimeout")
    dicom_scu_timeout: Annotated[int, Field(ge=0)] = Field(default=10, alias="DicomScuTimeout")
    dicom_scu_preferred_transfer_syntax: Uid = Field(
        default=transfer_syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, alias="DicomScuPreferredTransferSyntax"
    )
    transcode_dicom_protocol: bool = Field(default=True, alias="TranscodeDicomProtocol")
    synchronous_c_move: bool = Field(default=True, alias="SynchronousCMove")
    # Orthanc's own default is 16384; larger PDUs cost the peer and us less (docs/configuration.md).
    maximum_pdu_length: Annotated[int, Field(ge=MINIMUM_PDU_BYTES, le=MAXIMUM_PDU_BYTES)] = Field(
        default=MAXIMUM_PDU_BYTES, alias="MaximumPduLength"
    )
    accepted_transfer_syntaxes: str | list[str] | None = Field(default=None, alias="AcceptedTransferSyntaxes")
    deflated_accepted: bool | None = Field(default=None, alias="DeflatedTransferSyntaxAccepted")
    jpeg_accepted: bool | None = Field(default=None, alias="JpegTransferSyntaxAccepted")
    jpeg_2000_accepted: bool | None = Field(default=None, alias="Jpeg2000TransferSyntaxAccepted")
    jpeg_lossless_accepted: bool | None = Field(default=None, alias="JpegLosslessTransferSyntaxAccepted")
    jpip_accepted: bool | None = Field(default=None, alias="JpipTransferSyntaxAccepted")
    mpeg2_accepted: bool | None = Field(default=None, alias="Mpeg2TransferSyntaxAccepted")
    rle_accepted: bool | None = Field(default=None, alias="RleTransferSyntaxAccepted")
    mpeg4_accepted: bool | None = Field(default=None, alias="Mpeg4TransferSyntaxAccepted")
    h265_accepted: bool | None = Field(default=None, alias="H265TransferSyntaxAccepted")
    unknown_sop_class_accepted: bool = Field(default=False, alias="UnknownSopClassAccepted")
    dicom_always_allow_echo: bool = Field(default=True, alias="DicomAlwaysAllowEcho")
    dicom_always_allow_store: bool = Field(default=True, alias="DicomAlwaysAllowStore")
    dicom_always_allow_find: bool = Field(default=False, alias="DicomAlwaysAllowFind")
    dicom_always_allow_find_worklist: bool = Field(default=False, alias="DicomAlwaysAllowFindWorklist")
    dicom_always_allow_get: bool = Field(default=False, alias="DicomAlwaysAllowGet")
    dicom_always_allow_move: bool = Field(default=False, alias="DicomAlwaysAllowMove")
    dicom_check_modality_host: bool = Field(default=False, alias="DicomCheckModalityHost")
    dicom_modalities: dict[str, Annotated[Modality, BeforeValidator(read_modality)]] = Field(
        default_factory=dict, alias="DicomModalities"
    )
    dicom_modalities_in_database: bool = Field(default=False, alias="DicomModalitiesInDatabase")
    limit_find_results: Annotated[int, Field(ge=0)] = Field(default=0, alias="LimitFindResults")
    limit_find_instances: Annotated[int, Field(ge=0)] = Field(default=0, alias="LimitFindInstances")
    storage_access_on_find: Literal["Always", "Never", "Answers"] = Field(default="Always", alias="StorageAccessOnFind")
    case_sensitive_pn: bool = Field(default=False, alias="CaseSensitivePN")
    default_encoding: EncodingName = Field(default="Latin1", alias="DefaultEncoding")
    worklists: OrthancWorklists = Field(default_factory=OrthancWorklists, alias="Worklists")
    dicom_server_enabled: bool = Field(default=True, alias="DicomServerEnabled")
    http_server_enabled: bool = Field(default=True, alias="HttpServerEnabled")
    http_port: Port = Field(default=8042, alias="HttpPort")
    http_threads_count: Annotated[int, Field(ge=1)] = Field(default=50, alias="HttpThreadsCount")
    ssl_enabled: bool = Field(default=False, alias="SslEnabled")
    ssl_certificate: str = Field(default="certificate.pem", alias="SslCertificate")

    def title_key(self, ae_title: str) -> str:
        """What AE titles are compared by: StrictAetComparison."""
        return ae_title if self.strict_aet_comparison else ae_title.upper()


class Configuration(BaseModel):
    """Everything that the gateway was told, validated."""

    model_config = ConfigDict(frozen=True)

    orthanc: OrthancOptions
    gateway: GatewaySection
    # Paths in the configuration are relative to this folder.
    base_directory: Path
    transfer_syntaxes: tuple[str, ...]
    # By called AE title: those of DicomWebServers, and Orthanc's own if they are asked for.
    dicom_web_servers: Mapping[str, DicomWebServerSection]
    # False: DICOMweb servers are all that there is.
    has_orthanc: bool

    def path(self, text: str) -> Path:
        """Return `text` as an absolute path, relative ones under the folder of the configuration."""
        return (self.base_directory / text).resolve()

    @property
    def state_directory(self) -> Path:
        """The folder that holds the spool, the database and the locks of this gateway."""
        return self.path(self.gateway.state_directory)

    def title_key(self, ae_title: str) -> str:
        """What AE titles are compared by."""
        return self.orthanc.title_key(ae_title)

    def server_title(self, called_ae_title: str) -> str | None:
        """The AE title of the DICOMweb server that is called so, as the configuration writes it; None: it is none."""
        wanted = self.title_key(called_ae_title)
        return next((title for title in self.dicom_web_servers if self.title_key(title) == wanted), None)

    @property
    def refreshes_modalities(self) -> bool:
        """Whether Orthanc is asked for its modalities again and again."""
        return self.has_orthanc and self.gateway.modalities_refresh > 0

    @property
    def orthanc_scripts(self) -> list[Path]:
        """The files that run inside Orthanc, beside the glue."""
        return [self.path(name) for name in self.gateway.orthanc_scripts]

    @property
    def workers(self) -> int:
        """Number of scp processes: `Workers`, or one per core, at most 4."""
        return self.gateway.workers or min(4, os.cpu_count() or 1)

    @property
    def connections(self) -> int:
        """HTTP connections to Orthanc: a third of Orthanc's threads at most, so that users keep the rest."""
        return max(1, min(self.gateway.forwarding.connections, self.orthanc.http_threads_count // 3))

    @property
    def worklist(self) -> WorklistSection | None:
        """The options of the worklist; None while it is off, because nothing in the configuration fills it."""
        if self.gateway.worklist is not None:
            return self.gateway.worklist
        return WorklistSection() if self.orthanc.worklists.enable or self.gateway.hl7 is not None else None

    @property
    def worklist_folders(self) -> list[WorklistFolder]:
        """The folders of worklist files, ours and Orthanc's."""
        section, orthanc = self.worklist, self.orthanc.worklists.folder
        ours = [WorklistFolder(self.path(name), True) for name in section.folders] if section else []
        # Orthanc's plugin takes it relative to the working directory, and looks into no subfolder.
        return ours + ([WorklistFolder(Path(orthanc).resolve(), False)] if orthanc is not None else [])

    @property
    def storage_commitment(self) -> StorageCommitmentSection | None:
        """The options of storage commitment; None while it is off: no modality may use it."""
        section, options = self.gateway.storage_commitment, self.orthanc
        if section.enable is not None:
            return section if section.enable else None
        modalities = options.dicom_modalities.values()
        may_be_used = any(modality.allow_n_action or modality.allow_event_report for modality in modalities)
        return section if may_be_used or options.dicom_modalities_in_database else None

    @property
    def script(self) -> Path | None:
        """The script with callbacks, if there is one."""
        return self.path(self.gateway.script) if self.gateway.script is not None else None

    @property
    def needs_database(self) -> bool:
        """Whether anything is kept in SQL."""
        return self.gateway.quotas.counts or self.worklist is not None or self.storage_commitment is not None

    def acknowledges_when_stored(self, calling_ae_title: str) -> bool:
        """Whether a C-STORE from this calling AE title is answered only once Orthanc has the instance."""
        choice = self.gateway.acknowledge
        if isinstance(choice, str):
            return choice == "Stored"
        wanted = self.title_key(calling_ae_title)
        return any(mode == "Stored" for title, mode in choice.items() if self.title_key(title) == wanted)


def names_the_glue(content: Mapping[str, Any]) -> bool:
    """Whether this is the configuration of an Orthanc that starts the gateway itself."""
    return str(content.get("PythonScript", "")).endswith(GLUE_NAME)


def parse(content: Mapping[str, Any], base_directory: Path, *, in_orthanc: bool = False) -> Configuration:
    """Validate Orthanc's configuration `content`. `in_orthanc`: whether Orthanc's plugin starts the gateway.

    Raises ConfigurationError with one line per mistake: the key's path and what was expected.
    """
    mistakes: list[str] = []
    section = content.get("DicomGateway", {})
    gateway = orthanc = None
    try:
        gateway = GatewaySection.model_validate(section)
    except ValidationError as error:
        mistakes += _explain(error, "DicomGateway")
    try:
        orthanc = OrthancOptions.model_validate(dict(content))
    except ValidationError as error:
        mistakes += _explain(error)
    if gateway and orthanc and orthanc.dicom_modalities_in_database and gateway.modalities_refresh == 0:
        mistakes.append("DicomGateway.ModalitiesRefresh: expected more than 0 with DicomModalitiesInDatabase")
    if gateway and orthanc and gateway.tls_subjects and not orthanc.proves_peers:
        mistakes.append(
            "DicomGateway.TlsSubjects: expected DicomTlsEnabled and DicomTlsRemoteCertificateRequired to be true"
        )
    servers: Servers = {}
    if gateway and orthanc:
        servers = gateway.dicom_web_servers
        if gateway.use_orthanc_dicom_web_servers:
            try:
                servers = with_orthancs(content, servers)
            except ValidationError as error:
                mistakes += _explain(error)
        mistakes += same_titles(servers, orthanc.dicom_aet, orthanc.title_key)
    if gateway is None or orthanc is None or mistakes:
        raise ConfigurationError("; ".join(mistakes))
    options = orthanc.model_dump(by_alias=True)
    if isinstance(orthanc.accepted_transfer_syntaxes, str):
        options["AcceptedTransferSyntaxes"] = [orthanc.accepted_transfer_syntaxes]
    return Configuration(
        orthanc=orthanc,
        gateway=gateway,
        base_directory=base_directory,
        transfer_syntaxes=transfer_syntaxes.accepted(options),
        dicom_web_servers=servers,
        has_orthanc=in_orthanc or gateway.orthanc is not None or not servers or names_the_glue(content),
    )


# Where pydantic speaks of Python instead of the file.
_TEXTS: Final = {
    "extra_forbidden": "unknown option",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "string_pattern_mismatch": "expected http:// or https:// and a host",
}


def _explain(error: ValidationError, prefix: str = "") -> list[str]:
    """One line per mistake, in the words of the file: path of the key, what was expected, never the value."""
    mistakes: dict[str, list[str]] = {}
    for mistake in error.errors(include_url=False, include_input=False):
        keys = [str(part) for part in mistake["loc"] if not _is_alternative(part)]
        said = mistake["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        text = _TEXTS.get(mistake["type"], said)
        mistakes.setdefault(".".join([prefix] * bool(prefix) + keys), []).append(text)
    # A mistake between several options has no path: its text names them.
    return [f"{path}{': ' * bool(path)}{', or '.join(dict.fromkeys(texts))}" for path, texts in mistakes.items()]


def _is_alternative(part: str | int) -> bool:
    """Whether this part of a path is no key of the file but pydantic's name for one of several types."""
    return isinstance(part, str) and ("[" in part or part == "str")


def password(section: OrthancSection, configuration: Configuration) -> str | None:
    """Return the password for Orthanc: from the file if one is named, without its line end."""
    if section.password_file is not None:
        try:
            return configuration.path(section.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigurationError(f"DicomGateway.Orthanc.PasswordFile: {error.strerror}") from error
    return section.password.get_secret_value() if section.password is not None else None
