"""How each kind of callback is called: what it is given, and what its results mean."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from typing import Any, Final

from gateway.dicom.character_sets import CharacterSet
from gateway.log import get_logger
from gateway.matching.answers import AnswerEncoder
from gateway.matching.attributes import Attributes
from gateway.matching.identifier import read_keys
from gateway.matching.keys import InvalidQuery, Key
from gateway.script_host.api.enumerations import ENUMERATIONS
from gateway.script_host.api.find_matcher import FindMatcher
from gateway.script_host.api.instance import ORIGIN_DICOM_PROTOCOL, DicomInstance, Origin
from gateway.script_host.api.queries import (
    DicomConnection,
    FindAnswers,
    FindQuery,
    WorklistAnswers,
    WorklistQuery,
)
from gateway.script_host.kinds import Kind
from gateway.script_host.packets import Packet, mapped
from gateway.script_host.registrations import Registration, Registrations
from gateway.script_host.server import Conversation, Handler, Refused

MAXIMUM_STATUS: Final = 0xFFFF
RECEIVED_INSTANCE_ACTIONS: Final = ENUMERATIONS["ReceivedInstanceAction"]
MAXIMUM_SUB_OPERATIONS: Final = 10_000_000
# Answers of one query that travel in one packet: so many bytes at least, but for the last one.
ANSWERS_BYTES: Final = 1024 * 1024

# StorageCommitmentFailureReason, as Failure Reason (0008,1197).
FAILURE_REASONS: Final = {0: 0, 1: 0x0110, 2: 0x0112, 3: 0x0213, 4: 0x0122, 5: 0x0119, 6: 0x0131}
PROCESSING_FAILURE: Final = 0x0110


class Handlers:
    """The handlers of one host, by kind."""

    def __init__(self, registrations: Registrations, default: CharacterSet, *, case_sensitive_pn: bool) -> None:
        self._registrations = registrations
        self._default = default
        self._case_sensitive_pn = case_sensitive_pn
        self._log = get_logger()

    def by_kind(self) -> dict[Kind, Handler]:
        """For the server."""
        return {
            Kind.FILTER: self._filter,
            Kind.RECEIVED_INSTANCE: self._receive,
            Kind.FIND: self._find,
            Kind.WORKLIST: self._find_worklist,
            Kind.MOVE: self._move,
            Kind.STORAGE_COMMITMENT: self._commit,
        }

    def _registered(self, kind: Kind) -> Registration:
        registration = self._registrations.of(kind)
        if registration is None:
            raise Refused(f"the script has no {kind.text} callback")
        return registration

    def _filter(self, conversation: Conversation, packet: Packet) -> None:
        """0 accepts, 1 to 0xFFFF is the status; anything else is a failure, as in the plugin."""
        header = packet.header
        (function,) = self._registered(Kind.FILTER).functions
        origin = Origin(ORIGIN_DICOM_PROTOCOL, header["remote_aet"], header["called_aet"], header["remote_ip"])
        with mapped(packet.fds[0]) as content:
            instance = DicomInstance(content, origin)
            try:
                result = conversation.perform(Kind.FILTER, header["limit"], lambda: function(instance))
            finally:
                instance._end()
        if not isinstance(result, int) or not 0 <= result <= MAXIMUM_STATUS:
            raise Refused(f"the filter returned {result!r:.100}, which is no status")
        conversation.answer({"status": int(result)})

    def _receive(self, conversation: Conversation, packet: Packet) -> None:
        """As the plugin reads the result: a failure keeps the instance, and what is no other action modifies it."""
        (function,) = self._registered(Kind.RECEIVED_INSTANCE).functions
        with mapped(packet.fds[0]) as content:
            received = bytes(content)
        try:
            result = conversation.perform(
                Kind.RECEIVED_INSTANCE, packet.header["limit"], lambda: function(received, ORIGIN_DICOM_PROTOCOL)
            )
        except Refused as error:
            if error.unavailable:
                raise
            result = None  # it is in the log
        else:
            if not _is_pair(result):
                self._log.error("a received-instance callback returned no action and bytes", result=f"{result!r:.100}")
        if not _is_pair(result) or result[0] == RECEIVED_INSTANCE_ACTIONS["KEEP_AS_IS"]:
            conversation.answer({"action": "keep"})
        elif result[0] == RECEIVED_INSTANCE_ACTIONS["DISCARD"]:
            conversation.answer({"action": "discard"})
        elif not isinstance(result[1], bytes) or not result[1]:
            conversation.answer({"no_instance": "the script modifies it, and returns no bytes"})
        else:
            _write(packet.fds[1], result[1])
            conversation.answer({"action": "modify"})

    def _find(self, conversation: Conversation, packet: Packet) -> None:
        registration = self._registered(Kind.FIND)
        keys = self._keys(packet)
        answers = FindAnswers(self._default)
        self._query(conversation, packet, Kind.FIND, registration, answers, FindQuery(keys))
        self._send(conversation, packet, answers, _all_keys)

    def _find_worklist(self, conversation: Conversation, packet: Packet) -> None:
        registration = self._registered(Kind.WORKLIST)
        keys = self._keys(packet)
        matcher = FindMatcher(keys, self._default, case_sensitive_pn=self._case_sensitive_pn)
        answers = WorklistAnswers(self._default)
        query = WorklistQuery(packet.payload, packet.header["transfer_syntax"], matcher)
        self._query(conversation, packet, Kind.WORKLIST, registration, answers, query)
        self._send(conversation, packet, answers, lambda _attributes: keys)

    def _keys(self, packet: Packet) -> tuple[Key, ...]:
        try:
            return read_keys(packet.payload, packet.header["transfer_syntax"], self._default)
        except InvalidQuery as error:
            raise Refused(str(error)) from error

    @staticmethod
    def _query(
        conversation: Conversation,
        packet: Packet,
        kind: Kind,
        registration: Registration,
        answers: Any,
        query: Any,
    ) -> None:
        (function,) = registration.functions
        header = packet.header
        if registration.has_connection:
            peer: tuple[Any, ...] = (_connection(header),)
        else:
            peer = (header["remote_aet"], header["called_aet"])
        conversation.perform(kind, header["limit"], lambda: function(answers, query, *peer))

    def _send(
        self,
        conversation: Conversation,
        packet: Packet,
        answers: FindAnswers | WorklistAnswers,
        keys_of: Callable[[Attributes], tuple[Key, ...]],
    ) -> None:
        """The answers, encoded for the peer: their lengths in the header, themselves in the payload."""
        transfer_syntax = packet.header["transfer_syntax"]
        pieces: list[bytes] = []
        for attributes in answers._found:
            encoder = AnswerEncoder(keys_of(attributes), transfer_syntax, self._default)
            pieces.append(encoder.encode(attributes))
            if sum(map(len, pieces)) > ANSWERS_BYTES or len(pieces) == 1000:
                conversation.answer({"more": True, "lengths": list(map(len, pieces))}, b"".join(pieces))
                pieces = []
        conversation.answer({"is_complete": answers._is_complete, "lengths": list(map(len, pieces))}, b"".join(pieces))

    def _move(self, conversation: Conversation, packet: Packet) -> None:
        """The life of a move: create and size with the first request, then apply with each, free at the end."""
        registration = self._registered(Kind.MOVE)
        limit_s, request = packet.header["limit"], packet.header["request"]
        create, size, apply, free = _move_functions(registration)
        arguments = (_connection(packet.header),) if registration.has_connection else ()
        if registration.has_connection:
            request = {name: value for name, value in request.items() if name not in ("OriginatorAET", "SourceAET")}
        driver = conversation.perform(Kind.MOVE, limit_s, lambda: create(*arguments, **request))
        try:
            count = conversation.perform(Kind.MOVE, limit_s, lambda: size(driver))
            if not isinstance(count, int) or not 0 <= count <= MAXIMUM_SUB_OPERATIONS:
                raise Refused(f"the size of the move is {count!r:.100}, which is no number of sub-operations")
            conversation.answer({"size": int(count)})
            self._apply(conversation, lambda: apply(driver))
        finally:
            self._free(conversation, limit_s, lambda: free(driver))
        conversation.answer({"freed": True})

    @staticmethod
    def _apply(conversation: Conversation, apply: Callable[[], Any]) -> None:
        while True:
            packet = conversation.next()
            if "end" in packet.header:
                return
            try:
                conversation.perform(Kind.MOVE, packet.header["limit"], apply)
            except Refused as error:
                conversation.answer(error.header())
            else:
                conversation.answer({"done": True})

    def _free(self, conversation: Conversation, limit_s: float, free: Callable[[], Any]) -> None:
        try:
            conversation.perform(Kind.MOVE, limit_s, free)
        except Refused as error:
            self._log.warning("the free function of a move failed", reason=str(error))

    def _commit(self, conversation: Conversation, packet: Packet) -> None:
        """setup once, lookup for each instance; an exception in lookup is a failure of that instance."""
        registration = self._registered(Kind.STORAGE_COMMITMENT)
        setup, lookup = registration.functions
        header, references = packet.header, json.loads(packet.payload)
        classes, instances = [one[0] for one in references], [one[1] for one in references]
        if registration.has_connection:
            peer: tuple[Any, ...] = (_connection(header),)
        else:
            peer = (header["remote_aet"], header["called_aet"])
        job, transaction = str(uuid.uuid4()), header["transaction_uid"]
        limit_s = header["limit"]
        data = conversation.perform(
            Kind.STORAGE_COMMITMENT, limit_s, lambda: setup(job, transaction, classes, instances, *peer)
        )
        reasons: list[int] = []
        for sop_class, sop_instance in references:
            reasons.append(self._reason(conversation, limit_s, lookup, sop_class, sop_instance, data))
            # The caller waits for so long for each of them, not for all.
            conversation.answer({"more": True})
        conversation.answer({}, json.dumps(reasons).encode())

    def _reason(
        self,
        conversation: Conversation,
        limit_s: float,
        lookup: Callable[..., Any],
        sop_class: str,
        sop_instance: str,
        data: Any,
    ) -> int:
        try:
            result = conversation.perform(
                Kind.STORAGE_COMMITMENT, limit_s, lambda: lookup(sop_class, sop_instance, data)
            )
        except Refused:
            return PROCESSING_FAILURE
        if not isinstance(result, int) or result not in FAILURE_REASONS:
            self._log.error("a lookup of storage commitment returned no reason", result=f"{result!r:.100}")
            return PROCESSING_FAILURE
        return FAILURE_REASONS[result]


def _is_pair(result: Any) -> bool:
    return isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], int)


def _write(fd: int, content: bytes) -> None:
    """Raises Refused, when the disk is full for example."""
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise Refused(f"what the script returned cannot be written: {error.strerror}", unavailable=True) from error


def _move_functions(registration: Registration) -> tuple[Callable[..., Any], ...]:
    """create, size, apply, free; RegisterMoveCallback's one function is applied once (plugin 3.2)."""
    if len(registration.functions) > 1:
        return registration.functions
    (function,) = registration.functions
    return (lambda **request: request), (lambda _driver: 1), (lambda driver: function(**driver)), (lambda _driver: None)


def _connection(header: dict[str, Any]) -> DicomConnection:
    return DicomConnection(header["remote_aet"], header["remote_ip"], header["called_aet"])


def _all_keys(attributes: Attributes) -> tuple[Key, ...]:
    return tuple(Key(tag, element.vr) for tag, element in attributes.items())
