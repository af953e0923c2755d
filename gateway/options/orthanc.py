"""Orthanc's options by their names, as far as the gateway honours them, and the entries of `DicomModalities`."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.dicom import transfer_syntaxes
from gateway.options.section import AeTitle, EncodingName, Port
from gateway.options.tls import TlsOptions
from gateway.options.worklist import OrthancWorklists

MINIMUM_PDU_BYTES: Final = 4096
MAXIMUM_PDU_BYTES: Final = 131072

Uid = Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")]


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
