"""Modality Worklist as SCP (PS3.4 Annex K): the DIMSE side of worklist.queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from gateway.database import Database, DatabaseError
from gateway.dicom.character_sets import ASCII, SINGLE_BYTE, UTF_8, CharacterSet, of_orthanc, requested
from gateway.log import get_logger
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes, name_of
from gateway.matching.identifier import SPECIFIC_CHARACTER_SET, key_of, read_keys
from gateway.matching.keys import Key
from gateway.options.config import Configuration
from scp.command_set import Command
from scp.find import Answers, FindOperation, NoAnswers
from scp.questions import Asking, Question, question_of
from scp.statuses import Status
from worklist import items
from worklist.items import Status as StepStatus
from worklist.performed.shown import ShownLog
from worklist.queries import View, WorklistQuery

# How many tags a log line names, and how much of a value.
LOGGED_TAGS: Final = 10
LOGGED_CHARACTERS: Final = 64
# Keys whose values are in the log: they say what a modality is configured to ask for, and nothing of a patient.
_LOGGED_VALUES: Final = {
    items.SCHEDULED_STATION_AE_TITLE: "station",
    items.MODALITY: "modality",
    items.SCHEDULED_DATE: "date",
    items.SCHEDULED_TIME: "time",
    items.SCHEDULED_PROCEDURE_STEP_STATUS: "step_status",
}


class WorklistFindService:
    """What the worklist queries of a worker share: the store, options."""

    def __init__(self, configuration: Configuration, database: Database, shown: ShownLog) -> None:
        """Call it only if `configuration` has a worklist."""
        options, orthanc = configuration.worklist, configuration.orthanc
        if options is None:
            raise ValueError("there is no worklist in this configuration")
        self._database = database
        self._shown = shown
        self._strict_ae_titles = orthanc.strict_aet_comparison
        self._case_sensitive_pn = orthanc.case_sensitive_pn
        self._hidden_statuses = frozenset(map(StepStatus, options.hidden_statuses))
        self._has_partitions = options.partition_by_called_aet
        self._only_own_station = options.filters_issuer_aet(orthanc.worklists)
        self._limit = options.limit(orthanc.worklists) or None
        self._warns = options.warn_unsupported_keys
        self._default = _character_set(orthanc.default_encoding)
        self._forced = {
            self._title(title): _character_set(encoding) for title, encoding in options.character_sets.items()
        }

    def operation(self, association: Asking, context_id: int, request: Command, identifier: bytes) -> FindOperation:
        """Make a request ready to be run."""
        question = question_of(association, context_id, request, identifier)
        log = association.log.bind(message_id=request.message_id)
        return FindOperation(partial(self.answers, log=log), association, question)

    def answers(self, question: Question, log: Any = None) -> Answers:
        """Decode the identifier and look for matches. Raises InvalidQuery at once, NoAnswers later."""
        forced = self._forced.get(self._title(question.calling_ae_title))
        keys = read_keys(question.identifier, question.transfer_syntax, forced or self._default)
        view = View(
            station=question.calling_ae_title if self._only_own_station else None,
            partitions=(question.called_ae_title, "") if self._has_partitions else None,
            hidden_statuses=self._hidden_statuses,
            case_sensitive_pn=self._case_sensitive_pn,
        )
        query = WorklistQuery(keys, view)
        first, *others = [forced] if forced is not None else self._character_sets(keys)
        encoder = AnswerEncoder(keys, question.transfer_syntax, first, others)
        warns = self._warns and bool(query.unsupported)
        return Answers(
            self._encoded(self._noted(query, question.calling_ae_title), encoder, first, log or get_logger()),
            self._limit,
            Status.FIND_PENDING_WARNING if warns else Status.FIND_PENDING,
            _said(query),
        )

    def _noted(self, query: WorklistQuery, calling: str) -> Iterator[Attributes]:
        """The responses; what of them was sent is noted, whoever ends the query."""
        sent: list[int] = []
        try:
            yield from query.find(self._database, lambda item: sent.append(item.id))
        finally:
            self._shown.note(sent, calling)

    def _character_sets(self, keys: tuple[Key, ...]) -> list[CharacterSet]:
        """What an answer is encoded in: the first of these that can hold it.

        What the modality asked for, then what any modality understands, ours, one byte for each character, UTF-8.
        """
        key = key_of(keys, SPECIFIC_CHARACTER_SET)
        asked = requested(key.value) if key is not None else None
        return [*([asked] if asked is not None else []), ASCII, self._default, *SINGLE_BYTE, UTF_8]

    @staticmethod
    def _encoded(
        found: Iterator[Attributes], encoder: AnswerEncoder, character_set: CharacterSet, log: Any
    ) -> Iterator[bytes]:
        is_said = False
        try:
            for attributes in found:
                answer = encoder.encode(attributes)
                if encoder.replaced and not is_said:
                    terms = "\\".join(character_set.terms) or "ASCII"
                    log.warning("characters of the worklist replaced by question marks", character_set=terms)
                    is_said = True
                yield answer
        except DatabaseError as error:
            log.error("the worklist cannot be read", reason=str(error))
            raise NoAnswers("the worklist's database does not answer") from error

    def _title(self, ae_title: str) -> str:
        return ae_title if self._strict_ae_titles else ae_title.upper()


def _character_set(encoding: str) -> CharacterSet:
    return ASCII if encoding == "Ascii" else of_orthanc(encoding)


def _said(query: WorklistQuery) -> Mapping[str, str]:
    said = {"query_level": "WORKLIST"}
    for key in query.compared:
        if key.tag in _LOGGED_VALUES:
            said[_LOGGED_VALUES[key.tag]] = key.value.strip(" \0")[:LOGGED_CHARACTERS]
    others = [name_of(key.tag) for key in query.compared if key.tag not in _LOGGED_VALUES]
    if others:
        said["keys"] = ",".join(others[:LOGGED_TAGS])
    if query.unsupported:
        said["ignored_keys"] = ",".join(map(name_of, query.unsupported[:LOGGED_TAGS]))
    return said
