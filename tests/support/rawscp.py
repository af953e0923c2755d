"""The other side of tests.support.rawdicom: a DICOM port made of bytes, which answers as no library would."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.support.rawdicom import (
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RQ,
    COMMAND,
    LAST,
    P_DATA_TF,
    RESPONSE,
    TIMEOUT_S,
    WITHOUT_DATA_SET,
    Gone,
    RawPeer,
    _elements,
    _item,
    _items,
    command_set,
    p_data,
    pdu,
    pdv,
)

ACCEPTED: Final = 0


@dataclass(frozen=True)
class Proposal:
    """What an A-ASSOCIATE-RQ says. Contexts by ID: abstract syntax, transfer syntaxes. Roles: SCU and SCP by UID."""

    called: str
    calling: str
    contexts: Mapping[int, tuple[str, tuple[str, ...]]]
    roles: Mapping[str, tuple[int, int]]
    maximum_pdu_bytes: int


@dataclass(frozen=True)
class Message:
    """A request with its data set, and of how many bytes each PDU was."""

    context_id: int
    values: Mapping[int, bytes]
    data_set: bytes
    pdu_bytes: tuple[int, ...]

    def number(self, element: int) -> int:
        return int.from_bytes(self.values[element], "little")

    @property
    def message_id(self) -> int:
        return self.number(0x0110)


class RawConnection(RawPeer):
    """A connection that was accepted."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._timeout_s = TIMEOUT_S

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Takes the other side's handshake. Raises Gone."""
        secure = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.socket = secure
        try:
            secure.do_handshake()
        except (ssl.SSLError, ConnectionError):
            raise Gone from None

    def proposal(self) -> Proposal:
        """Reads the A-ASSOCIATE-RQ."""
        request = self.read_pdu()
        assert request.type == A_ASSOCIATE_RQ, request
        contexts, roles, maximum = {}, {}, 0
        for kind, content in _items(request.body[68:]):
            if kind == 0x20:
                names = list(_items(content[4:]))
                (abstract,) = (name.decode() for sub, name in names if sub == 0x30)
                contexts[content[0]] = abstract, tuple(name.decode() for sub, name in names if sub == 0x40)
            elif kind == 0x50:
                for sub, value in _items(content):
                    if sub == 0x51:
                        maximum = int.from_bytes(value, "big")
                    elif sub == 0x54:
                        length = int.from_bytes(value[:2], "big")
                        roles[value[2 : 2 + length].decode()] = value[-2], value[-1]
        title = request.body[4:20].decode().strip(), request.body[20:36].decode().strip()
        return Proposal(*title, contexts, roles, maximum)

    def accept(self, *, maximum_pdu_bytes: int = 16384, roles: Mapping[str, tuple[int, int]] | None = None) -> Proposal:
        """Reads the A-ASSOCIATE-RQ and accepts all contexts, each with its first transfer syntax."""
        proposal = self.proposal()
        chosen = {number: (ACCEPTED, syntaxes[0]) for number, (_, syntaxes) in proposal.contexts.items()}
        self.send(associate_ac(chosen, maximum_pdu_bytes=maximum_pdu_bytes, roles=roles or {}))
        return proposal

    def request(self) -> Message:
        """Reads a request and its data set. Raises Gone."""
        command, data_set, sizes = b"", b"", []
        complete = with_data_set = False
        values: Mapping[int, bytes] = {}
        while not complete:
            answer = self.read_pdu()
            if answer.type != P_DATA_TF:
                raise Gone
            sizes.append(len(answer.body))
            body = answer.body
            while body:
                length, context_id, control = struct.unpack_from(">LBB", body)
                piece, body = body[6 : 4 + length], body[4 + length :]
                if control & COMMAND:
                    command += piece
                    if control & LAST:
                        values = dict(_elements(command))
                        with_data_set = int.from_bytes(values[0x0800], "little") != WITHOUT_DATA_SET
                        complete = not with_data_set
                else:
                    data_set += piece
                    complete = bool(control & LAST)
        return Message(context_id, values, data_set, tuple(sizes))

    def request_rest(self) -> None:
        """Reads up to the last fragment of a data set. Raises Gone."""
        while True:
            answer = self.read_pdu()
            if answer.type != P_DATA_TF:
                raise Gone
            body, control = answer.body, 0
            while body:
                length, _, control = struct.unpack_from(">LBB", body)
                body = body[4 + length :]
            if control & LAST and not control & COMMAND:
                return

    def answer(self, request: Message, status: int = 0, **elements: int | str | bytes) -> None:
        """Sends the response; `elements` such as e0902=b"comment"."""
        self.send(response(request.context_id, request.number(0x0100), request.message_id, status, **elements))


def response(
    context_id: int, field: int, message_id: int, status: int, *, data_set: bool = False, **elements: int | str | bytes
) -> bytes:
    """Encodes a response in a PDU of its own."""
    more = {int(name[1:], 16): value for name, value in elements.items()}
    values: dict[int, int | str | bytes] = {0x0100: field | RESPONSE, 0x0120: message_id}
    values |= {0x0800: 0 if data_set else WITHOUT_DATA_SET, 0x0900: status, **more}
    return p_data(pdv(context_id, COMMAND | LAST, command_set(dict(sorted(values.items())))))


def associate_ac(
    contexts: Mapping[int, tuple[int, str]],
    *,
    maximum_pdu_bytes: int | None = 16384,
    roles: Mapping[str, tuple[int, int]] | None = None,
) -> bytes:
    """Encodes an A-ASSOCIATE-AC: by context ID, the result and the transfer syntax (PS3.8 9.3.3)."""
    items = [_item(0x10, b"1.2.840.10008.3.1.1.1")]
    for number, (result, syntax) in contexts.items():
        items.append(_item(0x21, bytes([number, 0, result, 0]) + _item(0x40, syntax.encode())))
    information = b"" if maximum_pdu_bytes is None else _item(0x51, struct.pack(">L", maximum_pdu_bytes))
    information += _item(0x52, b"1.2.3.4")
    for uid, (scu, scp) in (roles or {}).items():
        information += _item(0x54, struct.pack(">H", len(uid)) + uid.encode() + bytes([scu, scp]))
    items.append(_item(0x50, information))
    return pdu(A_ASSOCIATE_AC, struct.pack(">Hxx", 1) + b" " * 32 + bytes(32) + b"".join(items))


class RawScp:
    """Listens, and runs `script` on a thread with each connection, which is closed behind it; over TLS with `context`.

    Who ends a handshake is Gone.

    The end of the with statement waits for it, and raises what it raised, unless the other side was Gone.
    """

    def __init__(
        self, script: Callable[[RawConnection], None], port: int = 0, context: ssl.SSLContext | None = None
    ) -> None:
        self._script = script
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self._threads: list[threading.Thread] = []
        self._errors: list[Exception] = []
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> RawScp:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(TIMEOUT_S)
        self._listener.close()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "the script has not ended"
        if self._errors and kind is None:
            raise self._errors[0]

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with RawConnection(connection) as peer:
            try:
                if self._context is not None:
                    peer.begin_tls(self._context)
                self._script(peer)
            except Gone:
                pass
            except Exception as error:  # noqa: BLE001 - it comes out of __exit__()
                self._errors.append(error)
