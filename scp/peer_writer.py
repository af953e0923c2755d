"""Writing what may be long while listening: a peer that aborts or leaves is noticed, one that reads nothing has a
deadline."""

import select
import socket
import time
from typing import Final

from scp.upper_layer import End, UpperLayer

# After a failed write: to read what the peer said before it left.
_LAST_WORDS_S: Final = 1.0


class PeerWriter:
    """The writing side of a connection, beside PduReader. After each call, `is_closed` of the upper layer holds."""

    def __init__(self, upper_layer: UpperLayer, timeout_s: float) -> None:
        """`timeout_s`: how long the peer may take nothing at all."""
        connection = upper_layer.connection
        if connection is None:
            raise RuntimeError("the upper layer has no connection")
        self._upper_layer = upper_layer
        self._connection = connection
        self._timeout_s = timeout_s
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN | select.POLLOUT)

    def write(self, data: bytes | memoryview) -> None:
        """Write whole PDUs; return early when the connection is at its end."""
        upper_layer = self._upper_layer
        rest = memoryview(data)
        deadline = time.monotonic() + self._timeout_s
        while rest and not upper_layer.is_closed:
            try:
                sent = self._connection.send(rest, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(deadline)
                continue
            except OSError:
                self._read_last_words()
                return
            rest = rest[sent:]
            upper_layer.is_mid_pdu = bool(rest)
            deadline = time.monotonic() + self._timeout_s
        upper_layer.is_mid_pdu = False

    def _wait(self, deadline: float) -> None:
        seconds = max(0.0, deadline - time.monotonic())
        events = [(0, select.POLLIN)] if self._upper_layer.reader.has_buffered else self._poll.poll(seconds * 1000)
        if not events:
            self._upper_layer.drop(End.SILENT, f"the peer has read nothing for {self._timeout_s:g} s")
        elif events[0][1] & ~select.POLLOUT:
            self._upper_layer.step(deadline)

    def _read_last_words(self) -> None:
        """The peer has closed: perhaps with an A-ABORT that says why."""
        upper_layer = self._upper_layer
        upper_layer.reader.set_timeout(_LAST_WORDS_S)
        deadline = time.monotonic() + _LAST_WORDS_S
        while not upper_layer.is_closed and time.monotonic() < deadline:
            upper_layer.step(deadline)
        if not upper_layer.is_closed:
            upper_layer.drop(End.CLOSED, "the peer closed while we were sending")
