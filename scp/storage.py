"""The Storage service class as SCP (PS3.4 Annex B): from the request's command to a durable file in the spool.

What is asked about an instance on the way, and in which order, is in scp.policies. It is answered 0x0000 only once it
is on disk for good, or once it has arrived where it is to go (`Acknowledge` "Stored").
"""

import errno
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from gateway.deliveries import DeliveryClient
from gateway.dicom.part10 import FileMeta, orthanc_id
from gateway.dicom.structure import Header
from gateway.options.config import Configuration
from gateway.quotas.rules import Limit
from gateway.spool import ORTHANC, Delivery, IncomingFile, SpoolWriter
from scp.command_set import Command
from scp.policy import Policy
from scp.quotas import Reservation
from scp.statuses import SUCCESS, Answer, Status

_NO_HEADER: Final = Header("", "", "", "", "", "")

Question = Callable[["IncomingInstance"], Answer | None]


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
    """What all associations of a worker share: spool, forwarder, policies."""

    def __init__(
        self,
        configuration: Configuration,
        writer: SpoolWriter,
        deliveries: DeliveryClient,
        in_order: Sequence[Policy],
    ) -> None:
        self.configuration = configuration
        self.writer = writer
        self.deliveries = deliveries
        # Who does not look at the command, or at the data set, is not asked about it.
        self.on_command = [each.on_command for each in in_order if type(each).on_command is not Policy.on_command]
        self.on_data_set = [each.on_data_set for each in in_order if type(each).on_data_set is not Policy.on_data_set]
        self.on_end = [each.on_end for each in in_order if type(each).on_end is not Policy.on_end]


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
    """One C-STORE request: `open`, any number of `write`, then `finish` and `answered`, or `abandon`.

    Policies find in it what they decide by, and leave in it what they need again.
    """

    def __init__(
        self, service: StorageService, peers: Peers, command: Command, counters: StoreCounters, log: Any
    ) -> None:
        self.peers = peers
        self.command = command
        self.header = _NO_HEADER
        # For the quotas: the digest of the data set, what was reserved, and the most bytes that it may have.
        self.digest: blake3 | None = None
        self.reservation: Reservation | None = None
        self.largest: Limit | None = None
        self._service = service
        self._counters = counters
        self._log = log
        self._file: IncomingFile | None = None
        self._refusal: Answer | None = None
        self._stored = False
        self._ready: Delivery | None = None

    @property
    def file(self) -> IncomingFile:
        """The file that is being received, with the whole data set when policies are asked about that."""
        if self._file is None:
            raise RuntimeError("nothing is being received")
        return self._file

    @functools.cached_property
    def orthanc_id(self) -> str:
        """What Orthanc will call it."""
        header = self.header
        return orthanc_id(
            header.patient_id, header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid
        )

    @property
    def _destination(self) -> str:
        return self._service.configuration.server_title(self.peers.called_ae_title) or ORTHANC

    def open(self, transfer_syntax_uid: str) -> None:
        """Ask about the command and create the file."""
        try:
            self._refusal = self._ask(self._service.on_command)
            if self._refusal is not None:
                return
            meta = FileMeta(
                sop_class_uid=self.command.affected_sop_class_uid,
                sop_instance_uid=self.command.affected_sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                sending_ae_title=self.peers.calling_ae_title,
                receiving_ae_title=self.peers.called_ae_title,
                sending_address=self.peers.calling_address,
                receiving_address=self.peers.called_address,
            )
            self._file = self._service.writer.create(meta, self._destination)
        except OSError as error:
            self._refusal = _spool_trouble(error)

    def write(self, piece: memoryview) -> None:
        """Append to the file; after a failure the rest is drained."""
        if self._file is None:
            return
        if self.largest is not None and self._file.data_set_length + len(piece) > self.largest.value:
            self._refuse(Answer(Status.OUT_OF_RESOURCES, self.largest.comment))
            return
        try:
            self._file.write((piece,))
        except OSError as error:
            self._refuse(_spool_trouble(error))
            return
        if self.digest is not None:
            self.digest.update(piece)

    def finish(self) -> Answer:
        """Ask about the data set, make it durable, say what to answer."""
        answer = self._decide()
        if answer.status is Status.SUCCESS:
            self._stored = True
            self._counters.instances += 1
        else:
            self._counters.refused += 1
            self._log.warning("C-STORE refused", status=f"0x{answer.status.code:04X}", reason=answer.comment)
        return answer

    def answered(self) -> None:
        """Tell policies and forwarder: the peer need not wait for that."""
        try:
            self._end()
        finally:  # whatever a policy meets, what was acknowledged is delivered
            if self._ready is not None:
                self._service.deliveries.ready(self._ready)

    def abandon(self) -> None:
        """Nothing of an incomplete instance is kept."""
        self._drop_file()
        self._end()

    def _end(self) -> None:
        for on_end in self._service.on_end:
            on_end(self, stored=self._stored)

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _ask(self, questions: Sequence[Question]) -> Answer | None:
        for question in questions:
            refusal = question(self)
            if refusal is not None:
                return refusal
        return None

    def _refuse(self, answer: Answer) -> Answer:
        self._drop_file()
        self._refusal = answer
        return answer

    def _decide(self) -> Answer:
        file = self._file
        if self._refusal is not None or file is None:
            return self._refusal or Answer(Status.OUT_OF_RESOURCES)
        try:
            refusal = self._ask(self._service.on_data_set)
        except OSError as error:
            refusal = _spool_trouble(error)
        if refusal is not None:
            return self._refuse(refusal)
        self._file = None
        waits = self._service.configuration.acknowledges_when_stored(self.peers.calling_ae_title)
        answer = self._store_now(file) if waits else self._spool(file)
        if answer.status is Status.SUCCESS:
            self._counters.bytes += file.size
        return answer

    def _delivery(self, file: IncomingFile) -> Delivery:
        return Delivery(
            path=file.path,
            size=file.size,
            sop_instance_uid=self.header.sop_instance_uid,
            orthanc_id=self.orthanc_id,
            patient_id=self.header.patient_id,
            study_instance_uid=self.header.study_instance_uid,
            series_instance_uid=self.header.series_instance_uid,
            accession_number=self.header.accession_number,
        )

    def _spool(self, file: IncomingFile) -> Answer:
        try:
            file.commit()
        except OSError as error:
            return _spool_trouble(error)
        self._ready = self._delivery(file)
        self._service.deliveries.expect(self._ready)
        return SUCCESS

    def _store_now(self, file: IncomingFile) -> Answer:
        try:
            path = file.hand_over()
        except OSError as error:
            return _spool_trouble(error)
        outcome = self._service.deliveries.deliver(
            self._delivery(file), self._service.configuration.gateway.stored_deadline
        )
        if outcome.result == "delivered":
            return SUCCESS
        path.unlink(missing_ok=True)
        status = Status.CANNOT_UNDERSTAND if outcome.result == "refused" else Status.OUT_OF_RESOURCES
        return Answer(status, outcome.reason)


def _spool_trouble(error: OSError) -> Answer:
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "the spool failed"
    return Answer(Status.OUT_OF_RESOURCES, f"{reason}: {error.strerror or error}")
