"""Who may do what: Orthanc's permissions.

Source: DicomCheckCalledAet, StrictAetComparison, DicomAlwaysAllow*, DicomCheckModalityHost, DicomModalities (Orthanc
Book). Everybody may do what DicomAlwaysAllow* allows, whatever an entry of DicomModalities says; known modalities
also what their entries allow. Where this differs from Orthanc 1.10.1 it is stricter, or refuses less by mistake:
docs/migration.md lists it.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.options.config import Configuration
from gateway.options.orthanc import Modality, OrthancOptions
from gateway.options.section import is_ae_title


class Verb(Enum):
    """What a peer asks for.

    `always` is the option that allows it to everybody (None: there is none), `key` what allows it in an entry of
    DicomModalities.
    """

    ECHO = ("DicomAlwaysAllowEcho", "AllowEcho")
    STORE = ("DicomAlwaysAllowStore", "AllowStore")
    FIND = ("DicomAlwaysAllowFind", "AllowFind")
    FIND_WORKLIST = ("DicomAlwaysAllowFindWorklist", "AllowFindWorklist")
    GET = ("DicomAlwaysAllowGet", "AllowGet")
    MOVE = ("DicomAlwaysAllowMove", "AllowMove")
    STORAGE_COMMITMENT = (None, "AllowNAction")
    STORAGE_COMMITMENT_REPORT = (None, "AllowEventReport")

    def __init__(self, always: str | None, key: str) -> None:
        self.always = always
        self.key = key


# The services that exist: what else is asked for is not supported here, whoever asks.
OFFERED: Final = frozenset(Verb)
_COMMITMENT: Final = frozenset({Verb.STORAGE_COMMITMENT, Verb.STORAGE_COMMITMENT_REPORT})


def offered(configuration: Configuration) -> frozenset[Verb]:
    """The services that this configuration has.

    There is no worklist where nothing fills it, and no storage commitment where no modality may use it.
    """
    worklist = frozenset() if configuration.worklist is not None else {Verb.FIND_WORKLIST}
    commitment = frozenset() if configuration.storage_commitment is not None else _COMMITMENT
    return OFFERED - worklist - commitment


# How many entries of DicomModalities a log line names.
LOGGED_ENTRIES: Final = 3


class Refusal(Enum):
    """Why an association is rejected: (source, reason) of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    APPLICATION_CONTEXT_NAME_NOT_SUPPORTED = (1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 7)
    # No-reason-given by the ACSE related provider is what PS3.7 D.3.3.7 has for a failed authorization.
    USER_NOT_ACCEPTED = (2, 1)
    TEMPORARY_CONGESTION = (3, 1)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected association: what the peer is told, what the log says, and the option that would allow it."""

    refusal: Refusal
    explanation: str
    option: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of DicomModalities as it counts here."""

    name: str
    host: str
    verbs: frozenset[Verb]


class Admission:
    """The permissions of one configuration and one list of modalities; it never changes.

    `address` is the peer's, as the socket has it. It counts with DicomCheckModalityHost only.
    """

    def __init__(self, options: OrthancOptions, modalities: Mapping[str, Modality]) -> None:
        self._options = options
        by_name = options.model_dump(by_alias=True, exclude={"dicom_modalities"})
        self._always = frozenset(verb for verb in Verb if verb.always and by_name[verb.always])
        self.modalities = modalities
        self._entries: dict[str, list[_Entry]] = {}
        for name, modality in modalities.items():
            keys = modality.model_dump(by_alias=True)
            entry = _Entry(name, modality.host, frozenset(verb for verb in Verb if keys[verb.key]))
            self._entries.setdefault(self._key(modality.ae_title), []).append(entry)

    def reject(self, calling: str, called: str, address: str) -> Rejection | None:
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
                "DicomCheckCalledAet",
            )
        if not self._always and not self._of(calling, address):
            return self._stranger(calling)
        return None

    def permitted(self, calling: str, address: str) -> frozenset[Verb]:
        """Return what this peer may do."""
        return self._always | self.known(calling, address)

    def known(self, calling: str, address: str) -> frozenset[Verb]:
        """Return what the entries of this peer allow. Of several entries with its AE title see `_of`."""
        verbs = [entry.verbs for entry in self._of(calling, address)]
        if not verbs:
            return frozenset()
        # Entries that cannot be told from each other must agree; of those with the peer's address one is enough.
        if self._options.dicom_check_modality_host:
            return frozenset.union(*verbs)
        return frozenset.intersection(*verbs)

    def option_for(self, calling: str, address: str, verb: Verb) -> str:
        """The option that would allow `verb` to this peer, for the log line of a refusal."""
        return _either(verb.always, self.known_option(calling, address, verb))

    def known_option(self, calling: str, address: str, verb: Verb | None) -> str:
        """The option by which the entries of this peer would allow `verb`; None: by which it would have an entry."""
        titled = self._entries.get(self._key(calling), [])
        entries = self._of(calling, address)
        if entries:
            denying = [
                f"DicomModalities.{e.name}.{verb.key if verb else 'Allow*'}" for e in entries if verb not in e.verbs
            ]
            return _either(*denying[:LOGGED_ENTRIES])
        if titled:
            return _either(*_hosts(titled), "DicomCheckModalityHost")
        return "an entry in DicomModalities"

    def _key(self, ae_title: str) -> str:
        return self._options.title_key(ae_title)

    def _of(self, calling: str, address: str) -> list[_Entry]:
        """The entries that speak of this peer: all with its AE title, or those of them with its address."""
        entries = self._entries.get(self._key(calling), [])
        if not self._options.dicom_check_modality_host:
            return entries
        return [entry for entry in entries if _is_host(entry.host, address)]

    def _stranger(self, calling: str) -> Rejection:
        titled = self._entries.get(self._key(calling), [])
        if titled:
            return Rejection(
                Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED,
                "DicomCheckModalityHost is true, no entry of this AE title has the peer's address as Host, "
                "and no DicomAlwaysAllow* is true",
                _either(*_hosts(titled), "DicomCheckModalityHost"),
            )
        return Rejection(
            Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED,
            "the calling AE title is not in DicomModalities and no DicomAlwaysAllow* is true",
            "an entry in DicomModalities",
        )


def _either(*options: str | None) -> str:
    return " or ".join(option for option in options if option)


def _hosts(entries: list[_Entry]) -> list[str]:
    return [f"DicomModalities.{entry.name}.Host ({entry.host})" for entry in entries[:LOGGED_ENTRIES]]


def is_address(host: str) -> bool:
    """Whether `host` is an IP address, and no name: names are never looked up."""
    try:
        ipaddress.ip_address(host.strip())
    except ValueError:
        return False
    return True


def _is_host(host: str, address: str) -> bool:
    """Whether `host` of an entry is the peer's `address`: the same text (as in Orthanc), or the same address.

    The zone of a link-local address (RFC 4007) is compared only if the entry has one.
    """
    if host == address:
        return True
    plain = address if "%" in host else address.partition("%")[0]
    try:
        return ipaddress.ip_address(host.strip()) == ipaddress.ip_address(plain)
    except ValueError:
        return False
