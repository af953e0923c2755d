"""A DICOM client of a few calls: it times messages without a library's own time in them.

It speaks as much of PS3.8 section 9.3 (PDUs) and PS3.7 section 9.3 (C-ECHO, C-STORE, C-FIND, C-MOVE) as that needs.
"""

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydicom import dcmread
from pydicom._uid_dict import UID_dictionary

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STORAGE_COMMITMENT, COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
IMPLEMENTATION_CLASS_UID = "1.2.826.0.1.3680043.8.498.1"  # the root that pydicom gives to its users

MAX_CONTEXTS = 128  # PS3.8 section 9.3.2.2: odd identifiers from 1 to 255
MAX_PDU_BYTES = 16384  # what we accept
UNLIMITED_PDU_BYTES = 65536  # what we send to a peer that sets no limit
READ_BUFFER_BYTES = 1 << 18
TIMEOUT_S = 120.0

A_ASSOCIATE_AC, P_DATA_TF, A_RELEASE_RP = 2, 4, 6
COMMAND, LAST = 1, 2  # PS3.8 annex E.2: message control header
NO_DATA_SET, DATA_SET = 0x0101, 0x0001
C_STORE_RQ, C_FIND_RQ, C_MOVE_RQ, C_ECHO_RQ = 0x0001, 0x0020, 0x0021, 0x0030
N_ACTION_RQ = 0x0130
PENDING = (0xFF00, 0xFF01)
# Elements of a command set (PS3.7 section E.1).
COMMAND_DATA_SET_TYPE, STATUS, COMPLETED, FAILED, WARNING = 0x0800, 0x0900, 0x1021, 0x1022, 0x1023


class AssociationFailed(OSError):
    """The peer rejected, aborted or closed, or answered with something else than success."""


def storage_classes() -> list[str]:
    """All storage SOP classes that pydicom knows by name."""
    return [uid for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and name.endswith("Storage")]


def many_contexts(count: int = MAX_CONTEXTS) -> list[str]:
    """Abstract syntaxes of a broad proposal: Verification and storage classes."""
    return [VERIFICATION, *storage_classes()][:count]


def association_request(abstract_syntaxes: Sequence[str]) -> bytes:
    """A-ASSOCIATE-RQ (PS3.8 section 9.3.2) with one context for each abstract syntax."""
    transfer_syntaxes = b"".join(_item(0x40, uid.encode()) for uid in (EXPLICIT_LITTLE, IMPLICIT_LITTLE))
    contexts = b"".join(
        _item(0x20, bytes((2 * index + 1, 0, 0, 0)) + _item(0x30, uid.encode()) + transfer_syntaxes)
        for index, uid in enumerate(abstract_syntaxes)
    )
    user_information = _item(
        0x50,
        _item(0x51, struct.pack(">I", MAX_PDU_BYTES)) + _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),
    )
    body = struct.pack(">HH16s16s32x", 1, 0, b"ORTHANC".ljust(16), b"BENCH".ljust(16))
    body += _item(0x10, APPLICATION_CONTEXT.encode()) + contexts + user_information
    return _pdu(1, body)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _pdv(context: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">IBB", len(fragment) + 2, context, control) + fragment


