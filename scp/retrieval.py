"""What C-MOVE and C-GET have in common (PS3.4 C.4.2, C.4.3): the identifier, the counters, the responses."""

from __future__ import annotations

import struct
import time
from typing import Any, Final

from gateway.archive.interface import (
    ACCESSION_NUMBER,
    AccessDenied,
    ArchiveUnavailable,
    Level,
    QueryRefused,
    TooBroad,
)
from gateway.archive.orthanc_tags import QUERY_RETRIEVE_LEVEL
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.transfer_syntaxes import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from gateway.matching.identifier import key_of, read_keys
from gateway.matching.keys import InvalidQuery, Key
from gateway.moves.interface import IDENTIFIERS, MoveRequest, Outcome, SubOperation
from scp.command_set import Counters, encode_response, p_data_tf
from scp.questions import Asking, Question, check_level, level_of
from scp.responses import Responses
from scp.statuses import SUCCESS, Answer, Status

# PS3.4 leaves open how often: less than a second, so that no requester believes that we are dead.
PENDING_INTERVAL_S: Final = 0.5
CANCELLED: Final = Answer(Status.RETRIEVE_CANCELLED, "cancelled by the peer")

# Of explicit VR with a length of 16 bits (PS3.5 7.1.2), even.
_LONGEST_UI_BYTES: Final = 0xFFFE
_FAILED_SOP_INSTANCE_UID_LIST: Final = (0x0008, 0x0058)


def read_request(question: Question, character_set: CharacterSet, *, guess_level: bool) -> MoveRequest:
    """Decode the identifier of C-MOVE or C-GET. Raises InvalidQuery.

    `guess_level`: of an identifier without a level, which some requesters send, from the keys that it has.
    """
    keys = read_keys(question.identifier, question.transfer_syntax, character_set)
    identifiers = {key.tag: key.values for key in keys if key.tag in IDENTIFIERS.values() and key.values}
    level = _guessed(question, keys, identifiers) if guess_level else level_of(question.abstract_syntax, keys)
    unique_key = level.unique_key
    if unique_key not in identifiers and not (level is Level.STUDY and ACCESSION_NUMBER in identifiers):
        raise InvalidQuery(f"no value, but the level is {level.name}", unique_key, mismatch=True)
    for tag in {each.unique_key for each in Level if each is not Level.PATIENT} & identifiers.keys():
        if any("*" in uid or "?" in uid for uid in identifiers[tag]):
            raise InvalidQuery("wildcards are not for unique keys", tag, mismatch=True)
    request = question.request
    return MoveRequest(
        level=level,
        identifiers=identifiers,
        originator_ae_title=question.calling_ae_title,
        source_ae_title=question.called_ae_title,
        target_ae_title=request.move_destination,
        originator_id=request.message_id,
        originator_address=question.address,
    )


def _guessed(question: Question, keys: tuple[Key, ...], identifiers: dict[int, tuple[str, ...]]) -> Level:
    """As Orthanc's server does: the lowest level that has a key."""
    told = key_of(keys, QUERY_RETRIEVE_LEVEL)
    if told is None or told.is_universal:
        for level in reversed(Level):
            if level.unique_key in identifiers or (level is Level.STUDY and ACCESSION_NUMBER in identifiers):
                check_level(question.abstract_syntax, level)
                return level
    return level_of(question.abstract_syntax, keys)


