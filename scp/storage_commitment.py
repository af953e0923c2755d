"""Storage Commitment Push Model (PS3.4 Annex J) as SCP: requests by N-ACTION. And as SCU: reports by N-EVENT-REPORT.

A request is kept before it is answered; who verifies and reports it is another process (scp/commitment_reporter.py).
A report is the answer to a request of Orthanc's, and kept for it.
"""

import time
from collections.abc import Callable
from typing import Final, cast

from gateway.database import Database, DatabaseError
from gateway.log import get_logger
from gateway.options.config import Configuration
from scp.association_reports import Reporting, WorkersReports
from scp.command_set import Command
from scp.commitment_report import ALL_COMMITTED, FAILURES_EXIST
from scp.normalized import NormalizedRequest, Outcome
from scp.statuses import SUCCESS, Answer, Status
from storage_commitment import reports, store
from storage_commitment.data_sets import (
    STORAGE_COMMITMENT_PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    Fault,
    InvalidDataSet,
    is_uid,
    read_report,
    read_request,
)
from storage_commitment.store import Requester

# PS3.4 J.3.2: Request Storage Commitment.
REQUEST_STORAGE_COMMITMENT: Final = 1

EVERYBODY: Final = "*"

_FAULTS: Final = {
    Fault.UNREADABLE: Status.PROCESSING_FAILURE,
    Fault.MISSING_ATTRIBUTE: Status.MISSING_ATTRIBUTE,
    Fault.INVALID_VALUE: Status.INVALID_ARGUMENT_VALUE,
    Fault.TOO_LARGE: Status.RESOURCE_LIMITATION,
}


class CommitmentService:
    """What the associations of a worker share."""

    def __init__(
        self,
        configuration: Configuration,
        books: Database,
        gateway: str,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`gateway`: our name in the books. Call it only if the configuration has storage commitment."""
        section = configuration.storage_commitment
        if section is None:
            raise ValueError("there is no storage commitment in this configuration")
        self._title_key = configuration.title_key
        self._same_association = frozenset(map(self._title_key, section.same_association))
        self._books = books
        self._gateway = gateway
        self._clock = clock
        self._reports = WorkersReports(configuration.state_directory, books)
        self._log = get_logger()

    def n_action(self, request: NormalizedRequest) -> Outcome:
        """A request for commitment."""
        command = request.command
        refusal = _check_instance(command)
        if refusal is None and command.action_type_id != REQUEST_STORAGE_COMMITMENT:
            refusal = Answer(Status.NO_SUCH_ACTION, f"action type {command.action_type_id} is not 1")
        if refusal is not None:
            return Outcome(refusal)
        try:
            asked = read_request(request.data_set, request.transfer_syntax)
        except InvalidDataSet as error:
            return Outcome(Answer(_FAULTS[error.fault], str(error)))
        requester = Requester(request.calling_ae_title, request.called_ae_title, request.address)
        done = {"transaction": asked.transaction_uid, "instances": len(asked.references)}
        try:
            number = self._keep_request(requester, asked)
        except store.TooManyPending as error:
            return Outcome(Answer(Status.RESOURCE_LIMITATION, str(error)), done=done)
        except DatabaseError as error:
            return self._database_fails(error, done)
        association = cast(Reporting, request.association)  # it is the same for all services
        may_report = bool(self._same_association & {EVERYBODY, self._title_key(requester.ae_title)})
        return Outcome(
            SUCCESS,
            done=done,
            afterwards=lambda: self._reports.received(number, association, may_report=may_report),
        )

    def n_event_report(self, request: NormalizedRequest) -> Outcome:
        """A report to a request of Orthanc's."""
        command = request.command
        refusal = _check_instance(command)
        if refusal is None and command.event_type_id not in (ALL_COMMITTED, FAILURES_EXIST):
            refusal = Answer(Status.NO_SUCH_EVENT_TYPE, f"event type {command.event_type_id} is neither 1 nor 2")
        if refusal is not None:
            return Outcome(refusal)
        try:
            report = read_report(request.data_set, request.transfer_syntax)
        except InvalidDataSet as error:
            return Outcome(Answer(_FAULTS[error.fault], str(error)))
        done = {
            "transaction": report.transaction_uid,
            "committed": len(report.committed),
            "failed": len(report.failed),
        }
        try:
            self._keep_report(request.calling_ae_title, report)
        except DatabaseError as error:
            return self._database_fails(error, done)
        return Outcome(SUCCESS, done=done)

    def _keep_request(self, requester: Requester, asked: CommitmentRequest) -> int:
        with self._books.write(lock=store.LOCK) as connection:
            return store.receive(connection, self._gateway, requester, asked, self._clock())

    def _keep_report(self, reporter: str, report: CommitmentReport) -> None:
        with self._books.write(lock=store.LOCK) as connection:
            reports.keep(connection, reporter, report, self._clock())

    def _database_fails(self, error: DatabaseError, done: dict[str, object]) -> Outcome:
        self._log.error("the database fails; a storage commitment is refused", reason=str(error))
        return Outcome(Answer(Status.PROCESSING_FAILURE, "the database does not answer"), done=done)


def _check_instance(command: Command) -> Answer | None:
    """Why a request is about something else than the well-known instance (PS3.4 J.3.5), or None."""
    sop_class, instance = command.affected_sop_class_uid, command.affected_sop_instance_uid
    if not is_uid(instance):
        return Answer(Status.INVALID_SOP_INSTANCE, "the SOP Instance UID is no UID")
    if sop_class != STORAGE_COMMITMENT_PUSH_MODEL:
        if instance == WELL_KNOWN_INSTANCE:
            return Answer(Status.CLASS_INSTANCE_CONFLICT, "the SOP Instance is not of this SOP Class")
        return Answer(Status.NO_SUCH_SOP_CLASS, "the SOP Class is not Storage Commitment Push Model")
    if instance != WELL_KNOWN_INSTANCE:
        return Answer(Status.NO_SUCH_SOP_INSTANCE, f"the only SOP Instance is {WELL_KNOWN_INSTANCE}")
    return None
