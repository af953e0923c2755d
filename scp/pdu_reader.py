"""Reading PDUs (PS3.8 9.3) from a socket: lengths bounded before anything is allocated, every wait with a deadline,
P-DATA-TF handed out in place.

Replaces pynetdicom's `AssociationSocket.recv` and `DULServiceProvider._read_pdu_data`, which copy each byte
eight times, wait without end inside a PDU and believe any length.
"""

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Final

from scp.sockets import set_receive_timeout
from scp.tls_connection import Connection, TlsConnection

P_DATA_TF: Final = 0x04
A_ASSOCIATE_RQ: Final = 0x01
A_ASSOCIATE_AC: Final = 0x02
A_ASSOCIATE_RJ: Final = 0x03
A_RELEASE_RQ: Final = 0x05
A_RELEASE_RP: Final = 0x06
A_ABORT: Final = 0x07

# 128 presentation contexts with 45 transfer syntaxes each are about 170 KB; user information a few KB more.
MAXIMUM_ASSOCIATE_PDU_BYTES: Final = 1024 * 1024
# A-RELEASE and A-ABORT are 4 bytes long (PS3.8 9.3.6 to 9.3.8).
MAXIMUM_SHORT_PDU_BYTES: Final = 64
# Peers that count the PDU header into the length that we advertise exist.
PDU_LENGTH_SLACK_BYTES: Final = 64

SILENT_REASON: Final = "sent nothing for too long"

_IDLE_BUFFER_BYTES: Final = 4096
_TRANSFER_BUFFER_BYTES: Final = 256 * 1024

_PDU_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")

# How a TLS handshake begins: content type and major version (RFC 8446 5.1).
_TLS_RECORD: Final = b"\x16\x03"


class ConnectionEnded(Exception):
    """The peer is gone, or (`silent`) still there but stalled beyond its deadline.

    `reason` is for the log; "" is an orderly end.
    """

    def __init__(self, reason: str = "", *, silent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.silent = silent


class InvalidPdu(Exception):
    """What the peer sent cannot be a PDU that we agreed to: abort (PS3.8 9.2.1, Evt19)."""


class PduReader:
    """Buffered reader of one connection. Not thread-safe: it belongs to the association's thread."""

    def __init__(self, connection: Connection, maximum_pdu_bytes: int) -> None:
        self._connection = connection
        self._tls = connection if isinstance(connection, TlsConnection) else None
        self._maximum_pdu_bytes = maximum_pdu_bytes + PDU_LENGTH_SLACK_BYTES
        self._buffer = memoryview(bytearray(_IDLE_BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self.timeout: float | None = None

    @property
    def has_buffered(self) -> bool:
        """Whether bytes have been read from the socket that no PDU has used yet."""
        return self._end > self._start or (self._tls is not None and self._tls.pending() > 0)

    def set_timeout(self, seconds: float | None) -> None:
        """Longest silence of the peer that a read accepts; None waits for ever (TCP keepalive still watches)."""
        self.timeout = seconds
        set_receive_timeout(self._connection, seconds)

    def header(self, deadline: float | None = None) -> tuple[int, int]:
        """Return type and length of the next PDU, length checked against what that type may have.

        `deadline` (time.monotonic) bounds the whole header; raises ConnectionEnded or InvalidPdu.
        """
        self._require(_PDU_HEADER.size, deadline)
        pdu_type, length = _PDU_HEADER.unpack_from(self._buffer, self._start)
        self._start += _PDU_HEADER.size
        if pdu_type == P_DATA_TF:
            limit = self._maximum_pdu_bytes
        elif 0x01 <= pdu_type <= 0x03:
            limit = MAXIMUM_ASSOCIATE_PDU_BYTES
        elif 0x05 <= pdu_type <= 0x07:
            limit = MAXIMUM_SHORT_PDU_BYTES
        elif bytes(self._buffer[self._start - _PDU_HEADER.size :][: len(_TLS_RECORD)]) == _TLS_RECORD:
            raise InvalidPdu("PDU of unknown type 0x16: the peer speaks TLS, which is not expected (DicomTlsEnabled)")
        else:
            raise InvalidPdu(f"PDU of unknown type 0x{pdu_type:02X}")
        if length > limit:
            raise InvalidPdu(f"PDU of type 0x{pdu_type:02X} announces {length} bytes, {limit} are allowed")
        return pdu_type, length

    def body(self, length: int, deadline: float | None = None) -> bytes:
        """Return the `length` bytes behind a header that is not P-DATA-TF."""
        data = bytearray(length)
        have = min(length, self._end - self._start)
        data[:have] = self._buffer[self._start : self._start + have]
        self._start += have
        view = memoryview(data)
        while have < length:
            have += self._receive(view[have:], deadline)
        return bytes(data)

    def pdvs(self, length: int, deadline: float | None = None) -> Iterator[tuple[int, int, memoryview, bool]]:
        """Yield the pieces of the presentation data values in a P-DATA-TF PDU of `length` bytes (PS3.8 9.3.5).

        Each is (presentation context ID, message control header, bytes, whether the PDV is complete with
        it). The bytes are a window on the buffer, valid until the next step. `deadline` is for the whole PDU.
        """
        if len(self._buffer) < _TRANSFER_BUFFER_BYTES:
            self._enlarge()
        while length:
            if length < _PDV_HEADER.size:
                raise InvalidPdu("P-DATA-TF with a rest that is no PDV")
            self._require(_PDV_HEADER.size, deadline)
            pdv_length, context_id, control = _PDV_HEADER.unpack_from(self._buffer, self._start)
            self._start += _PDV_HEADER.size
            length -= _PDV_HEADER.size
            remaining = pdv_length - 2
            if not 0 <= remaining <= length:
                raise InvalidPdu(f"PDV of {pdv_length} bytes does not fit into its PDU")
            length -= remaining
            if not remaining:
                yield context_id, control, self._buffer[:0], True
            while remaining:
                if self._start == self._end:
                    self._fill(deadline)
                end = min(self._end, self._start + remaining)
                piece = self._buffer[self._start : end]
                self._start = end
                remaining -= len(piece)
                yield context_id, control, piece, not remaining

    def discard_until_end(self, deadline: float) -> None:
        """Throw away what still comes, until the peer closes or `deadline` (time.monotonic) is over."""
        self._start = self._end = 0
        try:
            while True:
                self._receive(self._buffer, deadline)
        except ConnectionEnded:
            return

    def _enlarge(self) -> None:
        buffer = memoryview(bytearray(_TRANSFER_BUFFER_BYTES))
        rest = self._end - self._start
        buffer[:rest] = self._buffer[self._start : self._end]
        self._buffer, self._start, self._end = buffer, 0, rest

    def _require(self, count: int, deadline: float | None) -> None:
        while self._end - self._start < count:
            self._fill(deadline)

    def _fill(self, deadline: float | None) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            rest = self._end - self._start
            self._buffer[:rest] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, rest
        self._end += self._receive(self._buffer[self._end :], deadline)

    def _receive(self, view: memoryview, deadline: float | None) -> int:
        while True:
            if deadline is not None and time.monotonic() > deadline:
                raise ConnectionEnded("too slow", silent=True)
            try:
                # A sender with Nagle's algorithm on holds the tail of each message back until we acknowledge;
                # Linux forgets this option after a few segments.
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                count = self._connection.recv_into(view)
            except ssl.SSLWantReadError:
                continue
            except BlockingIOError:
                raise ConnectionEnded(SILENT_REASON, silent=True) from None
            except OSError as error:
                raise ConnectionEnded(error.strerror or str(error)) from error
            if not count:
                raise ConnectionEnded
            return count
