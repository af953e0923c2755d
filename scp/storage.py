"""The Storage service class as SCP (PS3.4 Annex B): from the request's command to a durable file in the spool.

An instance is answered 0x0000 only once it is on disk for good, or once Orthanc has it (`Acknowledge` "Stored").
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.config import Configuration
from gateway.deliveries import DeliveryClient
from gateway.part10 import FileMeta, orthanc_id
from gateway.spool import Delivery, IncomingFile, SpoolWriter
from gateway.structure import Header, Limits, StructureError, check_structure
from scp.command_set import Command
from scp.statuses import SUCCESS, Answer, Status

MAXIMUM_UID_CHARACTERS: Final = 64
# PS3.5 9.1 allows digits and periods. Letters, hyphens and underscores are wrong but harmless and do
# occur; anything else (slashes, backslashes, control characters, spaces) is no identifier.
_HARMLESS_UID = re.compile(r"[0-9A-Za-z._-]+")

_REQUIRED: Final[tuple[tuple[str, str, int], ...]] = (
    ("sop_class_uid", "SOP Class UID", 0x00080016),
    ("sop_instance_uid", "SOP Instance UID", 0x00080018),
    ("study_instance_uid", "Study Instance UID", 0x0020000D),
    ("series_instance_uid", "Series Instance UID", 0x0020000E),
)


@dataclass(frozen=True, slots=True)
class Peers:
    """The two sides of an association, for the file meta information: AE titles and dicom:// addresses."""

    calling_ae_title: str
    called_ae_title: str
    calling_address: str
    called_address: str


@dataclass
class StoreCounters:
    """What one association stored."""

    instances: int = 0
    refused: int = 0
    bytes: int = 0


class StorageService:
    """What all associations of a worker share: spool, forwarder, limits."""

    def __init__(self, configuration: Configuration, writer: SpoolWriter, deliveries: DeliveryClient) -> None:
        self.configuration = configuration
        self.writer = writer
        self.deliveries = deliveries
        self.limits = Limits(maximum_inflated_bytes=configuration.gateway.maximum_inflated_bytes)


class AssociationStore:
    """The StoreService (scp.messages) of one association."""

    def __init__(self, service: StorageService, peers: Peers, transfer_syntax: Callable[[int], str], log: Any) -> None:
        self._service = service
        self._peers = peers
        self._transfer_syntax = transfer_syntax
        self._log = log
        self.counters = StoreCounters()

    def begin(self, command: Command, context_id: int) -> "IncomingInstance":
        """Start to receive. What is refused already now is drained without being written."""
        log = self._log.bind(message_id=command.message_id)
        instance = IncomingInstance(self._service, self._peers, command, self.counters, log)
        instance.open(self._transfer_syntax(context_id))
        return instance


