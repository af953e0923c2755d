"""`DicomGateway.DicomWebServers` as it stands in the configuration: called AE titles that are DICOMweb servers."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from gateway.options.section import AeTitle, Section

# RFC 9110 5.1 and 5.5: a field name is a token, a value has no control characters.
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}$")]
HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7E\t]{0,4096}$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]
# One path of a URL, "dicom-web" or "viewer/rs".
UrlPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~/-]{0,200}$")]

# Headers that the client writes itself.
_OWN_HEADERS: Final = frozenset(
    ("accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding")
)


class OAuth2Section(Section):
    """`OAuth2` of a server: client credentials (RFC 6749 4.4)."""

    token_url: HttpUrl
    client_id: Annotated[str, Field(min_length=1)]
    client_secret: SecretStr | None = None
    client_secret_file: str | None = None
    scope: str | None = None
    # What an authorization server wants beyond RFC 6749: audience, resource.
    parameters: dict[str, str] = Field(default_factory=dict)
    # RFC 6749 2.3.1: in the Authorization header, or in the body.
    authentication: Literal["Basic", "Body"] = "Basic"

    @model_validator(mode="after")
    def _check_secret(self) -> "OAuth2Section":
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("ClientSecret: expected either ClientSecret or ClientSecretFile")
        return self


class DicomWebServerSection(Section):
    """An entry of `DicomGateway.DicomWebServers`."""

    url: HttpUrl
    qido_path: UrlPath = ""
    wado_path: UrlPath = ""
    stow_path: UrlPath = ""
    username: str | None = None
    password: SecretStr | None = None
    password_file: str | None = None
    token: SecretStr | None = None
    token_file: str | None = None
    o_auth2: OAuth2Section | None = Field(default=None, alias="OAuth2")
    client_certificate: str | None = None
    client_private_key: str | None = None
    client_private_key_password: SecretStr | None = None
    ca_file: str | None = None
    verify_peer: bool = True
    proxy: HttpUrl | None = None
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    connect_timeout: Annotated[float, Field(gt=0, le=300)] = 5.0
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    qido_page_size: Annotated[int, Field(ge=1, le=5000)] = 200
    qido_include_fields: Literal["Asked", "All", "None"] = "Asked"
    qido_uid_lists: bool = False
    wado_any_transfer_syntax: bool = True
    allow_echo: bool = True
    allow_find: bool = True
    allow_get: bool = True
    allow_move: bool = True
    allow_store: bool = True
    allow_storage_commitment: bool = True
    always_allow_echo: bool = False
    always_allow_find: bool = False
    always_allow_get: bool = False
    always_allow_move: bool = False
    always_allow_store: bool = False
    calling_aets: Annotated[list[AeTitle], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check_credentials(self) -> "DicomWebServerSection":
        ways = (self.username, self.token, self.token_file, self.o_auth2)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("expected one of Username, Token, TokenFile and OAuth2")
        if self.password is not None and self.password_file is not None:
            raise ValueError("PasswordFile: expected either Password or PasswordFile, not both")
        if (self.password is not None or self.password_file is not None) and self.username is None:
            raise ValueError("Password: expected Username with it")
        if (self.client_certificate is None) != (self.client_private_key is None):
            raise ValueError("ClientCertificate and ClientPrivateKey: expected both or none")
        names = [name.lower() for name in self.headers]
        for name in sorted(_OWN_HEADERS.intersection(names)):
            raise ValueError(f"Headers: {name} is written by the gateway")
        if "authorization" in names and any(way is not None for way in ways):
            raise ValueError("Headers: expected either Authorization or another way to authenticate")
        return self

    @property
    def has_secrets(self) -> bool:
        """Whether what is sent opens the server to whoever listens."""
        ways = (self.username, self.token, self.token_file, self.o_auth2)
        return any(way is not None for way in ways) or any(name.lower() == "authorization" for name in self.headers)


def _read_orthanc_server(value: Any) -> Any:
    """The array form ([URL] or [URL, user name, password]) as the object form. Raises ValueError."""
    if isinstance(value, str):
        return {"Url": value}
    if not isinstance(value, list):
        return value
    if len(value) not in (1, 3):
        raise ValueError("expected [URL] or [URL, USERNAME, PASSWORD]")
    return dict(zip(("Url", "Username", "Password"), value, strict=False))


def _read_orthanc_keys(value: Any) -> Any:
    """`Url` as Orthanc reads it: also called `URL`, and without a scheme it is one of HTTP."""
    if not isinstance(value, dict):
        return value
    url = value.get("Url", value.get("URL"))
    if isinstance(url, str) and "://" not in url:
        url = f"http://{url}"
    return value | ({} if url is None else {"Url": url})


def _read_orthanc_flag(value: Any) -> Any:
    """What Orthanc keeps as text of its own plugin's options: true, 1, "1" and "true" are the same."""
    return {"0": False, "1": True, "false": False, "true": True}.get(str(value).lower(), value)


