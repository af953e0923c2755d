"""One connection: its messages one after the other, each answered before the next is read (MLLP release 1)."""

import contextlib
import socket
import ssl
import threading
import time
from typing import Any, Final

from gateway.options.hl7 import Hl7Section
from worklist.hl7.framing import Frame, FrameReader
from worklist.hl7.inbox import Answer, Inbox
from worklist.hl7.message_log import Delivery
from worklist.hl7.traces import trace

READ_BYTES: Final = 64 * 1024

HANDSHAKE_TIMEOUT_S: Final = 10.0
# A frame that has begun is whole within this time, whatever its size.
FRAME_TIMEOUT_S: Final = 60.0
# FS was the last byte: CR follows, or the sender leaves it out.
END_TIMEOUT_S: Final = 0.25
SEND_TIMEOUT_S: Final = 30.0
# Longer than a database that is locked is waited for (gateway.database).
ANSWER_TIMEOUT_S: Final = 60.0

# Whoever sends so much between frames does not speak MLLP.
MAXIMUM_NOISE_BYTES: Final = 4096
LOGGED_CHARACTERS: Final = 64

# A peer that went without a word is noticed after about ten minutes.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 300), (socket.TCP_KEEPINTVL, 60), (socket.TCP_KEEPCNT, 5))


class Connection:
    """Serves one peer in a thread of its own."""

    def __init__(
        self,
        transport: socket.socket,
        peer: str,
        inbox: Inbox,
        section: Hl7Section,
        context: ssl.SSLContext | None,
        log: Any,
    ) -> None:
        self._transport = transport
        self.peer = peer
        self._inbox = inbox
        self._section = section
        self._context = context
        self._log = log
        self._reader = FrameReader(section.maximum_message_size)
        self._lock = threading.Lock()
        self._stopping = False

    def stop(self) -> None:
        """Read nothing more: a message that is being worked on gets its acknowledgement, half of one is dropped.

        Called by another thread.
        """
        with self._lock:
            self._stopping = True
            with contextlib.suppress(OSError):
                # Not SSLSocket's own method: it would end the encryption of what is still to be sent.
                socket.socket.shutdown(self._transport, socket.SHUT_RD)

    def run(self) -> None:
        """Until the peer ends, is silent for too long or breaks the rules."""
        try:
            self._prepare()
            while self._serve_one():
                pass
        except _Closed as closed:
            self._log.warning("connection closed", peer=self.peer, reason=str(closed))
        except ssl.SSLError as error:
            # OpenSSL's words for it, WRONG_VERSION_NUMBER, are what people search for.
            self._log.warning("TLS fails", peer=self.peer, reason=error.reason or str(error))
        except OSError as error:
            self._log.warning("connection lost", peer=self.peer, reason=error.strerror or str(error))
        except Exception as error:  # noqa: BLE001  the connection's outermost boundary: others go on
            self._log.error("connection closed by an error of our own", peer=self.peer, **trace(error))
        finally:
            with self._lock, contextlib.suppress(OSError):
                self._transport.close()

    def _prepare(self) -> None:
        transport = self._transport
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            transport.setsockopt(socket.IPPROTO_TCP, option, value)
        if self._context is None:
            return
        transport.settimeout(HANDSHAKE_TIMEOUT_S)
        secure = self._context.wrap_socket(transport, server_side=True, do_handshake_on_connect=False)
        # wrap_socket took the descriptor over.
        with self._lock:
            self._transport = secure
        try:
            secure.do_handshake()
        except TimeoutError:
            raise _Closed(f"no TLS handshake within {HANDSHAKE_TIMEOUT_S:g} s") from None

    def _serve_one(self) -> bool:
        """Read a message and answer it; return whether to go on."""
        frame = self._read()
        if frame is None or self._stopping:
            return False
        began = time.monotonic()
        if frame.replaces_unfinished:
            self._log.warning("a message was begun anew without having ended", peer=self.peer)
        future = self._inbox.deliver(Delivery(frame, self.peer, time.time_ns()))
        try:
            answer = future.result(ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise _Closed(f"a message could not be written within {ANSWER_TIMEOUT_S:g} s") from None
        if answer.frames:
            self._transport.settimeout(SEND_TIMEOUT_S)
            self._transport.sendall(answer.frames)
        self._tell(answer, time.monotonic() - began)
        return answer.frames is not None

    def _read(self) -> Frame | None:
        """The next message; None if the peer has ended. Raises OSError and _Closed."""
        reader = self._reader
        frame_deadline: float | None = None
        idle_deadline = time.monotonic() + self._section.idle_timeout
        while (frame := reader.next()) is None:
            if reader.noise_bytes > MAXIMUM_NOISE_BYTES:
                raise _Closed(f"this is no MLLP: it begins with {reader.noise.hex(' ')}")
            now = time.monotonic()
            if reader.is_inside and frame_deadline is None:
                frame_deadline = now + FRAME_TIMEOUT_S
            left = (idle_deadline if frame_deadline is None else frame_deadline) - now
            if left <= 0:
                raise _Closed(self._lateness())
            data = self._receive(min(left, END_TIMEOUT_S) if reader.may_have_ended else left)
            if not data:
                frame = reader.end()
                if frame is None and data is not None:
                    self._check_end()
                    return None
                if frame is not None:
                    return frame
            else:
                reader.feed(data)
        return frame

    def _receive(self, timeout_s: float) -> bytes | None:
        """What has arrived; None if nothing has in time, nothing if the peer has ended."""
        self._transport.settimeout(timeout_s)
        try:
            data = self._transport.recv(READ_BYTES)
        except TimeoutError:
            return None
        # The kernel forgets it. Without it a sender that writes a frame in two pieces waits 40 ms for our TCP.
        self._transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data

    def _lateness(self) -> str:
        if self._reader.is_inside:
            return f"a message was not complete within {FRAME_TIMEOUT_S:g} s"
        return f"no message within {self._section.idle_timeout:g} s (IdleTimeout)"

    def _check_end(self) -> None:
        """Raises _Closed if the peer ended in the middle."""
        if self._reader.is_inside:
            raise _Closed("the peer ended inside a message" if not self._stopping else "stopped inside a message")
        if self._reader.noise_bytes:
            raise _Closed(f"the peer sent bytes outside of messages, beginning with {self._reader.noise.hex(' ')}")

    def _tell(self, answer: Answer, seconds: float) -> None:
        header, outcome = answer.header, answer.outcome
        keys: dict[str, Any] = {"peer": self.peer}
        if header is not None:
            sender = "|".join(part for part in (header.sending_application, header.sending_facility) if part)
            keys |= {"sender": sender, "type": header.type_and_event, "control_id": header.control_id}
        keys = {key: value[:LOGGED_CHARACTERS] for key, value in keys.items()}
        keys |= {"outcome": outcome.code if outcome is not None else "none", "seconds": round(seconds, 4)}
        if answer.is_replay:
            keys["replay"] = True
        if answer.result.changes:
            keys["changes"] = ", ".join(answer.result.changes)
        if outcome is not None and outcome.text:
            keys["text"] = outcome.text
        if outcome is not None and outcome.refusal is not None:
            keys |= {"error": outcome.refusal.code.value, "location": outcome.refusal.location}
            self._log.warning("message refused", **keys)
        elif outcome is None:
            self._log.error("message not acknowledged, connection closed", **keys)
        else:
            self._log.info("message", **keys)


class _Closed(Exception):
    """The connection ends, and why."""