class Tally:
    """The sub-operations of one retrieval, counted. One thread writes, others may read."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.failed_uids: list[str] = []
        # Why the first one failed: for the log, and for the requester.
        self.first_failure = ""
        self._numbers = dict.fromkeys(Outcome, 0)

    @classmethod
    def of_completed(cls, total: int) -> Tally:
        """All of them, done."""
        tally = cls()
        tally.total = tally._numbers[Outcome.COMPLETED] = total
        return tally

    def add(self, done: SubOperation) -> None:
        """Count one more."""
        if self.total is not None:
            self.total += done.more
        self._numbers[done.outcome] += 1
        if done.outcome is Outcome.FAILED:
            if done.sop_instance_uid:
                self.failed_uids.append(done.sop_instance_uid)
            self.first_failure = self.first_failure or done.reason

    @property
    def done(self) -> int:
        """How many are over, whatever came of them."""
        return sum(self._numbers.values())

    @property
    def is_complete(self) -> bool:
        """Whether nothing remains."""
        return self.done >= (self.total or 0)

    def counters(self, *, remaining: bool) -> Counters:
        """What a response says; `remaining` as well, unless it is the last one (PS3.4 C.4.2.1.6)."""
        completed, warning, failed = (self._numbers[outcome] for outcome in Outcome)
        left = max(0, (self.total or 0) - completed - failed - warning)
        return Counters(left if remaining else None, completed, failed, warning)

    def answer(self) -> Answer:
        """The outcome once all are done (PS3.4 C.4.2.1.5)."""
        failed = self._numbers[Outcome.FAILED]
        if failed and failed == self.total:
            return Answer(Status.RETRIEVE_CANNOT_PERFORM, self.first_failure)
        if failed or self._numbers[Outcome.WARNING]:
            return Answer(Status.RETRIEVE_WARNING, self.first_failure)
        return SUCCESS

    def log(self, log: Any, verb: str, answer: Answer, **more: Any) -> None:
        """Write the one line at the end of a retrieval."""
        counters = self.counters(remaining=True)
        fields = {
            "status": f"0x{answer.status.code:04X}",
            "completed": counters.completed,
            "failed": counters.failed,
            "warnings": counters.warning,
            "remaining": counters.remaining,
            **more,
        }
        if answer.comment:
            fields["reason"] = answer.comment
        if answer.status is Status.SUCCESS:
            log.info(f"{verb} answered", **fields)
        elif answer.status is Status.RETRIEVE_CANCELLED:
            log.info(f"{verb} ended early", **fields)
        else:
            log.warning(f"{verb} answered" if counters.completed else f"{verb} failed", **fields)


class Responder(Responses):
    """The responses to one retrieval."""

    def __init__(self, association: Asking, question: Question) -> None:
        super().__init__(association.upper_layer)
        self._association = association
        self._question = question
        self._next_pending = 0.0
        self.log = association.log.bind(message_id=question.request.message_id)

    def pending(self, tally: Tally) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if tally.total and now >= self._next_pending and self.is_associated:
            self._next_pending = now + PENDING_INTERVAL_S
            request, counters = self._question.request, tally.counters(remaining=True)
            self.send(self._command(encode_response(request, Status.RETRIEVE_PENDING.code, counters=counters)))

    def end(self, tally: Tally, answer: Answer) -> None:
        """Send the final response."""
        if not self.is_associated:
            return
        is_cancel = answer.status is Status.RETRIEVE_CANCELLED
        # Nothing failed in what succeeds, and PS3.4 C.4.2.1.4.2 wants no identifier then.
        failed = b"" if answer.status is Status.SUCCESS else self._failed(tally.failed_uids)
        response = encode_response(
            self._question.request,
            answer.status.code,
            error_comment=answer.comment,
            offending_element=answer.offending_element,
            counters=tally.counters(remaining=is_cancel) if tally.total is not None else None,
            data_set=bool(failed),
        )
        pdus = self._command(response)
        if failed:
            size = self._association.peer_maximum_pdu_bytes
            pdus += p_data_tf(self._question.context_id, failed, size, data_set=True)
        self.send(pdus)

    def _failed(self, uids: list[str]) -> bytes:
        """The identifier with the Failed SOP Instance UID List (0008,0058), nothing without any."""
        if not uids:
            return b""
        value = "\\".join(uids).encode("latin-1")
        value += b"\0" * (len(value) % 2)
        order = ">" if self._question.transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
        tag = struct.pack(order + "HH", *_FAILED_SOP_INSTANCE_UID_LIST)
        if self._question.transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN:
            return tag + struct.pack("<L", len(value)) + value
        if len(value) <= _LONGEST_UI_BYTES:
            return tag + b"UI" + struct.pack(order + "H", len(value)) + value
        # PS3.5 6.2.2: what is too long for its VR is written as UN, which has a length of 32 bits.
        return tag + b"UN\0\0" + struct.pack(order + "L", len(value)) + value

    def _command(self, command: bytes) -> bytes:
        return p_data_tf(self._question.context_id, command, self._association.peer_maximum_pdu_bytes)


def unusable(error: InvalidQuery) -> Answer:
    """The answer to an identifier that cannot be used."""
    status = Status.RETRIEVE_DOES_NOT_MATCH if error.mismatch else Status.RETRIEVE_UNABLE
    return Answer(status, str(error), error.tag)


def uncounted(error: ArchiveUnavailable | TooBroad) -> Answer:
    """The answer when the archive does not tell what there is to be sent."""
    if isinstance(error, AccessDenied):
        return Answer(Status.NOT_AUTHORIZED, str(error))
    if isinstance(error, QueryRefused):
        return Answer(Status.RETRIEVE_UNABLE, str(error))
    return Answer(Status.RETRIEVE_CANNOT_COUNT, str(error))
