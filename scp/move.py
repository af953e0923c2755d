"""The C-MOVE service as SCP (PS3.4 C.4.2): a mover performs the sub-operations, the association's thread tells how far
they are and listens to the requester."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from gateway.dicom.character_sets import of_orthanc
from gateway.matching.keys import InvalidQuery
from gateway.modalities import KnownModalities
from gateway.moves.interface import MoveDrivers, MoveRequest
from gateway.moves.script_driver import NoTarget
from gateway.options.config import Configuration
from gateway.options.orthanc import Modality
from gateway.script_host.client import ScriptFailed
from gateway.tls.context import TlsError
from scp.command_set import Command, MoveOriginator
from scp.destination_target import DestinationTarget
from scp.destinations import destination_of
from scp.mover import Mover, Signal
from scp.questions import Asking, Question, QuestionOperation, question_of
from scp.requestor import Destination
from scp.requests import WAIT_INTERVAL_S
from scp.retrieval import CANCELLED, Responder, Tally, read_request, unusable
from scp.statuses import SUCCESS, Answer, Status
from scp.store_contexts import Transcoding

MOVE_DESTINATION: Final = 0x0000_0600
_LEFT: Final = Answer(Status.RETRIEVE_CANCELLED, "the requester has gone")


class Refused(Exception):
    """A move that is not begun."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.comment)
        self.answer = answer


class MoveService:
    """What the moves of a worker share: drivers, destinations, options."""

    def __init__(self, configuration: Configuration, modalities: KnownModalities, drivers: MoveDrivers) -> None:
        self._configuration = configuration
        self._modalities = modalities
        self._drivers = drivers
        self._character_set = of_orthanc(configuration.orthanc.default_encoding)

    @property
    def is_synchronous(self) -> bool:
        """SynchronousCMove: the final response waits for the last sub-operation."""
        return self._configuration.orthanc.synchronous_c_move

    def operation(self, association: Asking, context_id: int, request: Command, identifier: bytes) -> MoveOperation:
        """Make a request ready to be run."""
        return MoveOperation(self, association, question_of(association, context_id, request, identifier))

    def request(self, question: Question) -> MoveRequest:
        """Decode the request. Raises InvalidQuery."""
        return read_request(question, self._character_set, guess_level=True)

    def destination(self, ae_title: str) -> tuple[Destination, Transcoding]:
        """Whom an AE title stands for, and what may be transcoded for them. Raises Refused."""
        modality = self._modality(ae_title)
        if modality is None:
            text = f"{ae_title or 'an empty AE title'} is not in DicomModalities"
            raise Refused(Answer(Status.RETRIEVE_DESTINATION_UNKNOWN, text, MOVE_DESTINATION))
        options = self._configuration.orthanc
        may_transcode = options.transcode_dicom_protocol and modality.allow_transcoding
        transcoding = Transcoding.preferring(options.dicom_scu_preferred_transfer_syntax)
        try:
            destination = destination_of(self._configuration, modality)
        except TlsError as error:
            raise Refused(Answer(Status.RETRIEVE_CANNOT_PERFORM, str(error))) from error
        return destination, transcoding if may_transcode else Transcoding(())

    def sends_itself(self, request: MoveRequest) -> bool:
        """Whether the driver of a move sends on its own, to whom it likes. Raises ScriptFailed."""
        return not self._drivers.needs_target(request.source_ae_title)

    def mover(
        self, request: MoveRequest, target: DestinationTarget | NoTarget, log: Any, on_news: Callable[[], None]
    ) -> Mover:
        """The thread for a move, not started. Raises ScriptFailed."""
        return Mover(request, self._drivers.of(request.source_ae_title), target, log, on_news)

    def _modality(self, ae_title: str) -> Modality | None:
        """The first entry by name with this AE title, as Orthanc takes it."""
        strict = self._configuration.orthanc.strict_aet_comparison
        for _name, modality in sorted(self._modalities.current().items()):
            title = modality.ae_title
            if title == ae_title or (not strict and title.upper() == ae_title.upper()):
                return modality
        return None


class MoveOperation(QuestionOperation):
    """One move (scp.operations.Operation)."""

    def __init__(self, service: MoveService, association: Asking, question: Question) -> None:
        super().__init__(question)
        self._service = service
        self._upper_layer = association.upper_layer
        self._responder = Responder(association, question)

    def run(self) -> None:
        """See Operation."""
        signal = Signal()
        try:
            mover = self._begin(signal)
            mover.start()
        except Refused as refused:
            self._refuse(refused.answer)
        except InvalidQuery as error:
            self._refuse(unusable(error))
        except (ScriptFailed, RuntimeError) as error:  # nobody knows who sends; no thread can be started
            self._refuse(Answer(Status.RETRIEVE_CANNOT_PERFORM, str(error)))
        else:
            self._accompany(mover, signal)
        finally:
            signal.close()

    def _begin(self, signal: Signal) -> Mover:
        title = self._question.request.move_destination
        log = self._responder.log.bind(destination=title)
        request = self._service.request(self._question)
        if self._service.sends_itself(request):
            return self._service.mover(request, NoTarget(), log.bind(by="script"), signal.set)
        destination, transcoding = self._service.destination(title)
        log = log.bind(address=f"{destination.host}:{destination.port}")
        originator = MoveOriginator(request.originator_ae_title, request.originator_id)
        target = DestinationTarget(destination, originator, transcoding)
        return self._service.mover(request, target, log.bind(query_level=request.level.name), signal.set)

    def _accompany(self, mover: Mover, signal: Signal) -> None:
        """Tell the requester how far it is, until the end of the move or of the association."""
        responder, tally = self._responder, mover.tally
        while mover.answer is None:
            self._upper_layer.wait_for_input(WAIT_INTERVAL_S, signal.descriptor)
            signal.clear()
            responder.listen()
            if not responder.is_associated:
                mover.stop(_LEFT)
                mover.end_soon()
                return
            if self._cancelled:
                mover.stop(CANCELLED)
                mover.end_soon()
                break
            if tally.total is not None and not self._service.is_synchronous:
                # As Orthanc says it: what another thread goes on with is done.
                responder.end(Tally.of_completed(tally.total), SUCCESS)
                return
            responder.pending(tally)
        responder.listen()
        responder.end(tally, mover.answer or CANCELLED)

    def _refuse(self, answer: Answer) -> None:
        tally = Tally()
        tally.log(self._responder.log, "C-MOVE", answer, destination=self._question.request.move_destination)
        self._responder.end(tally, answer)
