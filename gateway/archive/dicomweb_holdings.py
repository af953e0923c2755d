"""What a DICOMweb server says that it has, by QIDO-RS (PS3.18 10.6) at instance level."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from gateway.archive.dicomweb_query import is_path_segment
from gateway.archive.interface import SOP_INSTANCE_UID, STUDY_INSTANCE_UID
from gateway.archive.orthanc_tags import SOP_CLASS_UID
from gateway.dicomweb.client import DicomWebClient
from gateway.dicomweb.errors import HttpStatusError
from gateway.dicomweb.qido import Qido
from gateway.matching.attributes import Attributes

# Of UIDs of 64 characters this makes a URL of 3.3 KB; servers and proxies take 4 to 8.
UIDS_AT_ONCE: Final = 50

_IDENTITY: Final = (SOP_INSTANCE_UID, SOP_CLASS_UID)
# Statuses of a server that has no such search, or no such study.
_NO_SUCH_RESOURCE: Final = frozenset((400, 404, 405, 406, 501))


class Holdings:
    """One server's. Raises DicomWebError."""

    def __init__(self, client: DicomWebClient) -> None:
        self._qido = Qido(client)
        self._takes_lists = client.section.qido_uid_lists

    def has(self, study_instance_uid: str, sop_instance_uid: str) -> bool | None:
        """Whether the server has an instance; None when it does not say."""
        resource = _instances_of(study_instance_uid)
        try:
            return any(self._instances(resource, [sop_instance_uid]))
        except HttpStatusError as error:
            if error.status in _NO_SUCH_RESOURCE:
                return None
            raise

    def classes(self, sop_instance_uids: Collection[str]) -> dict[str, set[str]]:
        """The SOP Class UIDs of those that the server has, by SOP Instance UID.

        Several in one search where the server takes lists of UIDs; otherwise all of the study of each that is not known
        yet.
        """
        wanted = list(dict.fromkeys(sop_instance_uids))
        return self._by_lists(wanted) if self._takes_lists else self._by_studies(wanted)

    def _by_lists(self, wanted: Sequence[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for start in range(0, len(wanted), UIDS_AT_ONCE):
            for instance in self._instances("/instances", wanted[start : start + UIDS_AT_ONCE]):
                _note(found, instance)
        return found

    def _by_studies(self, wanted: Sequence[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        listed: set[str] = set()
        for uid in wanted:
            if uid in found:
                continue
            for instance in list(self._instances("/instances", [uid])):
                _note(found, instance)
                study = _value(instance, STUDY_INSTANCE_UID)
                if study in listed or not is_path_segment(study):
                    continue
                listed.add(study)
                for other in self._search(_instances_of(study), ()):
                    _note(found, other)
        return {uid: found[uid] for uid in wanted if uid in found}

    def _instances(self, resource: str, uids: Sequence[str]) -> Iterator[Attributes]:
        """Those of `uids`: not all servers filter by all that they are asked for."""
        for instance in self._search(resource, [("SOPInstanceUID", ",".join(uids))]):
            if _value(instance, SOP_INSTANCE_UID) in uids:
                yield instance

    def _search(self, resource: str, parameters: Sequence[tuple[str, str]]) -> Iterator[Attributes]:
        return self._qido.search(resource, [*parameters, ("includefield", f"{SOP_CLASS_UID:08X}")], _IDENTITY)


def _instances_of(study_instance_uid: str) -> str:
    return f"/studies/{study_instance_uid}/instances" if is_path_segment(study_instance_uid) else "/instances"


def _note(found: dict[str, set[str]], instance: Attributes) -> None:
    found.setdefault(_value(instance, SOP_INSTANCE_UID), set()).add(_value(instance, SOP_CLASS_UID))


def _value(instance: Attributes, tag: int) -> str:
    element = instance.get(tag)
    return element.value.strip() if element is not None and isinstance(element.value, str) else ""
