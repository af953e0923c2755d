"""The destination of a C-MOVE as a Target (gateway.moves.interface): associations of ours, opened when there is
something to send, opened again when they break. Every wait is bounded, and so is what is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from gateway.archive.interface import EncodedInstance, InstanceReference
from gateway.moves.interface import Acceptance, Outcome, SubOperation, TargetLost
from scp.association_errors import (
    AssociationError,
    AssociationRejected,
    AssociationTimedOut,
    ConnectionFailed,
    ContextNotAccepted,
    DataSetUnavailable,
    NoContextAccepted,
)
from scp.command_set import MoveOriginator, Response
from scp.data_set_sources import Chunks
from scp.requestor import Destination, ProposedContext, RequestorAssociation
from scp.scu import StoredInstance, c_store
from scp.store_contexts import Accepted, Transcoding, propose

# An association is opened again this often before a destination is given up.
OPEN_ATTEMPTS: Final = 3
OPEN_PAUSE_S: Final = 1.0
# So many instances in a row without a response, and the destination is given up.
MAXIMUM_LOST_IN_A_ROW: Final = 3

# Result of A-ASSOCIATE-RJ (PS3.8 table 9-21): rejected-transient.
_TRANSIENT: Final = 2
# PS3.7 C.4: warnings outside 0xBxxx.
_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116})


def outcome_of(response: Response, sop_instance_uid: str) -> SubOperation:
    """What the response to a C-STORE means for the sub-operation."""
    status = response.status
    if status == 0:
        return SubOperation(Outcome.COMPLETED, sop_instance_uid)
    comment = f": {response.error_comment}" if response.error_comment else ""
    reason = f"the receiver answered 0x{status:04X}{comment}"
    is_warning = status & 0xF000 == 0xB000 or status in _WARNINGS
    return SubOperation(Outcome.WARNING if is_warning else Outcome.FAILED, sop_instance_uid, reason)


class DestinationTarget:
    """Sends to one destination, for one move. `interrupt` is for other threads."""

    def __init__(self, destination: Destination, originator: MoveOriginator, transcoding: Transcoding) -> None:
        self._destination = destination
        self._originator = originator
        self._transcoding = transcoding
        self._contexts: tuple[ProposedContext, ...] = ()
        self._association: RequestorAssociation | None = None
        self._was_open = False
        self._lost_in_a_row = 0
        # Why nothing more is tried.
        self._given_up = ""
        self._interrupted = threading.Event()

    def begin(self, instances: Sequence[InstanceReference]) -> list[Acceptance]:
        """See Target."""
        self.close()
        proposal = propose(instances, self._transcoding)
        self._contexts = proposal.contexts
        covered = instances[: proposal.count]
        if not self._contexts:  # nobody knows what they are
            return [Accepted((), self._transcoding).acceptance(instance) for instance in covered]
        try:
            accepted = self._accepted(self._open())
        except NoContextAccepted as error:
            return [Acceptance(refusal=str(error))] * len(covered)
        except AssociationError as error:
            self._given_up = self._given_up or str(error)
            return [Acceptance(refusal=self._given_up)] * len(instances)
        return [accepted.acceptance(instance) for instance in covered]

    def store(
        self, instance: InstanceReference, encoded: EncodedInstance, on_sent: Callable[[], None] | None = None
    ) -> SubOperation:
        """See Target."""
        uid = instance.sop_instance_uid
        if self._given_up:
            return SubOperation(Outcome.FAILED, uid, self._given_up)
        try:
            association = self._association or self._open()
        except AssociationError as error:
            self._given_up = str(error)
            return SubOperation(Outcome.FAILED, uid, self._given_up)
        stored = StoredInstance(instance.sop_class_uid, uid, encoded.transfer_syntax_uid)
        data_set = Chunks(encoded.chunks, encoded.size_bytes)
        try:
            response = c_store(
                association.requests,
                stored,
                data_set,
                timeout_s=self._destination.timeout_s,
                move_originator=self._originator,
                on_sent=on_sent,
            )
        except (ContextNotAccepted, DataSetUnavailable) as error:
            return SubOperation(Outcome.FAILED, uid, str(error))
        except AssociationError as error:
            self.close()  # the peer may have asked for a release
            return self._lost(uid, error)
        finally:
            if association.upper_layer.is_closed:
                self._association = None
        self._lost_in_a_row = 0
        return outcome_of(response, uid)

    def waiting(self) -> None:
        """See Target: the requester is told by another thread."""

    def interrupt(self) -> None:
        """End what is under way; called from another thread. What is asked for afterwards fails at once."""
        self._given_up = self._given_up or "the move was ended"
        self._interrupted.set()
        association = self._association
        if association is not None:
            association.interrupt()

    def close(self) -> None:
        """Release the association, if there is one."""
        association, self._association = self._association, None
        if association is not None:
            association.release()

    def _lost(self, uid: str, error: AssociationError) -> SubOperation:
        """The association ended before the response. Whoever is silent once will be so again."""
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= MAXIMUM_LOST_IN_A_ROW:
            self._given_up = self._given_up or str(error)
        if self._given_up or isinstance(error, AssociationTimedOut):
            return SubOperation(Outcome.FAILED, uid, str(error))
        raise TargetLost(str(error)) from error

    def _open(self) -> RequestorAssociation:
        """Open an association. Raises AssociationError."""
        attempt = 0
        while True:
            attempt += 1
            if self._given_up:
                raise ConnectionFailed(self._given_up)
            association = RequestorAssociation(self._destination, self._contexts)
            # from now on it can be interrupted
            self._association = association
            try:
                association.open()
            except AssociationError as error:
                self._association = None
                if attempt == OPEN_ATTEMPTS or not self._may_pass(error):
                    raise
                self._interrupted.wait(OPEN_PAUSE_S)
                continue
            self._was_open = True
            return association

    def _may_pass(self, error: AssociationError) -> bool:
        """Whether it is worth the wait: who is full may have room again, who has just been there may be restarting."""
        if isinstance(error, AssociationRejected):
            return error.result == _TRANSIENT
        return self._was_open and not isinstance(error, AssociationTimedOut | NoContextAccepted)

    def _accepted(self, association: RequestorAssociation) -> Accepted:
        contexts = association.accepted_context_ids.values()
        return Accepted(
            ((str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in contexts if c.as_scu), self._transcoding
        )
