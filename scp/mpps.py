"""Modality Performed Procedure Step as SCP (PS3.4 F.7): the DIMSE side of worklist.performed.steps."""

import time
import uuid
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection

from gateway.database import Database, DatabaseError
from gateway.dicom.character_sets import of_orthanc
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import read_attributes
from gateway.matching.keys import InvalidQuery
from gateway.options.config import Configuration
from scp.checks import HARMLESS_UID, MAXIMUM_UID_CHARACTERS
from scp.normalized import NormalizedRequest, Outcome
from scp.statuses import SUCCESS, Answer, Status
from worklist import store
from worklist.performed import steps
from worklist.performed.requirements import Problem, StepRefused, StepStatus, missing_at_the_end
from worklist.performed.steps import Peer, Reported

MODALITY_PERFORMED_PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"

# A step names each of its images with three attributes: 30,000 of them fit.
MAXIMUM_ATTRIBUTES: Final = 100_000
MAXIMUM_BYTES: Final = 8 * 1024 * 1024
# PS3.4 table F.7.2-2.
MAY_NOT_BE_UPDATED_ID: Final = 0xA710

_STATUSES: Final = {
    Problem.MISSING_ATTRIBUTE: Status.MISSING_ATTRIBUTE,
    Problem.MISSING_VALUE: Status.MISSING_ATTRIBUTE_VALUE,
    Problem.INVALID_VALUE: Status.INVALID_ATTRIBUTE_VALUE,
    Problem.DUPLICATE: Status.DUPLICATE_SOP_INSTANCE,
    Problem.UNKNOWN: Status.NO_SUCH_SOP_INSTANCE,
    Problem.FINAL: Status.PROCESSING_FAILURE,
}

Report = Callable[[Connection, Attributes], Reported]


class MppsService:
    """What the reports of a worker share: the store, options. Success means that the database has flushed it."""

    def __init__(self, configuration: Configuration, database: Database) -> None:
        """Call it only if `configuration` has a worklist."""
        options = configuration.worklist
        if options is None:
            raise ValueError("there is no worklist in this configuration")
        self._database = database
        self._has_partitions = options.partition_by_called_aet
        self._default = of_orthanc(configuration.orthanc.default_encoding)

    def create(self, request: NormalizedRequest) -> Outcome:
        """N-CREATE: a step begins."""
        given = request.command.affected_sop_instance_uid
        # PS3.7 10.1.5.1.4: whoever names none is given one.
        uid = given or f"2.25.{uuid.uuid4().int}"
        peer = Peer(request.calling_ae_title, request.called_ae_title, request.address)

        def report(connection: Connection, attributes: Attributes) -> Reported:
            return steps.create(connection, uid, attributes, peer, time.time_ns(), self._partitions(request))

        outcome = self._perform(request, uid, report)
        is_new = outcome.answer.status is Status.SUCCESS and not given
        return Outcome(outcome.answer, uid if is_new else "", outcome.done)

    def set(self, request: NormalizedRequest) -> Outcome:
        """N-SET: a step goes on, or ends."""
        uid = request.command.affected_sop_instance_uid

        def report(connection: Connection, attributes: Attributes) -> Reported:
            return steps.change(connection, uid, attributes, time.time_ns(), self._partitions(request))

        return self._perform(request, uid, report)

    def _perform(self, request: NormalizedRequest, uid: str, report: Report) -> Outcome:
        refusal = _refusal(request, uid)
        if refusal is not None:
            return Outcome(refusal)
        done = {"sop_instance": uid}
        try:
            attributes = read_attributes(
                request.data_set,
                request.transfer_syntax,
                self._default,
                maximum_bytes=MAXIMUM_BYTES,
                maximum_attributes=MAXIMUM_ATTRIBUTES,
            )
            with self._database.write(lock=store.LOCK) as connection:
                reported = report(connection, attributes)
        except InvalidQuery as error:
            return Outcome(Answer(Status.PROCESSING_FAILURE, str(error)), done=done)
        except StepRefused as error:
            error_id = MAY_NOT_BE_UPDATED_ID if error.problem is Problem.FINAL else None
            return Outcome(Answer(_STATUSES[error.problem], str(error), error_id=error_id), done=done)
        except DatabaseError as error:
            request.association.log.error("the worklist's database fails", reason=str(error))
            return Outcome(Answer(Status.RESOURCE_LIMITATION, "the worklist's database fails"), done=done)
        return Outcome(SUCCESS, done=done | _said(reported))

    def _partitions(self, request: NormalizedRequest) -> tuple[str, ...] | None:
        return (request.called_ae_title, "") if self._has_partitions else None


def _refusal(request: NormalizedRequest, uid: str) -> Answer | None:
    """What is wrong with the command."""
    if request.command.affected_sop_class_uid != MODALITY_PERFORMED_PROCEDURE_STEP:
        return Answer(Status.NO_SUCH_SOP_CLASS, "the request is of another SOP class than its presentation context")
    if len(uid) > MAXIMUM_UID_CHARACTERS or not HARMLESS_UID.fullmatch(uid):
        return Answer(Status.INVALID_SOP_INSTANCE, "the SOP Instance UID is no UID")
    return None


def _said(reported: Reported) -> dict[str, object]:
    """What the log says of a step: nothing of the patient."""
    step = reported.step
    said: dict[str, object] = {"step": step.id, "step_status": step.status.value, "items": _items(reported)}
    missing = missing_at_the_end(step.attributes) if step.status is not StepStatus.IN_PROGRESS else []
    return said | ({"missing": ",".join(missing)} if missing else {})


def _items(reported: Reported) -> str:
    return ",".join(str(item.id) for item in reported.items) or "none"
