"""The connection to one receiver: kept from message to message, one message at a time (MLLP release 1)."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.options.hl7_receivers import ReceiverSection
from gateway.repeated_lines import RepeatedLines
from worklist.feedback.answers import Answer, read_answer, readable_character_set
from worklist.hl7.framing import FrameReader, enclose

READ_BYTES: Final = 64 * 1024
SEND_TIMEOUT_S: Final = 30.0
# FS was the last byte: CR follows, or the receiver leaves it out.
END_TIMEOUT_S: Final = 0.25
MAXIMUM_ANSWER_BYTES: Final = 64 * 1024
# Whoever sends so much between frames does not speak MLLP; nor does one that answers with so many other frames.
MAXIMUM_NOISE_BYTES: Final = 4096
MAXIMUM_FOREIGN_ANSWERS: Final = 100
LOGGED_CHARACTERS: Final = 64


class NoAnswer(Exception):
    """A message was sent, at least a part of it, and not acknowledged. The text is one line."""


class Line:
    """Not thread-safe. `connect` raises gateway.receiver_connection.ConnectError."""

    def __init__(self, receiver: ReceiverSection, connect: Callable[[], socket.socket], log: Any) -> None:
        self._receiver = receiver
        self._connect = connect
        self._lines = RepeatedLines(log)
        self._default_character_set = readable_character_set(receiver.character_set)
        self._socket: socket.socket | None = None
        self._reader = FrameReader(MAXIMUM_ANSWER_BYTES)
        self._foreign = 0

    def open(self) -> None:
        """Connect, unless the connection is there. Raises ConnectError."""
        if self._socket is not None and not self._has_ended(self._socket):
            return
        self.close()
        self._socket = self._connect()
        self._reader = FrameReader(MAXIMUM_ANSWER_BYTES)

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def exchange(self, message: bytes, control_id: str) -> Answer:
        """Send a message and wait for its acknowledgement. Raises NoAnswer; then the connection is closed.

        What comes later belongs to nobody: who answers too late gets the message again, under the same MSH-10.
        """
        if self._socket is None:
            raise NoAnswer("not connected")
        try:
            self._socket.settimeout(SEND_TIMEOUT_S)
            self._socket.sendall(enclose(message))
            return self._receive(self._socket, control_id)
        except TimeoutError:
            reason = f"the message could not be sent within {SEND_TIMEOUT_S:g} s"
        except ssl.SSLError as error:
            reason = f"TLS fails: {error.reason or error}"
        except OSError as error:
            reason = f"connection lost: {error.strerror or error}"
        except NoAnswer:
            self.close()
            raise
        self.close()
        raise NoAnswer(reason)

    def _receive(self, connection: socket.socket, control_id: str) -> Answer:
        deadline = time.monotonic() + self._receiver.ack_timeout
        self._foreign = 0
        while True:
            answer = self._take(control_id)
            if answer is not None:
                return answer
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoAnswer(f"no acknowledgement within {self._receiver.ack_timeout:g} s")
            connection.settimeout(min(left, END_TIMEOUT_S) if self._reader.may_have_ended else left)
            try:
                data = connection.recv(READ_BYTES)
            except TimeoutError:
                data = None
            if data:
                self._reader.feed(data)
                continue
            frame = self._reader.end()
            answer = self._match(frame.body, control_id) if frame is not None else None
            if answer is not None:
                return answer
            if data is not None:
                raise NoAnswer("the receiver closed the connection without an acknowledgement")

    def _take(self, control_id: str) -> Answer | None:
        """The acknowledgement of the message, if it is among what has arrived."""
        while (frame := self._reader.next()) is not None:
            answer = None if frame.is_too_large else self._match(frame.body, control_id)
            if answer is not None:
                return answer
        if self._reader.noise_bytes > MAXIMUM_NOISE_BYTES:
            raise NoAnswer(f"this is no MLLP: it begins with {self._reader.noise.hex(' ')}")
        return None

    def _match(self, body: bytes, control_id: str) -> Answer | None:
        answer = read_answer(body, self._default_character_set)
        if answer is not None and answer.control_id == control_id:
            return answer
        self._foreign += 1
        if self._foreign > MAXIMUM_FOREIGN_ANSWERS:
            raise NoAnswer(f"more than {MAXIMUM_FOREIGN_ANSWERS} acknowledgements of other messages")
        said = "no acknowledgement" if answer is None else f"acknowledgement of {answer.control_id[:LOGGED_CHARACTERS]}"
        self._lines.warning("ignored what a receiver sent", receiver=self._receiver.name, reason=said)
        return None

    def _has_ended(self, connection: socket.socket) -> bool:
        """Whether the receiver has hung up meanwhile. What it has sent for nobody is dropped."""
        try:
            connection.settimeout(0)
            for _ in range(MAXIMUM_FOREIGN_ANSWERS):
                if not connection.recv(READ_BYTES):
                    break
                self._reader = FrameReader(MAXIMUM_ANSWER_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            pass
        return True
