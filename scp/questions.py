"""What C-FIND, C-MOVE and C-GET have in common: a request with an identifier, its association, its level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.archive.interface import Level
from gateway.archive.orthanc_tags import QUERY_RETRIEVE_LEVEL
from gateway.matching.identifier import key_of
from gateway.matching.keys import InvalidQuery, Key
from scp.command_set import Command
from scp.requests import RequestSender
from scp.upper_layer import UpperLayer

# Patient Root (PS3.4 C.6.1): for C-FIND, C-MOVE, C-GET. Study Root (C.6.2.1) has no level PATIENT.
_PATIENT_ROOT: Final = frozenset(f"1.2.840.10008.5.1.4.1.2.1.{service}" for service in (1, 2, 3))
# PS3.4 C.6.1.1, and what Orthanc's server takes for the same.
_LEVELS: Final = {
    "PATIENT": Level.PATIENT,
    "PATIENTS": Level.PATIENT,
    "STUDY": Level.STUDY,
    "STUDIES": Level.STUDY,
    "SERIES": Level.SERIES,
    "IMAGE": Level.IMAGE,
    "IMAGES": Level.IMAGE,
    "INSTANCE": Level.IMAGE,
    "INSTANCES": Level.IMAGE,
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request with an identifier, and where it came from."""

    context_id: int
    request: Command
    abstract_syntax: str
    transfer_syntax: str
    called_ae_title: str
    calling_ae_title: str
    address: str
    identifier: bytes


class Asking(Protocol):
    """What an operation needs of its association."""

    upper_layer: UpperLayer
    requests: RequestSender
    peer_maximum_pdu_bytes: int
    log: Any

    @property
    def address(self) -> str:
        """The peer's IP address."""

    @property
    def accepted_context_ids(self) -> Mapping[int, Any]:
        """Accepted presentation contexts by ID."""


class QuestionOperation:
    """The answering of a question, all but its `run` (scp.operations.Operation)."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._cancelled = False

    @property
    def message_id(self) -> int:
        """See Operation."""
        return self._question.request.message_id

    def cancel(self) -> None:
        """See Operation."""
        self._cancelled = True


def question_of(association: Asking, context_id: int, request: Command, identifier: bytes) -> Question:
    """Put a request together with what its association knows."""
    context = association.accepted_context_ids[context_id]
    called, calling = association.upper_layer.ae_titles
    return Question(
        context_id=context_id,
        request=request,
        abstract_syntax=str(context.abstract_syntax),
        transfer_syntax=str(context.transfer_syntax[0]),
        called_ae_title=called,
        calling_ae_title=calling,
        address=association.address,
        identifier=identifier,
    )


def level_of(abstract_syntax: str, keys: tuple[Key, ...]) -> Level:
    """The Query/Retrieve Level of an identifier. Raises InvalidQuery."""
    key = key_of(keys, QUERY_RETRIEVE_LEVEL)
    name = key.value.strip(" \0").upper() if key is not None else ""
    level = _LEVELS.get(name)
    if level is None:
        reason = "Query/Retrieve Level is unknown" if name else "Query/Retrieve Level is missing"
        raise InvalidQuery(reason, QUERY_RETRIEVE_LEVEL, mismatch=True)
    check_level(abstract_syntax, level)
    return level


def check_level(abstract_syntax: str, level: Level) -> None:
    """Raise InvalidQuery for a level that the information model does not have."""
    if level is Level.PATIENT and abstract_syntax not in _PATIENT_ROOT:
        raise InvalidQuery("Study Root has no level PATIENT", QUERY_RETRIEVE_LEVEL, mismatch=True)
