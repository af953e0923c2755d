"""A connection over TLS, accepted or made, with the face of the plain socket that it stands for.

OpenSSL works on memory, the socket stays ours: its timeouts (SO_RCVTIMEO, SO_SNDTIMEO), TCP_QUICKACK and a shutdown
from another thread act as on a plain connection. ssl.SSLSocket would retry for ever when SO_RCVTIMEO strikes.
"""

import contextlib
import socket
import ssl
import time
from typing import Any, Final

from scp.sockets import SHORTEST_TIMEOUT_S, set_receive_timeout, set_send_timeout

# From the connection to the end of the handshake. After it the peer has the time of ARTIM for its A-ASSOCIATE-RQ.
HANDSHAKE_TIMEOUT_S: Final = 10.0
# How long a peer may take to read the alert that refuses it, before the connection is closed.
ALERT_LINGER_S: Final = 1.0

# Several records (RFC 8446 5.1: 2^14 bytes and a little each) at a time.
_READ_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = 64 * 1024

# The first byte of a connection: ContentType handshake (RFC 8446 5.1), A-ASSOCIATE-RQ (PS3.8 9.3.2).
_HANDSHAKE: Final = 0x16
_ASSOCIATE_RQ: Final = 0x01

# What OpenSSL's names of errors mean here. docs/operations.md says what to do.
REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer sent no certificate (DicomTlsRemoteCertificateRequired)",
    "UNSUPPORTED_PROTOCOL": "the peer does not speak a TLS version that is accepted (DicomTlsMinimumProtocolVersion)",
    "VERSION_TOO_LOW": "the peer does not speak a TLS version that is accepted (DicomTlsMinimumProtocolVersion)",
    "NO_SHARED_CIPHER": "no cipher suite in common (DicomTlsCiphersAccepted)",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust the issuer of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refuses our certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer does not accept our TLS versions",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer accepts none of our versions and cipher suites",
}


class HandshakeFailed(Exception):
    """There will be no TLS on this connection. The text is for the log; "" is a peer that said nothing and left."""


class HandshakeTimedOut(HandshakeFailed):
    """The peer was silent, or too slow."""


