"""Queries that a script answers in the place of an archive or of the worklist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from gateway.matching.keys import InvalidQuery
from gateway.script_host.client import ScriptClient, ScriptFailed, ScriptUnavailable
from gateway.script_host.kinds import Kind
from gateway.script_host.packets import Broken
from scp.command_set import Command
from scp.find import Answers, FindOperation, Incomplete, NoAnswers
from scp.questions import Asking, Question, question_of
from scp.services import Begin

Answering = Callable[[Question], Answers]

_LEVELS: Final = {Kind.FIND: "SCRIPT", Kind.WORKLIST: "WORKLIST"}


class ScriptedQueries:
    """Asks the script if it has a callback for this kind of query, else whoever is there without it."""

    def __init__(self, script: ScriptClient, kind: Kind, otherwise: Answering) -> None:
        self._script = script
        self._kind = kind
        self._otherwise = otherwise

    def __call__(self, question: Question) -> Answers:
        """The answers to one query. Raises InvalidQuery and NoAnswers, and what the other one raises."""
        try:
            if not self._script.has(self._kind):
                return self._otherwise(question)
        except ScriptFailed as error:
            raise NoAnswers(str(error)) from error
        return Answers(self._ask(question), said={"query_level": _LEVELS[self._kind], "by": "script"})

    def _ask(self, question: Question) -> Iterator[bytes]:
        header = {
            "remote_aet": question.calling_ae_title,
            "called_aet": question.called_ae_title,
            "remote_ip": question.address,
            "transfer_syntax": question.transfer_syntax,
        }
        try:
            with self._script.call(self._kind) as call:
                packet = call.ask(header, question.identifier)
                yield from _cut(packet.payload, packet.header["lengths"])
                while "more" in packet.header:
                    packet = call.receive()
                    yield from _cut(packet.payload, packet.header["lengths"])
        except (ScriptUnavailable, Broken) as error:
            raise NoAnswers(str(error)) from error
        except ScriptFailed as error:
            # As Orthanc: an exception in a callback is 0xC000, and none of its answers is sent.
            raise InvalidQuery(str(error)) from error
        if not packet.header["is_complete"]:
            raise Incomplete("the script has more matches")


def _cut(payload: bytes, lengths: list[int]) -> Iterator[bytes]:
    position = 0
    for length in lengths:
        yield payload[position : position + length]
        position += length


def begin_scripted(script: ScriptClient, kind: Kind, otherwise: Answering) -> Begin:
    """What begins the operation of a query."""
    queries = ScriptedQueries(script, kind, otherwise)

    def begin(association: Asking, context_id: int, request: Command, identifier: bytes) -> FindOperation:
        return FindOperation(queries, association, question_of(association, context_id, request, identifier))

    return begin


def no_worklist(_question: Question) -> Answers:
    """Where nothing but the script answers queries of the worklist, and it does not any more. Raises NoAnswers."""
    raise NoAnswers("there is no worklist")