OrthancFlag = Annotated[bool, BeforeValidator(_read_orthanc_flag)]


class OrthancDicomWebServer(BaseModel):
    """An entry of Orthanc's `DicomWeb.Servers`, with the keys that its plugin has."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    url: HttpUrl = Field(alias="Url")
    username: str = Field(default="", alias="Username")
    password: SecretStr = Field(default=SecretStr(""), alias="Password")
    certificate_file: str = Field(default="", alias="CertificateFile")
    certificate_key_file: str = Field(default="", alias="CertificateKeyFile")
    certificate_key_password: SecretStr = Field(default=SecretStr(""), alias="CertificateKeyPassword")
    http_headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, alias="HttpHeaders")
    timeout: Annotated[int, Field(ge=0, le=3600)] = Field(default=0, alias="Timeout")
    pkcs11: bool = Field(default=False, alias="Pkcs11")
    has_universal_transfer_syntax: OrthancFlag = Field(default=True, alias="HasWadoRsUniversalTransferSyntax")

    @model_validator(mode="after")
    def _check_pkcs11(self) -> "OrthancDicomWebServer":
        if self.pkcs11:
            raise ValueError("Pkcs11: the gateway reads keys from files only; give it an entry in DicomWebServers")
        return self

    def section(self, ca_file: str, proxy: str, timeout_s: int, *, verify_peer: bool) -> DicomWebServerSection:
        """The same as an entry of ours, with what Orthanc says for all of them. Raises pydantic.ValidationError."""
        options: dict[str, Any] = {
            "Url": self.url,
            "Headers": {name: value for name, value in self.http_headers.items() if name.lower() not in _OWN_HEADERS},
            "WadoAnyTransferSyntax": self.has_universal_transfer_syntax,
            "VerifyPeer": verify_peer,
        }
        if self.username:
            options |= {"Username": self.username, "Password": self.password}
        if self.certificate_file:
            options |= {
                "ClientCertificate": self.certificate_file,
                "ClientPrivateKey": self.certificate_key_file or self.certificate_file,
            }
        if self.certificate_key_password.get_secret_value():
            options["ClientPrivateKeyPassword"] = self.certificate_key_password
        if self.timeout or timeout_s:
            options["Timeout"] = float(self.timeout or timeout_s)
        if ca_file:
            options["CaFile"] = ca_file
        if proxy:
            options["Proxy"] = proxy if "://" in proxy else f"http://{proxy}"
        return DicomWebServerSection.model_validate(options)


# Validators that are named first see what those after them have made of it.
OrthancDicomWebServers = dict[
    str,
    Annotated[OrthancDicomWebServer, BeforeValidator(_read_orthanc_keys), BeforeValidator(_read_orthanc_server)],
]


class OrthancDicomWeb(BaseModel):
    """The section `DicomWeb` of Orthanc's plugin, as far as it counts here."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    servers: OrthancDicomWebServers = Field(default_factory=dict, alias="Servers")


class OrthancHttpClient(BaseModel):
    """Options of Orthanc that its DICOMweb client has; read with UseOrthancDicomWebServers only."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    dicom_web: OrthancDicomWeb = Field(default_factory=OrthancDicomWeb, alias="DicomWeb")
    https_ca_certificates: str = Field(default="", alias="HttpsCACertificates")
    https_verify_peers: bool = Field(default=True, alias="HttpsVerifyPeers")
    http_proxy: str = Field(default="", alias="HttpProxy")
    http_timeout: Annotated[int, Field(ge=0, le=3600)] = Field(default=0, alias="HttpTimeout")

    def sections(self) -> dict[str, DicomWebServerSection]:
        """The servers as entries of ours, by name. Raises pydantic.ValidationError."""
        return {
            name: server.section(
                self.https_ca_certificates, self.http_proxy, self.http_timeout, verify_peer=self.https_verify_peers
            )
            for name, server in self.dicom_web.servers.items()
        }
