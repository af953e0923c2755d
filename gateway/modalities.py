"""The list of known modalities as it is now: Orthanc's, which may change at any time over its REST API.

`modalities_refresh` asks Orthanc and writes what it hears to a file in the state directory; all who need the list look
whether that file is another one than last time, which costs one stat(2). So the list reaches every process whatever
its size, survives a restart of the gateway while Orthanc is away, and no message about it can be lost.
"""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from gateway.durable import write_file
from gateway.log import get_logger
from gateway.options.config import Configuration
from gateway.options.orthanc import Modality, read_modality

FILE_NAME: Final = "modalities.json"

Modalities = Mapping[str, Modality]

_Stamp = tuple[int, int, int]


class ModalitiesError(Exception):
    """A list of modalities cannot be read. The text is for the log."""


def read_answer(content: bytes, configured: Modalities) -> tuple[Modalities, list[str]]:
    """Return the modalities in Orthanc's answer to GET /modalities?expand, and the names of useless entries.

    What the answer does not say of an entry (Orthanc 1.10.1 says all; older ones do not) is taken from the
    `configured` entry of the same name. Useless is an entry without a valid AE title: no peer can have it.
    Raises ModalitiesError if the answer is no such list.
    """
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModalitiesError("the answer is not JSON") from error
    if not isinstance(entries, dict):
        raise ModalitiesError("the answer is not a list of modalities by name")
    modalities, useless = {}, []
    for name, entry in entries.items():
        try:
            told = read_modality(entry)
            if name in configured and isinstance(told, dict):
                told = {**_dump(configured[name]), **told}
            modalities[name] = _resolved(Modality.model_validate(told))
        except ValueError:
            useless.append(name)
    return MappingProxyType(modalities), useless


def configured_modalities(configuration: Configuration) -> Modalities:
    """Return the modalities of the configuration file; with DicomModalitiesInDatabase they do not count."""
    options = configuration.orthanc
    if options.dicom_modalities_in_database:
        return MappingProxyType({})
    return MappingProxyType({name: _resolved(modality) for name, modality in options.dicom_modalities.items()})


class KnownModalities:
    """The modalities as they are known at this moment. Thread-safe."""

    def __init__(self, configuration: Configuration) -> None:
        self._path = configuration.state_directory / FILE_NAME
        self._configured = configured_modalities(configuration)
        self._origin = _digest(self._configured)
        self._follows_orthanc = configuration.refreshes_modalities
        self._stamp: _Stamp | None = None
        self._known = self._configured
        self._lock = threading.Lock()

    def current(self) -> Modalities:
        """Return the list of now: the same object as last time if nothing has changed."""
        if self._follows_orthanc and _stamp(self._path) != self._stamp:
            with self._lock:
                self._reload()
        return self._known

    def save(self, modalities: Modalities) -> None:
        """Make `modalities` what all processes of this gateway know from now on. Raises OSError."""
        entries = {name: _dump(modality) for name, modality in modalities.items()}
        write_file(self._path, json.dumps({"configured": self._origin, "modalities": entries}).encode())

    @property
    def is_saved(self) -> bool:
        """Whether the list is one that was saved, and not that of the configuration."""
        return self.current() is not self._configured

    def _reload(self) -> None:
        """A list that was saved under another configuration does not count: what a person wrote since is newer."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            self._known = self._configured
            return
        try:
            saved = json.loads(self._path.read_bytes())
            if saved["configured"] == self._origin:
                entries = saved["modalities"].items()
                self._known = MappingProxyType({name: Modality.model_validate(entry) for name, entry in entries})
            else:
                self._known = self._configured
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
            get_logger().error("cannot read the saved list of modalities", file=str(self._path), reason=str(error))


def _stamp(path: Path) -> _Stamp | None:
    """What tells a file from the one that had its name before; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _dump(modality: Modality) -> dict[str, Any]:
    """An entry in the object form, with the keys that Orthanc's answers have."""
    return modality.model_dump(by_alias=True, exclude={"allow_storage_commitment"})


def _resolved(modality: Modality) -> Modality:
    """The same entry with AllowStorageCommitment put into the two keys that it stands for, as Orthanc answers it."""
    return Modality.model_validate(_dump(modality))


def _digest(modalities: Modalities) -> str:
    entries = {name: _dump(modality) for name, modality in modalities.items()}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
