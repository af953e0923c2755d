"""Whether instances are safe: asked of whoever keeps them. Orthanc is one answer; others stand behind the same seam."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, Protocol, TypeVar

from gateway.archive.interface import SOP_INSTANCE_UID, ArchiveUnavailable, InstanceReference, Level, Selection
from gateway.archive.orthanc import OrthancArchive
from gateway.archive.rest import NOT_FOUND, OrthancRest
from gateway.deliveries import DeliveryClient, Wanted
from gateway.spool import ORTHANC
from storage_commitment.data_sets import FailureReason, Reference
from storage_commitment.undelivered import UndeliveredInstances

Verify = Literal["File", "Index"]

# UIDs of 64 characters in a message to the forwarder, which has 64 KiB.
WANTED_AT_ONCE: Final = 800
# Of UIDs of 64 characters this makes a request of 64 KB.
REFERENCES_AT_ONCE: Final = 1000
# Files of one transaction whose verification is ordered together: others take turns with it.
FILES_AT_ONCE: Final = 64
# How long one look waits for what is on its way.
DELIVERY_WAIT_S: Final = 2.0
# Workers need a moment to say what they have acknowledged.
SHORTEST_WAIT_S: Final = 0.2

MAXIMUM_ANSWER_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 256 * 1024
_OK: Final = 200
_BAD_REQUEST: Final = 400
# Refused, or in trouble of another kind: of the instance that says nothing.
_SAYS_NOTHING: Final = frozenset((401, 403, 502, 503, 504))

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is not safe, by SOP Instance UID.

    `pending`: acknowledged and on its way. `absent`: not there, and nobody knows whether it comes.
    """

    failures: Mapping[str, FailureReason] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()


class Keeper(Protocol):
    """Says whether instances are safe. Used by several threads."""

    def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
        """Look at all of them. If something is pending, or absent and this is not the final look, `failures` may be
        incomplete: there will be another look. Raises ArchiveUnavailable, TooBroad: then nothing is known."""


class _File(Enum):
    READABLE = 1
    UNREADABLE = 2
    GONE = 3


