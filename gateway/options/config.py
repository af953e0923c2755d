"""The gateway's view of Orthanc's configuration: Orthanc's options by their names, ours in `DicomGateway`.

Unknown keys in `DicomGateway` and wrong values of any option that the gateway reads are refused; Orthanc's
other options are Orthanc's own. docs/configuration.md is the reference for a person.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.dicom import transfer_syntaxes
from gateway.options.dicomweb import DicomWebServerSection, OrthancHttpClient
from gateway.options.dicomweb_servers import Servers, same_titles, with_orthancs
from gateway.options.gateway import GatewaySection, OrthancSection
from gateway.options.mistakes import explain
from gateway.options.orthanc import OrthancOptions
from gateway.options.orthanc_json import ConfigurationError
from gateway.options.storage_commitment import StorageCommitmentSection
from gateway.options.worklist import WorklistFolder, WorklistSection

# The script that an Orthanc with the gateway in it names as `PythonScript`.
GLUE_NAME: Final = "orthanc_glue.py"


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
        mistakes += explain(error, GatewaySection, "DicomGateway")
    try:
        orthanc = OrthancOptions.model_validate(dict(content))
    except ValidationError as error:
        mistakes += explain(error, OrthancOptions)
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
                mistakes += explain(error, OrthancHttpClient)
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


def password(section: OrthancSection, configuration: Configuration) -> str | None:
    """Return the password for Orthanc: from the file if one is named, without its line end."""
    if section.password_file is not None:
        try:
            return configuration.path(section.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigurationError(f"DicomGateway.Orthanc.PasswordFile: {error.strerror}") from error
    return section.password.get_secret_value() if section.password is not None else None