def _command(elements: Sequence[tuple[int, bytes]]) -> bytes:
    """A command set (PS3.7 section 6.3.1): Implicit VR Little Endian, group length first."""
    body = b"".join(struct.pack("<HHI", 0, element, len(value)) + value for element, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _uid(value: str) -> bytes:
    return value.encode() + b"\0" * (len(value) % 2)


def _ae(value: str) -> bytes:
    return value.encode() + b" " * (len(value) % 2)


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


class Instance:
    """A Part 10 file in memory, ready to be sent."""

    def __init__(self, path: Path) -> None:
        header = dcmread(path, stop_before_pixels=True)
        self.sop_class, self.sop_instance = str(header.SOPClassUID), str(header.SOPInstanceUID)
        content = path.read_bytes()
        # PS3.10 section 7.1: preamble, prefix, and (0002,0000), whose value counts the bytes that follow it.
        (meta_bytes,) = struct.unpack_from("<I", content, 140)
        self.data_set = content[144 + meta_bytes :]


@dataclass(frozen=True)
class Answered:
    """A request with pending responses: how many, and when the first and the final one were there."""

    pending: int
    first_s: float  # of the final one, where none was pending
    last_s: float


class Association:
    """An association that asked for what `request` says (`association_request`). `nagle`: as DCMTK's tools do.

    Raises AssociationFailed if it is not accepted.
    """

    def __init__(self, port: int, request: bytes, timeout_s: float = TIMEOUT_S, *, nagle: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._reader = self._socket.makefile("rb", READ_BUFFER_BYTES)
        self._fragments: deque[tuple[int, bytes]] = deque()
        self._message_id = 0
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, not nagle)
            self._socket.sendall(request)
            self._accepted, self._peer_pdu_bytes = _parse_acceptance(self._expect(A_ASSOCIATE_AC))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def _expect(self, wanted: int) -> bytes:
        head = self._reader.read(6)
        if len(head) < 6:
            raise AssociationFailed("the peer closed the connection")
        kind, length = struct.unpack(">BxI", head)
        body: bytes = self._reader.read(length)
        if kind != wanted:
            raise AssociationFailed(f"PDU type {kind} instead of {wanted}: {body[:8].hex()}")
        return body

    def echo(self, context: int = 1) -> None:
        """C-ECHO on the context with this identifier. Raises AssociationFailed."""
        self._message_id += 1
        elements = [
            (0x0002, _uid(VERIFICATION)),
            (0x0100, _us(C_ECHO_RQ)),
            (0x0110, _us(self._message_id)),
            (0x0800, _us(NO_DATA_SET)),
        ]
        self._request(_pdu(P_DATA_TF, _pdv(context, COMMAND | LAST, _command(elements))))

    def store(self, instance: Instance, context: int = 1) -> None:
        """C-STORE, all of it written before the answer is read. Raises AssociationFailed."""
        if self._accepted.get(context) != EXPLICIT_LITTLE:
            raise AssociationFailed("no accepted context in Explicit VR Little Endian")
        self._message_id = self._message_id % 0xFFFF + 1
        elements = [
            (0x0002, _uid(instance.sop_class)),
            (0x0100, _us(C_STORE_RQ)),
            (0x0110, _us(self._message_id)),
            (0x0700, _us(0)),
            (0x0800, _us(DATA_SET)),
            (0x1000, _uid(instance.sop_instance)),
        ]
        pdus = [_pdu(P_DATA_TF, _pdv(context, COMMAND | LAST, _command(elements)))]
        self._request(b"".join(pdus + self._data_set_pdus(context, instance.data_set)))

    def request_commitment(self, data_set: bytes) -> None:
        """N-ACTION (PS3.4 section J.3.2) on the first context. Raises AssociationFailed unless it is taken."""
        self._message_id = self._message_id % 0xFFFF + 1
        elements = [
            (0x0003, _uid(STORAGE_COMMITMENT)),
            (0x0100, _us(N_ACTION_RQ)),
            (0x0110, _us(self._message_id)),
            (0x0800, _us(DATA_SET)),
            (0x1001, _uid(COMMITMENT_INSTANCE)),
            (0x1008, _us(1)),
        ]
        pdus = [_pdu(P_DATA_TF, _pdv(1, COMMAND | LAST, _command(elements)))]
        self._request(b"".join(pdus + self._data_set_pdus(1, data_set)))

    def find(self, sop_class: str, identifier: bytes) -> Answered:
        """C-FIND on the first context; counts the matches. Raises AssociationFailed unless it ends with success."""
        answered, _ = self._ask(C_FIND_RQ, sop_class, identifier, [])
        return answered

    def move(self, identifier: bytes, destination: str) -> tuple[Answered, dict[int, int]]:
        """C-MOVE on the first context; with the counters of the final response. Raises AssociationFailed."""
        return self._ask(C_MOVE_RQ, STUDY_ROOT_MOVE, identifier, [(0x0600, _ae(destination))])

    def _ask(
        self, kind: int, sop_class: str, identifier: bytes, more: list[tuple[int, bytes]]
    ) -> tuple[Answered, dict[int, int]]:
        if self._accepted.get(1) != EXPLICIT_LITTLE:
            raise AssociationFailed("no accepted context in Explicit VR Little Endian")
        self._message_id = self._message_id % 0xFFFF + 1
        elements = [
            (0x0002, _uid(sop_class)),
            (0x0100, _us(kind)),
            (0x0110, _us(self._message_id)),
            *more,
            (0x0700, _us(0)),
            (0x0800, _us(DATA_SET)),
        ]
        started = time.perf_counter()
        # Two writes, as DCMTK's tools do: with Nagle's algorithm the second waits until the first is acknowledged.
        self._socket.sendall(_pdu(P_DATA_TF, _pdv(1, COMMAND | LAST, _command(elements))))
        self._socket.sendall(_pdu(P_DATA_TF, _pdv(1, LAST, identifier)))
        pending, first_s = 0, None
        while True:
            response = self._response()
            now_s = time.perf_counter() - started
            if first_s is None:
                first_s = now_s
            if response.get(STATUS) not in PENDING:
                break
            pending += 1
        _check(response)
        return Answered(pending, first_s, now_s), response

    def _data_set_pdus(self, context: int, data: bytes) -> list[bytes]:
        step = (self._peer_pdu_bytes or UNLIMITED_PDU_BYTES) - 6
        return [
            _pdu(P_DATA_TF, _pdv(context, LAST if start + step >= len(data) else 0, data[start : start + step]))
            for start in range(0, len(data), step)
        ]

    def _request(self, message: bytes) -> None:
        self._socket.sendall(message)
        _check(self._response())

    def _response(self) -> dict[int, int]:
        """The numbers in the command set of the next response; a data set that comes with it is dropped."""
        response = _numbers(self._message_part())
        if response.get(COMMAND_DATA_SET_TYPE, NO_DATA_SET) != NO_DATA_SET:
            self._message_part()
        return response

    def _message_part(self) -> bytes:
        part = b""
        while True:
            while not self._fragments:
                self._read_fragments()
            control, fragment = self._fragments.popleft()
            part += fragment
            if control & LAST:
                return part

    def _read_fragments(self) -> None:
        body, position = self._expect(P_DATA_TF), 0
        while position < len(body):
            length, _, control = struct.unpack_from(">IBB", body, position)
            self._fragments.append((control, body[position + 6 : position + 4 + length]))
            position += 4 + length

    def release(self) -> None:
        """A-RELEASE. Raises AssociationFailed."""
        self._socket.sendall(_pdu(5, b"\0" * 4))
        self._expect(A_RELEASE_RP)

    def closed_by_peer(self) -> bool:
        """True if the peer closed or aborted (or said anything else) while nothing was asked of it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def _parse_acceptance(body: bytes) -> tuple[dict[int, str], int]:
    """Accepted contexts with their transfer syntaxes, and the largest PDU that the peer takes (0: any)."""
    accepted: dict[int, str] = {}
    maximum = 0
    for kind, value in _items(body[68:]):
        if kind == 0x21 and value[2] == 0:
            accepted[value[0]] = next((uid.decode() for sub, uid in _items(value[4:]) if sub == 0x40), "")
        elif kind == 0x50:
            maximum = next((struct.unpack(">I", size)[0] for sub, size in _items(value) if sub == 0x51), 0)
    return accepted, maximum


def _items(data: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position + 4 <= len(data):
        kind, length = struct.unpack_from(">BxH", data, position)
        found.append((kind, data[position + 4 : position + 4 + length]))
        position += 4 + length
    return found


def _numbers(command: bytes) -> dict[int, int]:
    """The elements of a command set that hold two bytes, by element number."""
    found, position = {}, 0
    while position + 8 <= len(command):
        _, element, length = struct.unpack_from("<HHI", command, position)
        if length == 2:
            found[element] = int.from_bytes(command[position + 8 : position + 10], "little")
        position += 8 + length
    return found


def _check(response: dict[int, int]) -> None:
    if STATUS not in response:
        raise AssociationFailed("an answer without a status")
    if response[STATUS] != 0:
        raise AssociationFailed(f"status 0x{response[STATUS]:04X}")