class OrthancKeeper:
    """Instances that Orthanc holds, in its index and, with "File", in its storage."""

    def __init__(
        self,
        archive: OrthancArchive,
        rest: OrthancRest,
        deliveries: DeliveryClient,
        undelivered: UndeliveredInstances,
        *,
        verify: Verify,
    ) -> None:
        """`archive` has no barrier of its own: what is on its way is waited for here."""
        self._archive = archive
        self._rest = rest
        self._deliveries = deliveries
        self._undelivered = undelivered
        self._verify = verify
        self._executor = ThreadPoolExecutor(rest.connections, thread_name_prefix="commitment")

    def examine(self, references: Sequence[Reference], *, is_final: bool) -> Findings:
        """See Keeper."""
        uids = [one.sop_instance_uid for one in references]
        # In this order: what is not pending any more is in Orthanc or in `failed` when these are looked at.
        undelivered = not_delivered(self._deliveries, uids)
        copies = self._copies(uids)
        refused = self._undelivered.among(uids)
        pending = undelivered - refused
        absent = frozenset(uid for uid in uids if uid not in copies and uid not in refused) - pending
        if pending or (absent and not is_final):
            return Findings({}, absent, pending)
        failures = dict.fromkeys(refused, FailureReason.PROCESSING_FAILURE)
        to_verify: list[InstanceReference] = []
        for reference in references:
            uid = reference.sop_instance_uid
            if uid in failures or uid in absent:
                continue
            of_class = [copy for copy in copies[uid] if self._class_of(copy) == reference.sop_class_uid]
            if of_class:
                to_verify += of_class
            else:
                failures[uid] = FailureReason.CLASS_INSTANCE_CONFLICT
        if self._verify == "File":
            failures |= self._not_readable(to_verify)
        return Findings(failures, absent)

    def _copies(self, uids: Sequence[str]) -> dict[str, list[InstanceReference]]:
        """What Orthanc has, by SOP Instance UID: of one instance several copies under different patients, say."""
        copies: dict[str, list[InstanceReference]] = {}
        for part in _parts(uids, REFERENCES_AT_ONCE):
            listing = self._archive.list_instances(Selection(Level.IMAGE, {SOP_INSTANCE_UID: tuple(part)}))
            for instance in listing.instances:
                copies.setdefault(instance.sop_instance_uid, []).append(instance)
        return copies

    def _class_of(self, copy: InstanceReference) -> str:
        """The SOP Class UID; of what a version of Orthanc stored that kept it nowhere else, from the file."""
        if copy.sop_class_uid:
            return copy.sop_class_uid
        status, answer = self._ask(f"/instances/{copy.handle}/content/0008-0016", None)
        return answer.decode("latin-1").strip(" \0\n") if status == _OK else ""

    def _not_readable(self, instances: Sequence[InstanceReference]) -> dict[str, FailureReason]:
        """The SOP Instance UIDs of which no copy can be read as it was stored."""
        found: dict[str, set[_File]] = {}
        for part in _parts(instances, FILES_AT_ONCE):
            for instance, file in zip(part, self._executor.map(self._look_at, part), strict=True):
                found.setdefault(instance.sop_instance_uid, set()).add(file)
        return {
            uid: FailureReason.PROCESSING_FAILURE
            if _File.UNREADABLE in files
            else FailureReason.NO_SUCH_OBJECT_INSTANCE
            for uid, files in found.items()
            if _File.READABLE not in files
        }

    def _look_at(self, instance: InstanceReference) -> _File:
        """Orthanc reads the file and compares its MD5, if it has kept one; else the file is read here.

        Raises ArchiveUnavailable.
        """
        uri = f"/instances/{instance.handle}/attachments/dicom"
        status, _answer = self._ask(f"{uri}/verify-md5", b"")
        if status == _OK:
            return _File.READABLE
        if status in _SAYS_NOTHING:
            raise ArchiveUnavailable(f"Orthanc answers HTTP {status} to the order to verify an instance")
        if status == NOT_FOUND:
            return _File.GONE
        # Orthanc 1.10.1 answers 404 without a body for an MD5 that it has not kept.
        if status == _BAD_REQUEST and self._ask(f"{uri}/md5", None) in ((NOT_FOUND, b""), (_OK, b"")):
            return self._read(instance)
        return _File.UNREADABLE

    def _ask(self, uri: str, order: bytes | None) -> tuple[int, bytes]:
        with self._rest.open(uri, order) as response:
            return response.status, response.read(MAXIMUM_ANSWER_BYTES)

    def _read(self, instance: InstanceReference) -> _File:
        """Of what Orthanc has no MD5 (StoreMD5ForAttachments), as the built-in SCP: read to its end."""
        with self._rest.open(f"/instances/{instance.handle}/file") as response:
            if response.status in _SAYS_NOTHING:
                raise ArchiveUnavailable(f"Orthanc answers HTTP {response.status} to the order to read an instance")
            size = 0
            while piece := response.read(PIECE_BYTES):
                size += len(piece)
        return _File.READABLE if response.status == _OK and size == instance.size_bytes else _File.UNREADABLE


def not_delivered(deliveries: DeliveryClient, uids: Sequence[str], destination: str = ORTHANC) -> frozenset[str]:
    """What is acknowledged and still on its way, or was refused; by SOP Instance UID.

    To ask makes the forwarder deliver it before all else. Raises ArchiveUnavailable.
    """
    deadline = time.monotonic() + DELIVERY_WAIT_S
    found: set[str] = set()
    for part in _parts(uids, WANTED_AT_ONCE):
        wanted = frozenset(part)
        remaining_s = max(SHORTEST_WAIT_S, deadline - time.monotonic())
        query = Wanted(sop_instance_uids=wanted, destination=destination)
        late = deliveries.wait_and_list(query, remaining_s, must_know=True)
        if late is None:
            raise ArchiveUnavailable("the forwarder does not say what is not delivered yet")
        found |= wanted.intersection(identifiers[0] for identifiers in late)
    return frozenset(found)


def _parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
