"""The Query service class as SCP (PS3.4 C.4.1): from an identifier to its matches, one response for each.

Responses go out as matches are found, at the speed at which the peer reads them. Before each write the peer is listened
to, and while none are found (gateway.waiting).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.archive.interface import (
    AccessDenied,
    Archives,
    ArchiveUnavailable,
    Level,
    Query,
    QueryRefused,
    TooBroad,
)
from gateway.archive.orthanc_tags import QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE
from gateway.dicom.character_sets import of_orthanc
from gateway.matching.answers import AnswerEncoder
from gateway.matching.identifier import key_of, read_keys
from gateway.matching.keys import InvalidQuery, Key
from gateway.options.config import Configuration
from gateway.waiting import Unwanted, listening
from scp.command_set import Command, encode_response, p_data_tf
from scp.questions import Asking, Question, QuestionOperation, level_of, question_of
from scp.response_batch import ResponseBatch
from scp.responses import Responses
from scp.statuses import SUCCESS, Answer, Status

# What each answer has, asked for or not (PS3.4 C.4.1.1.3.2; Retrieve AE Title as Orthanc's server does).
_ALWAYS: Final = (Key(QUERY_RETRIEVE_LEVEL, "CS"), Key(RETRIEVE_AE_TITLE, "AE"))
_CANCELLED: Final = Answer(Status.FIND_CANCELLED, "cancelled by the peer")


class NoAnswers(Exception):
    """What would answer cannot do so now. The text is for the peer."""


class Incomplete(Exception):
    """There are more answers than those that were found. The text is for the peer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to one query: encoded identifiers as they are found, and how many may be sent; None for any.

    `pending` is the status of each. `said` is for the log.
    """

    matches: Iterator[bytes]
    limit: int | None = None
    pending: Status = Status.FIND_PENDING
    said: Mapping[str, str] = field(default_factory=dict)


class FindService:
    """What the queries of a worker share: archives, options."""

    def __init__(self, configuration: Configuration, archives: Archives) -> None:
        self._options = configuration.orthanc
        self._character_set = of_orthanc(configuration.orthanc.default_encoding)
        self._archives = archives

    def operation(self, association: Asking, context_id: int, request: Command, identifier: bytes) -> FindOperation:
        """Make a request ready to be run."""
        question = question_of(association, context_id, request, identifier)
        return FindOperation(self.answers, association, question)

    def answers(self, question: Question) -> Answers:
        """Decode the identifier and ask the archive. Raises InvalidQuery at once, the others of Archive.find later."""
        keys = read_keys(question.identifier, question.transfer_syntax, self._character_set)
        query = Query(level_of(question.abstract_syntax, keys), keys)
        asked_for = (*query.keys, *(key for key in _ALWAYS if key_of(query.keys, key.tag) is None))
        encoder = AnswerEncoder(asked_for, question.transfer_syntax, self._character_set)
        matches = self._archives.of(question.called_ae_title).answers(query, encoder)
        return Answers(matches, self._limit(query.level), said={"query_level": query.level.name})

    def _limit(self, level: Level) -> int | None:
        """LimitFindInstances or LimitFindResults; None for no limit."""
        options = self._options
        return (options.limit_find_instances if level is Level.IMAGE else options.limit_find_results) or None


class FindOperation(QuestionOperation):
    """One query (scp.operations.Operation)."""

    def __init__(self, answers: Callable[[Question], Answers], association: Asking, question: Question) -> None:
        super().__init__(question)
        self._answers = answers
        self._association = association
        self._responses = Responses(association.upper_layer)
        self._log = association.log.bind(message_id=question.request.message_id)
        self._batch = ResponseBatch()

    def run(self) -> None:
        """See Operation."""
        started = time.monotonic()
        said: Mapping[str, str] = {}
        try:
            with listening(self._listen):
                answers = self._answers(self._question)
                said = answers.said
                answer = self._send_matches(answers)
        except InvalidQuery as error:
            status = Status.FIND_DOES_NOT_MATCH if error.mismatch else Status.FIND_UNABLE
            answer = Answer(status, str(error), error.tag)
        except AccessDenied as error:
            answer = Answer(Status.NOT_AUTHORIZED, f"the archive refuses the gateway: {error}")
        except QueryRefused as error:
            answer = Answer(Status.FIND_UNABLE, f"the archive does not take the query: {error}")
        except ArchiveUnavailable as error:
            answer = Answer(Status.FIND_OUT_OF_RESOURCES, f"the archive does not answer: {error}")
        except Incomplete as error:
            answer = Answer(Status.FIND_CANCELLED, str(error))
        except NoAnswers as error:
            answer = Answer(Status.FIND_OUT_OF_RESOURCES, str(error))
        except TooBroad as error:
            answer = Answer(Status.FIND_OUT_OF_RESOURCES, f"the query matches too much: {error}")
        except Unwanted:
            answer = self._unwanted()
        if answer is None:
            return  # nobody is there any more
        self._end(answer, said, time.monotonic() - started)

    def _send_matches(self, answers: Answers) -> Answer | None:
        """Send a response for each, but for the last, which go with the end; None if the peer wants to hear no end."""
        question = self._question
        size = self._association.peer_maximum_pdu_bytes
        pending = encode_response(question.request, answers.pending.code, data_set=True)
        command = p_data_tf(question.context_id, pending, size)
        batch, end = self._batch, SUCCESS
        for answer in answers.matches:
            if batch.responses == answers.limit:
                end = Answer(Status.FIND_CANCELLED, f"more than {answers.limit} matches")
                break
            batch.add(command + p_data_tf(question.context_id, answer, size, data_set=True))
            if batch.is_due:
                self._listen()
                self._responses.send(batch.take())
        self._listen()
        return end

    def _listen(self) -> None:
        """Raise Unwanted if the peer no longer wants to hear what matches."""
        self._responses.listen()
        if self._cancelled or not self._responses.is_associated:
            raise Unwanted

    def _unwanted(self) -> Answer | None:
        self._batch.clear()
        return _CANCELLED if self._responses.is_associated else None

    def _end(self, answer: Answer, said: Mapping[str, str], seconds: float) -> None:
        question = self._question
        status = f"0x{answer.status.code:04X}"
        last = self._batch.take()
        done = {**said, "matches": self._batch.taken, "seconds": round(seconds, 3)}
        if answer.status in (Status.SUCCESS, Status.FIND_CANCELLED):
            reason = {"reason": answer.comment} if answer.comment else {}
            self._log.info("C-FIND answered", status=status, **reason, **done)
        else:
            self._log.warning("C-FIND failed", status=status, reason=answer.comment, **done)
        response = encode_response(
            question.request,
            answer.status.code,
            error_comment=answer.comment,
            offending_element=answer.offending_element,
        )
        self._responses.send(last + p_data_tf(question.context_id, response, self._association.peer_maximum_pdu_bytes))
