"""The C-GET service as SCP (PS3.4 C.4.3): the sub-operations go out on the association of the request, one after the
other, on its thread. Its storage contexts are those that the requester takes as SCP (PS3.7 D.3.3.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.archive.interface import ArchiveUnavailable, EncodedInstance, InstanceReference, TooBroad
from gateway.dicom.character_sets import of_orthanc
from gateway.dicom.transfer_syntaxes import UNCOMPRESSED
from gateway.matching.keys import InvalidQuery
from gateway.moves.interface import Acceptance, MoveDriver, MoveDrivers, MoveRequest, Outcome, SubOperation
from gateway.options.config import Configuration
from gateway.waiting import Unwanted, listening
from scp.association_errors import AssociationError, ConnectionLost, ContextNotAccepted, DataSetUnavailable
from scp.command_set import Command
from scp.data_set_sources import Chunks
from scp.destination_target import outcome_of
from scp.destinations import LONGEST_TIMEOUT_S
from scp.questions import Asking, Question, QuestionOperation, question_of
from scp.retrieval import CANCELLED, Responder, Tally, read_request, uncounted, unusable
from scp.scu import StoredInstance, c_store
from scp.statuses import Answer, Status
from scp.store_contexts import Accepted, Transcoding

_LEFT: Final = Answer(Status.RETRIEVE_CANCELLED, "the requester has gone")


class GetService:
    """What the retrievals of a worker share: drivers, options."""

    def __init__(self, configuration: Configuration, drivers: MoveDrivers) -> None:
        options = configuration.orthanc
        self._character_set = of_orthanc(options.default_encoding)
        self._drivers = drivers
        self._transcoding = Transcoding(UNCOMPRESSED if options.transcode_dicom_protocol else ())
        # For the response to each sub-operation.
        self.timeout_s = float(options.dicom_scp_timeout or LONGEST_TIMEOUT_S)

    def operation(self, association: Asking, context_id: int, request: Command, identifier: bytes) -> GetOperation:
        """Make a request ready to be run."""
        return GetOperation(self, association, question_of(association, context_id, request, identifier))

    def request(self, question: Question) -> MoveRequest:
        """Decode the request. Raises InvalidQuery."""
        return read_request(question, self._character_set, guess_level=False)

    def driver(self, request: MoveRequest, target: RequesterTarget) -> MoveDriver:
        """Make ready what is sent. Raises ArchiveUnavailable, TooBroad."""
        return self._drivers.of(request.source_ae_title)(request, target)

    def accepted(self, association: Asking) -> Accepted:
        """What the requester takes on this association."""
        contexts = association.accepted_context_ids.values()
        return Accepted(
            ((str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in contexts if c.as_scu), self._transcoding
        )


class RequesterTarget:
    """The requester as a Target (gateway.moves.interface)."""

    def __init__(
        self, association: Asking, accepted: Accepted, responder: Responder, tally: Tally, timeout_s: float
    ) -> None:
        self._requests = association.requests
        self._accepted = accepted
        self._responder = responder
        self._tally = tally
        self._timeout_s = timeout_s

    def begin(self, instances: Sequence[InstanceReference]) -> list[Acceptance]:
        """See Target."""
        return [self._accepted.acceptance(instance) for instance in instances]

    def store(
        self, instance: InstanceReference, encoded: EncodedInstance, on_sent: Callable[[], None] | None = None
    ) -> SubOperation:
        """See Target. Raises AssociationError too: with the association the retrieval ends."""
        uid = instance.sop_instance_uid
        try:
            response = c_store(
                self._requests,
                StoredInstance(instance.sop_class_uid, uid, encoded.transfer_syntax_uid),
                Chunks(encoded.chunks, encoded.size_bytes),
                timeout_s=self._timeout_s,
                on_sent=on_sent,
                on_wait=self._tell,
            )
        except (ContextNotAccepted, DataSetUnavailable) as error:
            return SubOperation(Outcome.FAILED, uid, str(error))
        return outcome_of(response, uid)

    def waiting(self) -> None:
        """See Target. Raises AssociationError."""
        self._responder.listen()
        if not self._responder.is_associated:
            raise ConnectionLost("while the archive was asked")
        self._tell()

    def _tell(self) -> None:
        self._responder.pending(self._tally)


class GetOperation(QuestionOperation):
    """One retrieval (scp.operations.Operation)."""

    def __init__(self, service: GetService, association: Asking, question: Question) -> None:
        super().__init__(question)
        self._service = service
        self._association = association
        self._responder = Responder(association, question)
        self._tally = Tally()

    def run(self) -> None:
        """See Operation."""
        started = time.monotonic()
        level = ""
        try:
            request = self._service.request(self._question)
            level = request.level.name
            answer = self._retrieve(request)
        except InvalidQuery as error:
            answer = unusable(error)
        except (ArchiveUnavailable, TooBroad) as error:
            answer = uncounted(error)
        except AssociationError as error:
            answer = Answer(Status.RETRIEVE_CANCELLED, f"the requester has gone: {error}")
        except Exception:  # a driver may be a class of the site; C-MOVE has the same boundary in Mover
            self._responder.log.exception("C-GET ended by an error of the gateway or of a driver")
            answer = Answer(Status.RETRIEVE_UNABLE, "error of the gateway")
        seconds = round(time.monotonic() - started, 3)
        self._tally.log(self._responder.log, "C-GET", answer, query_level=level, seconds=seconds)
        self._responder.end(self._tally, answer)

    def _retrieve(self, request: MoveRequest) -> Answer:
        service, responder, tally = self._service, self._responder, self._tally
        accepted = service.accepted(self._association)
        target = RequesterTarget(self._association, accepted, responder, tally, service.timeout_s)
        try:
            with listening(self._listen):
                driver = service.driver(request, target)
        except Unwanted:
            return CANCELLED if responder.is_associated else _LEFT
        try:
            tally.total = driver.size()
            while not tally.is_complete:
                responder.listen()
                if not responder.is_associated:
                    return _LEFT
                if self._cancelled:
                    return CANCELLED
                responder.pending(tally)
                tally.add(driver.apply())
        finally:
            driver.free()
        return tally.answer()

    def _listen(self) -> None:
        self._responder.listen()
        if self._cancelled or not self._responder.is_associated:
            raise Unwanted
