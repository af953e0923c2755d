"""A DICOM peer made of bytes (PS3.8 9.3, PS3.7 6.3): it sends what no library would, and reads the answers.

Nothing here is checked before it is sent, and nothing is shared with the gateway's own encoders and decoders.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.support.data_sets import EXPLICIT, element

TIMEOUT_S: Final = 30

A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF = 1, 2, 3, 4
A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 5, 6, 7

# Message control header (PS3.8 annex E.2).
COMMAND, DATA_SET, LAST = 1, 0, 2

VERIFICATION: Final = "1.2.840.10008.1.1"
CT_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"

C_STORE_RQ, C_ECHO_RQ, RESPONSE = 0x0001, 0x0030, 0x8000
WITH_DATA_SET, WITHOUT_DATA_SET = 0x0000, 0x0101

_APPLICATION_CONTEXT: Final = b"1.2.840.10008.3.1.1.1"

# The value representations of the command elements that are no UIDs and no text (PS3.7 annex E).
_US, _UL, _AT = "<H", "<L", "<L"


class Gone(Exception):
    """The other side has closed or reset the connection."""


@dataclass(frozen=True)
class Pdu:
    """One PDU: its type and what follows its length."""

    type: int
    body: bytes


@dataclass(frozen=True)
class Context:
    """One proposed presentation context. Transfer syntaxes in the order in which they are sent."""

    id: int
    abstract_syntax: str = CT_IMAGE
    transfer_syntaxes: Sequence[str] = (EXPLICIT,)


@dataclass(frozen=True)
class Association:
    """What the A-ASSOCIATE-AC says: by context ID, the result and the transfer syntax."""

    results: Mapping[int, int]
    transfer_syntaxes: Mapping[int, str]
    maximum_pdu_bytes: int


@dataclass(frozen=True)
class Rejected(Exception):
    """A-ASSOCIATE-RJ: result, source and reason (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True)
class Response:
    """A DIMSE response; `values` has all elements of its command set by element number."""

    context_id: int
    values: Mapping[int, bytes] = field(repr=False)

    @property
    def status(self) -> int:
        return self._number(0x0900)

    @property
    def message_id(self) -> int:
        return self._number(0x0120)

    @property
    def comment(self) -> str:
        return self.values.get(0x0902, b"").decode("ascii").rstrip(" ")

    @property
    def offending_element(self) -> int | None:
        value = self.values.get(0x0901)
        if value is None:
            return None
        group, number = struct.unpack("<HH", value)
        return int(group << 16 | number)

    def _number(self, number: int) -> int:
        return int.from_bytes(self.values[number], "little")


