"""Peers that retrieve: DCMTK's movescu and getscu, and one that counts and chooses every byte."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from tests.support.data_sets import BIG_ENDIAN, EXPLICIT, IMPLICIT, encode
from tests.support.querying import keys
from tests.support.rawdicom import (
    C_STORE_RQ,
    COMMAND,
    LAST,
    P_DATA_TF,
    Context,
    Gone,
    RawPeer,
    command_set,
    p_data,
    pdv,
)
from tests.support.rawscp import Message, response

MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
PATIENT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
C_GET_RQ, C_MOVE_RQ, C_CANCEL_RQ = 0x0010, 0x0021, 0x0FFF
PENDING: Final = 0xFF00
TIMEOUT_S: Final = 60
_FINAL = re.compile(r"DIMSE Status\s+: 0x([0-9a-f]{4})")


def movescu(port: int, destination: str, *arguments: str, calling: str = "MOVESCU", called: str = "ORTHANC") -> int:
    """DCMTK's movescu with keys such as "StudyInstanceUID=1.2" or options; the status of its last response."""
    return _run("movescu", port, called, ["-aem", destination, "-aet", calling], arguments)


def getscu(port: int, *arguments: str, folder: str, calling: str = "GETSCU", called: str = "ORTHANC") -> int:
    """DCMTK's getscu, which writes into `folder`; the status of its last response."""
    return _run("getscu", port, called, ["-od", folder, "-aet", calling], arguments)


def _run(tool: str, port: int, called: str, options: Sequence[str], arguments: Sequence[str]) -> int:
    given = [part for one in arguments for part in ([one] if one.startswith(("-", "+")) else ["-k", one])]
    command = [f"/usr/bin/{tool}", "-d", "-aec", called, *options, *given, "127.0.0.1", str(port)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    printed = (ended.stdout + ended.stderr).decode("latin-1")
    statuses = _FINAL.findall(printed)
    assert statuses, printed
    return int(statuses[-1], 16)


@dataclass(frozen=True)
class Told:
    """A response to C-MOVE or C-GET. Counters that it does not have are None."""

    status: int
    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None
    comment: str = ""
    offending_element: int | None = None
    failed_uids: tuple[str, ...] = ()

    @property
    def counters(self) -> tuple[int | None, ...]:
        return self.remaining, self.completed, self.failed, self.warning


class Retriever(RawPeer):
    """A peer with one association for C-MOVE, or for C-GET."""

    def open(
        self,
        abstract_syntax: str = MOVE,
        storage: Sequence[Context] = (),
        *,
        transfer_syntax: str = EXPLICIT,
        calling: str = "RETRIEVER",
        roles: bool = True,
        **options: object,
    ) -> Retriever:
        """`storage`: contexts for C-GET, with SCP role unless not `roles`."""
        self.abstract_syntax, self.syntax = abstract_syntax, transfer_syntax
        self.storage = {context.id: context.abstract_syntax for context in storage}
        information = b"".join(_role(uid) for uid in dict.fromkeys(self.storage.values())) if roles else b""
        contexts = [Context(1, abstract_syntax, [transfer_syntax]), *storage]
        answer = self.associate(contexts, calling=calling, user_information=information, **options)
        assert answer.results[1] == 0
        self.transfer_syntaxes = answer.transfer_syntaxes
        self.results = answer.results
        return self

    def ask(self, identifier: Dataset | bytes | None, destination: str = "", message_id: int = 1) -> None:
        data = encode(identifier, self.syntax) if isinstance(identifier, Dataset) else identifier
        field = C_MOVE_RQ if destination else C_GET_RQ
        elements: dict[int, int | str | bytes] = {0x0002: self.abstract_syntax, 0x0100: field, 0x0110: message_id}
        if destination:
            elements[0x0600] = destination.encode() + b" " * (len(destination) % 2)
        self.message(1, command_set({**elements, 0x0700: 0, 0x0800: 0x0101 if data is None else 1}), data)

    def cancel(self, message_id: int = 1) -> None:
        elements = {0x0100: C_CANCEL_RQ, 0x0120: message_id, 0x0800: 0x0101}
        self.send(p_data(pdv(1, COMMAND | LAST, command_set(elements))))

    def next(self) -> Told | Message:
        """The next response, or a C-STORE request. Raises Gone."""
        message = self._message()
        if message.number(0x0100) == C_STORE_RQ:
            return message
        values = message.values
        data_set = self._identifier(message.data_set)
        uids = data_set.get("FailedSOPInstanceUIDList") or ()
        if isinstance(uids, bytes):  # UN, as what is too long for its VR (PS3.5 6.2.2)
            uids = uids.rstrip(b"\0").decode().split("\\")
        numbers = [message.number(element) if element in values else None for element in range(0x1020, 0x1024)]
        offending = values.get(0x0901)
        return Told(
            message.number(0x0900),
            *numbers,
            comment=values.get(0x0902, b"").decode("ascii").rstrip(" "),
            offending_element=None if offending is None else _tag(offending),
            failed_uids=(uids,) if isinstance(uids, str) else tuple(uids),
        )

    def told(self) -> Told:
        """The next response of a C-MOVE."""
        told = self.next()
        assert isinstance(told, Told)
        return told

    def responses(self, take: Callable[[Message], int] = lambda message: 0) -> list[Told]:
        """All responses up to the last; `take` gives the status for each C-STORE request that comes between."""
        told: list[Told] = []
        while not told or told[-1].status == PENDING:
            message = self.next()
            if isinstance(message, Told):
                told.append(message)
            else:
                self.answer(message, take(message))
        return told

    def answer(self, request: Message, status: int = 0) -> None:
        self.send(response(request.context_id, C_STORE_RQ, request.message_id, status))

    def move(self, destination: str, level: str, **values: str) -> Told:
        """A C-MOVE; its last response."""
        self.ask(keys(level, **values), destination)
        return self.responses()[-1]

    def _identifier(self, data: bytes) -> Dataset:
        return read_dataset(BytesIO(data), self.syntax == IMPLICIT, self.syntax != BIG_ENDIAN)

    def _message(self) -> Message:
        command, data_set, values = b"", b"", {}
        while True:
            for context_id, control, piece in self._pdvs():
                if control & COMMAND:
                    command += piece
                    if control & LAST:
                        values = dict(_elements(command))
                        if values[0x0800] == b"\x01\x01":
                            return Message(context_id, values, b"", ())
                else:
                    data_set += piece
                    if control & LAST:
                        return Message(context_id, values, data_set, ())

    def _pdvs(self) -> Iterator[tuple[int, int, bytes]]:
        pdu = self.read_pdu()
        if pdu.type != P_DATA_TF:
            raise Gone
        body = pdu.body
        while body:
            length, context_id, control = struct.unpack_from(">LBB", body)
            yield context_id, control, body[6 : 4 + length]
            body = body[4 + length :]


def _role(uid: str) -> bytes:
    return struct.pack(">BxHH", 0x54, len(uid) + 4, len(uid)) + uid.encode() + b"\x00\x01"


def _tag(value: bytes) -> int:
    group, element = struct.unpack("<HH", value)
    return int(group << 16 | element)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        _group, number, length = struct.unpack_from("<HHL", data)
        yield number, data[8 : 8 + length]
        data = data[8 + length :]