class IncomingInstance:
    """One C-STORE request: `open`, any number of `write`, then `finish` and `answered`, or `abandon`."""

    def __init__(
        self, service: StorageService, peers: Peers, command: Command, counters: StoreCounters, log: Any
    ) -> None:
        self._service = service
        self._peers = peers
        self._command = command
        self._counters = counters
        self._log = log
        self._file: IncomingFile | None = None
        self._refusal: Answer | None = None
        self._ready: Delivery | None = None

    def open(self, transfer_syntax_uid: str) -> None:
        """Check the command and create the file."""
        self._refusal = _check_command(self._command)
        if self._refusal is not None:
            return
        meta = FileMeta(
            sop_class_uid=self._command.affected_sop_class_uid,
            sop_instance_uid=self._command.affected_sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            sending_ae_title=self._peers.calling_ae_title,
            receiving_ae_title=self._peers.called_ae_title,
            sending_address=self._peers.calling_address,
            receiving_address=self._peers.called_address,
        )
        try:
            self._file = self._service.writer.create(meta)
        except OSError as error:
            self._refusal = _spool_trouble(error)

    def write(self, piece: memoryview) -> None:
        """Append to the file; after a failure the rest is drained."""
        if self._file is None:
            return
        try:
            self._file.write((piece,))
        except OSError as error:
            self._refuse(_spool_trouble(error))

    def finish(self) -> Answer:
        """Check what was received, make it durable, say what to answer."""
        answer = self._decide()
        if answer.status is Status.SUCCESS:
            self._counters.instances += 1
        else:
            self._counters.refused += 1
            self._log.warning("C-STORE refused", status=f"0x{answer.status.code:04X}", reason=answer.comment)
        return answer

    def answered(self) -> None:
        """Tell the forwarder: the peer need not wait for that."""
        if self._ready is not None:
            self._service.deliveries.ready(self._ready)

    def abandon(self) -> None:
        """Nothing of an incomplete instance is kept."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _refuse(self, answer: Answer) -> Answer:
        self.abandon()
        self._refusal = answer
        return answer

    def _decide(self) -> Answer:
        file = self._file
        if self._refusal is not None or file is None:
            return self._refusal or Answer(Status.OUT_OF_RESOURCES)
        try:
            header = check_structure(
                file.fd,
                file.data_set_offset,
                file.data_set_length,
                file.meta.transfer_syntax_uid,
                self._service.limits,
            )
        except StructureError as error:
            return self._refuse(Answer(Status.CANNOT_UNDERSTAND, error.reason, error.tag))
        except OSError as error:
            return self._refuse(_spool_trouble(error))
        refusal = _check_header(header, self._command)
        if refusal is not None:
            return self._refuse(refusal)
        self._file = None
        waits = self._service.configuration.acknowledges_when_stored(self._peers.calling_ae_title)
        answer = self._store_now(file, header) if waits else self._spool(file, header)
        if answer.status is Status.SUCCESS:
            self._counters.bytes += file.size
        return answer

    def _spool(self, file: IncomingFile, header: Header) -> Answer:
        try:
            file.commit()
        except OSError as error:
            return _spool_trouble(error)
        self._ready = _delivery(file, header)
        self._service.deliveries.expect(self._ready)
        return SUCCESS

    def _store_now(self, file: IncomingFile, header: Header) -> Answer:
        try:
            path = file.hand_over()
        except OSError as error:
            return _spool_trouble(error)
        outcome = self._service.deliveries.deliver(
            _delivery(file, header), self._service.configuration.gateway.stored_deadline
        )
        if outcome.result == "delivered":
            return SUCCESS
        path.unlink(missing_ok=True)
        status = Status.CANNOT_UNDERSTAND if outcome.result == "refused" else Status.OUT_OF_RESOURCES
        return Answer(status, outcome.reason)


def _delivery(file: IncomingFile, header: Header) -> Delivery:
    return Delivery(
        path=file.path,
        size=file.size,
        sop_instance_uid=header.sop_instance_uid,
        orthanc_id=orthanc_id(
            header.patient_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
        ),
        patient_id=header.patient_id,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
    )


def _check_command(command: Command) -> Answer | None:
    """PS3.7 9.1.1.1: the Affected SOP Instance UID must be one, or no file could carry it."""
    uid = command.affected_sop_instance_uid
    if len(uid) > MAXIMUM_UID_CHARACTERS:
        return Answer(Status.INVALID_SOP_INSTANCE, f"SOP Instance UID of more than {MAXIMUM_UID_CHARACTERS} characters")
    if not _HARMLESS_UID.fullmatch(uid):
        return Answer(Status.INVALID_SOP_INSTANCE, "SOP Instance UID is no UID")
    if not _HARMLESS_UID.fullmatch(command.affected_sop_class_uid):
        return Answer(Status.SOP_CLASS_NOT_SUPPORTED, "SOP Class UID is no UID")
    return None


def _check_header(header: Header, command: Command) -> Answer | None:
    for attribute, name, tag in _REQUIRED:
        if not getattr(header, attribute):
            return Answer(Status.CANNOT_UNDERSTAND, f"{name} is missing or empty", tag)
    if header.sop_class_uid != command.affected_sop_class_uid:
        return Answer(Status.DATA_SET_DOES_NOT_MATCH, "SOP Class UID differs from the request's", 0x00080016)
    if header.sop_instance_uid != command.affected_sop_instance_uid:
        return Answer(Status.DATA_SET_DOES_NOT_MATCH, "SOP Instance UID differs from the request's", 0x00080018)
    return None


def _spool_trouble(error: OSError) -> Answer:
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "the spool failed"
    return Answer(Status.OUT_OF_RESOURCES, f"{reason}: {error.strerror or error}")