def pdu(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Encodes a PDU; `length` is what it announces, if not the truth."""
    return struct.pack(">BxL", kind, len(body) if length is None else length) + body


def pdv(context_id: int, control: int, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Encodes a presentation data value item of a P-DATA-TF PDU; `length` as for pdu()."""
    return struct.pack(">LBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*pdvs: bytes) -> bytes:
    """Encodes a P-DATA-TF PDU of these presentation data values."""
    return pdu(P_DATA_TF, b"".join(pdvs))


def associate_rq(
    contexts: Iterable[Context],
    *,
    calling: str | bytes = "RAW",
    called: str | bytes = "ORTHANC",
    maximum_pdu_bytes: int = 16384,
    user_information: bytes = b"",
    protocol_version: int = 1,
    application_context: bytes | None = _APPLICATION_CONTEXT,
) -> bytes:
    """Encodes an A-ASSOCIATE-RQ (PS3.8 9.3.2); `user_information` are more sub-items of it. None: no such item."""
    items = [] if application_context is None else [_item(0x10, application_context)]
    for context in contexts:
        syntaxes = b"".join(_item(0x40, syntax.encode("latin-1")) for syntax in context.transfer_syntaxes)
        abstract = _item(0x30, context.abstract_syntax.encode("latin-1"))
        items.append(_item(0x20, bytes([context.id, 0, 0, 0]) + abstract + syntaxes))
    maximum = _item(0x51, struct.pack(">L", maximum_pdu_bytes))
    items.append(_item(0x50, maximum + _item(0x52, b"1.2.3.4") + user_information))
    titles = _ae_title(called) + _ae_title(calling)
    return pdu(A_ASSOCIATE_RQ, struct.pack(">Hxx", protocol_version) + titles + bytes(32) + b"".join(items))


def command_set(elements: Mapping[int, int | str | bytes]) -> bytes:
    """Encodes a command set: numbers as US, text as UID padded with NUL, bytes as they are. In the order given."""
    body = b""
    for number, value in elements.items():
        data = struct.pack(_US, value) if isinstance(value, int) else value
        if isinstance(data, str):
            data = data.encode("latin-1")
            data += b"\0" * (len(data) % 2)
        body += struct.pack("<HHL", 0, number, len(data)) + data
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_rq(
    sop_instance_uid: str | bytes,
    *,
    sop_class_uid: str | bytes = CT_IMAGE,
    message_id: int = 1,
    data_set_type: int = WITH_DATA_SET,
) -> bytes:
    """Encodes the command set of a C-STORE-RQ (PS3.7 table 9.3-1)."""
    return command_set(
        {
            0x0002: sop_class_uid,
            0x0100: C_STORE_RQ,
            0x0110: message_id,
            0x0700: 0,
            0x0800: data_set_type,
            0x1000: sop_instance_uid,
        }
    )


def echo_rq(message_id: int = 1) -> bytes:
    """Encodes the command set of a C-ECHO-RQ (PS3.7 table 9.3-12)."""
    return command_set({0x0002: VERIFICATION, 0x0100: C_ECHO_RQ, 0x0110: message_id, 0x0800: WITHOUT_DATA_SET})


def image(
    sop_instance_uid: str,
    *,
    sop_class_uid: str = CT_IMAGE,
    study: str | None = "2.25.1",
    series: str | None = "2.25.2",
    patient_id: str | None = "PID",
    rest: bytes = b"",
    syntax: str = EXPLICIT,
) -> bytes:
    """Encodes a data set with the attributes that decide its fate (None: absent), then `rest`."""
    parts = [element(0x00080016, "UI", _even(sop_class_uid, b"\0"), syntax)]
    parts.append(element(0x00080018, "UI", _even(sop_instance_uid, b"\0"), syntax))
    if patient_id is not None:
        parts.append(element(0x00100020, "LO", _even(patient_id, b" "), syntax))
    if study is not None:
        parts.append(element(0x0020000D, "UI", _even(study, b"\0"), syntax))
    if series is not None:
        parts.append(element(0x0020000E, "UI", _even(series, b"\0"), syntax))
    return b"".join(parts) + rest


class RawPeer:
    """One connection to a DICOM port, with TLS if there is a `context`.

    All waits end after `timeout_s` with an AssertionError. `source` is the address that it comes from: any of
    127.0.0.0/8 is this machine's.
    """

    def __init__(
        self,
        port: int,
        *,
        timeout_s: float = TIMEOUT_S,
        host: str = "127.0.0.1",
        source: str | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        address = None if source is None else (source, 0)
        self.socket = socket.create_connection((host, port), timeout=timeout_s, source_address=address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, suppress_ragged_eofs=False)
        self._timeout_s = timeout_s

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @contextmanager
    def in_one_segment(self) -> Iterator[None]:
        """What is sent in the block arrives together (TCP_CORK), if it is small."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        yield
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def send(self, data: bytes) -> None:
        """Sends bytes as they are. Raises Gone."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone from error

    def read_pdu(self) -> Pdu:
        """The next PDU. Raises Gone."""
        kind, length = struct.unpack(">BxL", self._read(6))
        return Pdu(kind, self._read(length))

    def ends(self) -> list[Pdu]:
        """Reads until the other side closes; what it still had to say."""
        said = []
        try:
            while True:
                said.append(self.read_pdu())
        except Gone:
            return said

    def associate(self, contexts: Iterable[Context] = (Context(1),), **options: object) -> Association:
        """Sends an A-ASSOCIATE-RQ (options as for associate_rq). Raises Rejected or Gone."""
        self.send(associate_rq(contexts, **options))  # type: ignore[arg-type]
        answer = self.read_pdu()
        if answer.type == A_ASSOCIATE_RJ:
            raise Rejected(*answer.body[1:4])
        assert answer.type == A_ASSOCIATE_AC, answer
        return _association(answer.body)

    def message(self, context_id: int, command: bytes, data_set: bytes | None = None) -> None:
        """Sends a message, in PDUs of at most 16 KiB."""
        self.send(p_data(pdv(context_id, COMMAND | LAST, command)))
        if data_set is not None:
            self.send_data_set(context_id, [data_set])

    def send_data_set(self, context_id: int, pieces: Iterable[bytes], pdv_bytes: int = 16376) -> None:
        """Sends a data set; an empty one as one PDV without data."""
        pending = b""
        for piece in pieces:
            for start in range(0, len(piece), pdv_bytes):
                if pending:
                    self.send(p_data(pdv(context_id, DATA_SET, pending)))
                pending = piece[start : start + pdv_bytes]
        self.send(p_data(pdv(context_id, DATA_SET | LAST, pending)))

    def response(self) -> Response:
        """The next response, in one PDU or several. Raises Gone; AssertionError if it is no P-DATA-TF."""
        data, control = b"", 0
        while not control & LAST:
            answer = self.read_pdu()
            assert answer.type == P_DATA_TF, answer
            length, context_id, control = struct.unpack_from(">LBB", answer.body)
            assert control & COMMAND, "a data set instead of a response"
            data += answer.body[6 : 4 + length]
        return Response(context_id, dict(_elements(data)))

    def store(
        self, sop_instance_uid: str, data_set: bytes | None = None, context_id: int = 1, message_id: int = 1
    ) -> Response:
        """Stores a CT image (a small sound one if no data set is given) and returns the response."""
        content = image(sop_instance_uid) if data_set is None else data_set
        self.message(context_id, store_rq(sop_instance_uid, message_id=message_id), content)
        return self.response()

    def echo(self, context_id: int = 1, message_id: int = 1) -> Response:
        """One C-ECHO."""
        self.message(context_id, echo_rq(message_id))
        return self.response()

    def release(self) -> None:
        """A-RELEASE-RQ; returns when the other side has answered with A-RELEASE-RP."""
        self.send(pdu(A_RELEASE_RQ, bytes(4)))
        answer = self.read_pdu()
        assert answer == Pdu(A_RELEASE_RP, bytes(4)), answer

    def vanish(self) -> None:
        """Resets the connection, as a peer does whose process was killed with data unread."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError as error:
                raise Gone from error
            except TimeoutError as error:
                raise AssertionError(f"no answer within {self._timeout_s} s, {len(data)} bytes so far") from error
            if not piece:
                raise Gone
            data += piece
        return data


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        kind, length = struct.unpack_from(">BxH", body)
        yield kind, body[4 : 4 + length]
        body = body[4 + length :]


def _ae_title(title: str | bytes) -> bytes:
    data = title.encode("latin-1") if isinstance(title, str) else title
    return data[:16].ljust(16, b" ")


def _even(value: str, padding: bytes) -> bytes:
    data = value.encode("latin-1")
    return data + padding * (len(data) % 2)


def _association(body: bytes) -> Association:
    results, syntaxes, maximum = {}, {}, 0
    for kind, content in _items(body[68:]):
        if kind == 0x21:
            results[content[0]] = content[2]
            chosen = [value.decode("ascii") for sub, value in _items(content[4:]) if sub == 0x40]
            syntaxes[content[0]] = chosen[0] if chosen else ""
        elif kind == 0x50:
            maximum = next(int.from_bytes(value, "big") for sub, value in _items(content) if sub == 0x51)
    return Association(results, syntaxes, maximum)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        group, number, length = struct.unpack_from("<HHL", data)
        assert group == 0, "no command set"
        yield number, data[8 : 8 + length]
        data = data[8 + length :]
