"""Who may do what: Orthanc's permissions, as they stand in its configuration.

Source: DicomCheckCalledAet, StrictAetComparison, DicomAlwaysAllow*, DicomModalities (Orthanc Book). Everybody may do
what DicomAlwaysAllow* allows, whatever an entry of DicomModalities says; known modalities what their entry allows.
"""

from dataclasses import dataclass
from enum import Enum

from gateway.config import Configuration, Modality


class Verb(Enum):
    """What a peer asks for; the value is the option that would allow it to anybody."""

    ECHO = "DicomAlwaysAllowEcho"
    STORE = "DicomAlwaysAllowStore"


class Refusal(Enum):
    """Why an association is rejected: (source, reason) of A-ASSOCIATE-RJ (PS3.8 9.3.4), permanent."""

    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 7)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected association: what the peer is told and what the log says."""

    refusal: Refusal
    explanation: str


def is_ae_title(title: str) -> bool:
    """Whether `title`, without its padding, may be an AE title (PS3.5 6.2): 1 to 16 of ASCII's graphics."""
    return 1 <= len(title) <= 16 and all(32 <= ord(c) <= 126 and c != "\\" for c in title)


class Admission:
    """The permissions of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._options = configuration.orthanc
        self._modalities: dict[str, list[Modality]] = {}
        for modality in configuration.orthanc.dicom_modalities.values():
            self._modalities.setdefault(self._key(modality.ae_title), []).append(modality)

    def _key(self, ae_title: str) -> str:
        return ae_title if self._options.strict_aet_comparison else ae_title.upper()

    def reject(self, calling: str, called: str) -> Rejection | None:
        """Return why the association must be rejected, or None."""
        options = self._options
        if not is_ae_title(calling):
            return Rejection(
                Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED,
                "the calling AE title is empty or has invalid characters",
            )
        if not is_ae_title(called):
            return Rejection(
                Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED,
                "the called AE title is empty or has invalid characters",
            )
        if options.dicom_check_called_aet and self._key(called) != self._key(options.dicom_aet):
            return Rejection(
                Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED,
                f"DicomCheckCalledAet is true and the called AE title is not {options.dicom_aet}",
            )
        if self._key(calling) not in self._modalities and not any(map(self._always, Verb)):
            return Rejection(
                Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED,
                "the calling AE title is not in DicomModalities and no DicomAlwaysAllow* is true",
            )
        return None

    def allows(self, calling: str, verb: Verb) -> bool:
        """Whether the peer `calling` may do `verb`."""
        if self._always(verb):
            return True
        entries = self._modalities.get(self._key(calling), [])
        return bool(entries) and all(entry.allow_echo if verb is Verb.ECHO else entry.allow_store for entry in entries)

    def option_for(self, calling: str, verb: Verb) -> str:
        """The option that would allow `verb` to `calling`, for the log line of a refusal."""
        if self._key(calling) in self._modalities:
            return f"DicomModalities: Allow{verb.name.capitalize()} of this AE title"
        return f"{verb.value}, or an entry in DicomModalities"

    def _always(self, verb: Verb) -> bool:
        options = self._options
        return options.dicom_always_allow_echo if verb is Verb.ECHO else options.dicom_always_allow_store
