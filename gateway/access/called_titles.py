"""What may be asked of each called AE title: of the gateway itself, which stands for Orthanc, and of DICOMweb servers.

A DICOMweb server is for known modalities: what DicomAlwaysAllow* lets everybody do with Orthanc says nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.access.admission import Admission, Refusal, Rejection, Verb
from gateway.options.config import Configuration
from gateway.options.dicomweb import DicomWebServerSection
from gateway.options.section import is_ae_title

# What a DICOMweb server can do, by the options of its entry. The worklist is the gateway's own.
_OPTIONS: Final[Mapping[Verb, tuple[str, str | None]]] = {
    Verb.ECHO: ("AllowEcho", "AlwaysAllowEcho"),
    Verb.STORE: ("AllowStore", "AlwaysAllowStore"),
    Verb.FIND: ("AllowFind", "AlwaysAllowFind"),
    Verb.GET: ("AllowGet", "AlwaysAllowGet"),
    Verb.MOVE: ("AllowMove", "AlwaysAllowMove"),
    Verb.STORAGE_COMMITMENT: ("AllowStorageCommitment", None),
}
# What nobody but Orthanc can do for those who call the gateway itself.
OF_ORTHANC: Final = frozenset(
    {Verb.STORE, Verb.FIND, Verb.GET, Verb.MOVE, Verb.STORAGE_COMMITMENT, Verb.STORAGE_COMMITMENT_REPORT}
)
# What a class of the site does (DicomGateway.MoveDrivers), for whatever title it has been named.
OF_MOVE_DRIVERS: Final = frozenset({Verb.GET, Verb.MOVE})
NO_ORTHANC: Final = "DicomGateway.Orthanc, or another called AE title: this gateway has no Orthanc"


class CalledTitles:
    """The permissions of a configuration and a list of modalities, by called AE title; they never change."""

    def __init__(self, configuration: Configuration, admission: Admission) -> None:
        self._configuration = configuration
        self._admission = admission
        self.modalities = admission.modalities
        self._servers = {
            title: _Permissions(section, configuration) for title, section in configuration.dicom_web_servers.items()
        }
        self._driven = frozenset(map(configuration.title_key, configuration.gateway.move_drivers))

    def reject(self, calling: str, called: str, address: str) -> Rejection | None:
        """See Admission. Titles of servers and move drivers are called rightly, whatever DicomCheckCalledAet says."""
        title = self._configuration.server_title(called)
        if title is None or not is_ae_title(calling):
            own = self._configuration.orthanc.dicom_aet
            return self._admission.reject(calling, own if self._is_driven(called) else called, address)
        if self.permitted(calling, called, address):
            return None
        return Rejection(
            Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED,
            f"the calling AE title may do nothing with the DICOMweb server {title}",
            self._server_option(title, calling, address),
        )

    def permitted(self, calling: str, called: str, address: str) -> frozenset[Verb]:
        """What this peer may do with whom it has called."""
        title = self._configuration.server_title(called)
        if title is None:
            return self._admission.permitted(calling, address) - self._missing(called)
        return self._servers[title].permitted(calling, self._admission.known(calling, address))

    def option_for(self, calling: str, called: str, address: str, verb: Verb) -> str:
        """See Admission."""
        title = self._configuration.server_title(called)
        if title is None:
            is_missing = verb in self._missing(called)
            return NO_ORTHANC if is_missing else self._admission.option_for(calling, address, verb)
        if verb not in _OPTIONS:
            return f"the AE title {self._configuration.orthanc.dicom_aet}: DICOMweb has no such service"
        if verb not in self._servers[title].allowed:
            return f"DicomGateway.DicomWebServers.{title}.{_OPTIONS[verb][0]}"
        return self._server_option(title, calling, address, verb)

    def _is_driven(self, called: str) -> bool:
        return self._configuration.title_key(called) in self._driven

    def _missing(self, called: str) -> frozenset[Verb]:
        """What nobody does for those who call this title, which is no server's."""
        if self._configuration.has_orthanc:
            return frozenset()
        return OF_ORTHANC - OF_MOVE_DRIVERS if self._is_driven(called) else OF_ORTHANC

    def _server_option(self, title: str, calling: str, address: str, verb: Verb | None = None) -> str:
        prefix = f"DicomGateway.DicomWebServers.{title}"
        permissions = self._servers[title]
        if not permissions.takes(calling):
            return f"{prefix}.CallingAets"
        always = _OPTIONS[verb][1] if verb is not None else "AlwaysAllow*"
        known = self._admission.known_option(calling, address, verb)
        return f"{prefix}.{always} or {known}" if always is not None else known


class _Permissions:
    """What the entry of a server says."""

    def __init__(self, section: DicomWebServerSection, configuration: Configuration) -> None:
        options = section.model_dump(by_alias=True)
        self.allowed = frozenset(verb for verb, (allow, _always) in _OPTIONS.items() if options[allow])
        self._always = frozenset(verb for verb, (_allow, always) in _OPTIONS.items() if always and options[always])
        self._key = configuration.title_key
        titles = section.calling_aets
        self._titles = frozenset(map(self._key, titles)) if titles is not None else None

    def takes(self, calling: str) -> bool:
        """Whether CallingAets names this modality, or there is no such list."""
        return self._titles is None or self._key(calling) in self._titles

    def permitted(self, calling: str, known: frozenset[Verb]) -> frozenset[Verb]:
        """`known`: what the modality's own entry allows."""
        return self.allowed & ((known if self.takes(calling) else frozenset()) | self._always)