class TlsConnection:
    """What scp reads from and writes to in the place of a socket. Belongs to the association's thread."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, *, host: str | None = None) -> None:
        """`host` is whom we have called; without it the peer has called us. Raises ValueError for no host name."""
        self._raw = raw
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=host is None, server_hostname=host)
        # What `send` has encrypted: how many bytes of its caller's, and what of it the socket has not taken yet.
        self._promised = 0
        self._unsent = b""

    def handshake(self, timeout_s: float) -> None:
        """Negotiate, within `timeout_s` as a whole. Raises HandshakeFailed; the peer has been told then."""
        deadline = time.monotonic() + timeout_s
        set_send_timeout(self._raw, timeout_s)
        first = True
        while not self._negotiated():
            try:
                received = self._receive_until(deadline)
            except HandshakeTimedOut:
                raise HandshakeTimedOut(f"no TLS handshake within {timeout_s:g} s") from None
            if not received:
                raise HandshakeFailed("" if first else "the peer left in the middle of the TLS handshake")
            if first and self._tls.server_side and received[0] != _HANDSHAKE:
                speaks = "plain DICOM" if received[0] == _ASSOCIATE_RQ else "no TLS"
                raise HandshakeFailed(f"the peer speaks {speaks}, and DicomTlsEnabled is true")
            first = False
            self._incoming.write(received)

    @property
    def certificate(self) -> dict[str, Any]:
        """The peer's verified certificate as ssl.SSLSocket.getpeercert() gives it; empty if it was not asked for."""
        return self._tls.getpeercert() or {}

    @property
    def version(self) -> str:
        """Version and cipher suite that were negotiated, for the log."""
        cipher = self._tls.cipher()
        return f"{self._tls.version()} {cipher[0] if cipher else ''}"

    def recv_into(self, view: memoryview) -> int:
        """Put decrypted bytes into `view` and return how many; 0 at the end of the connection.

        Reads from the socket once at most: raises ssl.SSLWantReadError when what came was no whole record, so that
        the caller looks at its deadline. Raises as socket.recv() otherwise, and ssl.SSLError.
        """
        with contextlib.suppress(ssl.SSLWantReadError):
            return self._decrypt(view)
        received = self._raw.recv(_READ_BYTES)
        if not received:
            return 0
        self._incoming.write(received)
        try:
            return self._decrypt(view)
        finally:
            # Answers to the peer's KeyUpdate (RFC 8446 4.6.3), alerts.
            self._flush()

    def sendall(self, data: bytes) -> None:
        """Encrypt and send all of `data`. Raises as socket.sendall(), and ssl.SSLError."""
        self._tls.write(data)
        self._flush()

    def send(self, data: memoryview, flags: int = 0) -> int:
        """As socket.send(), but after a BlockingIOError it must be called again with the same data."""
        if not self._promised:
            self._promised = self._tls.write(data[:_WRITE_BYTES])
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._raw.send(self._unsent, flags) :]
        sent, self._promised = self._promised, 0
        return sent

    def pending(self) -> int:
        """Return how many bytes have been read from the socket, but not from here. 0: poll the socket."""
        return self._tls.pending() + self._incoming.pending

    def fileno(self) -> int:
        """As socket.fileno(), for poll()."""
        return self._raw.fileno()

    def shutdown(self, how: int) -> None:
        """As socket.shutdown(); whoever says that nothing more is sent says so in TLS too (close_notify)."""
        if how != socket.SHUT_RD:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            with contextlib.suppress(OSError):  # it does not wait for a peer that reads nothing
                self._raw.send(self._outgoing.read(), socket.MSG_DONTWAIT)
        self._raw.shutdown(how)

    def getsockname(self) -> Any:
        """As socket.getsockname()."""
        return self._raw.getsockname()

    def getpeername(self) -> Any:
        """As socket.getpeername()."""
        return self._raw.getpeername()

    def setblocking(self, blocking: bool) -> None:
        """As socket.setblocking()."""
        self._raw.setblocking(blocking)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """As socket.setsockopt()."""
        self._raw.setsockopt(level, option, value)

    def close(self) -> None:
        """As socket.close()."""
        self._raw.close()

    def _decrypt(self, view: memoryview) -> int:
        count: Any = self._tls.read(len(view), view)
        return int(count)

    def _negotiated(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush_or_fail()
            return False
        except ssl.SSLError as error:
            self._tell_and_close()
            raise HandshakeFailed(_explain(error)) from error
        self._flush_or_fail()
        return True

    def _receive_until(self, deadline: float) -> bytes:
        remaining = deadline - time.monotonic()
        try:
            if remaining <= 0:
                raise BlockingIOError
            set_receive_timeout(self._raw, max(SHORTEST_TIMEOUT_S, remaining))
            return self._raw.recv(_READ_BYTES)
        except BlockingIOError:
            raise HandshakeTimedOut from None
        except OSError as error:
            raise HandshakeFailed(error.strerror or str(error)) from error

    def _flush(self) -> None:
        data, self._unsent = self._unsent + self._outgoing.read(), b""
        if data:
            self._raw.sendall(data)

    def _flush_or_fail(self) -> None:
        try:
            self._flush()
        except OSError as error:
            raise HandshakeFailed(error.strerror or str(error)) from error

    def _tell_and_close(self) -> None:
        """Send the alert, and wait until the peer has had time to read it: unread bytes of it would reset us."""
        deadline = time.monotonic() + ALERT_LINGER_S
        with contextlib.suppress(OSError, HandshakeFailed):
            self._flush()
            self._raw.shutdown(socket.SHUT_WR)
            while self._receive_until(deadline):
                pass


Connection = socket.socket | TlsConnection


def _explain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the peer's certificate is refused: {error.verify_message}"
    reason = error.reason or str(error)
    return REASONS.get(reason, reason.lower().replace("_", " "))
