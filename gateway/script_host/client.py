"""The workers' side: which callbacks there are, and calls of them. Every wait has a deadline.

One connection of each process is only listened to: on it the host says what its script has registered, and its end
tells that the host is gone. What was registered last counts until the host is back.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway import waiting
from gateway.log import get_logger
from gateway.options.script import ScriptOptions
from gateway.script_host.kinds import Kind
from gateway.script_host.packets import Broken, Packet, receive, send, socket_path

RECONNECT_DELAY_S: Final = 0.1
# A host that is being started again is waited for so long, within the limit of the call.
HOST_WAIT_S: Final = 5.0
MAXIMUM_IDLE_CONNECTIONS: Final = 16


class ScriptFailed(Exception):
    """A callback gave no answer that counts: an exception, too late, a crash. The text is for the log."""


class ScriptUnavailable(ScriptFailed):
    """The script could not be asked, or did not answer in time."""


class ScriptClient:
    """One host, for the threads of one process."""

    def __init__(self, state_directory: Path, options: ScriptOptions) -> None:
        self.options = options
        self._path = socket_path(state_directory)
        self._changed = threading.Condition()
        self._kinds: frozenset[Kind] | None = None
        self._failure = ""
        self._is_connected = False
        self._idle: list[socket.socket] = []
        self._log = get_logger()
        threading.Thread(target=self._watch, name="script-watch", daemon=True).start()

    def may_have(self, kind: Kind) -> bool:
        """Whether the script wants to be asked, as far as is known now."""
        kinds = self._kinds
        return kinds is None or kind in kinds

    def has(self, kind: Kind) -> bool:
        """Whether the script wants to be asked. Raises ScriptUnavailable while nobody can know: it is not loaded."""
        kinds = self._kinds
        if kinds is None:
            kinds = self._wait_for_kinds(kind.limit_s(self.options))
        return kind in kinds

    def call(self, kind: Kind) -> Call:
        """Begin a call, or several that belong together. Raises ScriptUnavailable."""
        return Call(self, kind, time.monotonic() + kind.limit_s(self.options))

    def _wait_for_kinds(self, limit_s: float) -> frozenset[Kind]:
        waiting.wait_for(self._changed, lambda: self._kinds is not None or bool(self._failure), limit_s)
        with self._changed:
            if self._failure:
                raise ScriptUnavailable(self._failure)
            if self._kinds is None:
                raise ScriptUnavailable(f"the script is not loaded after {limit_s:g} s")
            return self._kinds

    def connection(self, deadline: float) -> socket.socket:
        """A connection for calls; a host that is not there is waited for. Raises ScriptUnavailable."""
        until = min(deadline, time.monotonic() + HOST_WAIT_S)
        while True:
            waiting.wait_for(self._changed, lambda: self._is_connected, max(0.0, until - time.monotonic()))
            with self._changed:
                if not self._is_connected:
                    raise ScriptUnavailable(self._failure or "the script is not running: it is started again")
                if self._idle:
                    return self._idle.pop()
            try:
                return self._connect()
            except OSError as error:  # it has just ended: the thread that watches will hear so in a moment
                if time.monotonic() + RECONNECT_DELAY_S > until:
                    raise ScriptUnavailable(f"the script is not running: {error.strerror or error}") from error
                time.sleep(RECONNECT_DELAY_S)

    def give_back(self, connection: socket.socket) -> None:
        """For the next call."""
        with self._changed:
            if self._is_connected and len(self._idle) < MAXIMUM_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(HOST_WAIT_S)
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection

    def _watch(self) -> None:
        while True:
            with contextlib.suppress(OSError, Broken), self._connect() as connection:
                send(connection, {"watch": True})
                connection.settimeout(None)
                while True:
                    self._on_news(receive(connection).header)
            self._on_loss()
            time.sleep(RECONNECT_DELAY_S)

    def _on_news(self, header: dict[str, Any]) -> None:
        with self._changed:
            self._failure = header.get("failure", "")
            self._kinds = None if self._failure else frozenset(map(Kind.of, header["kinds"]))
            self._is_connected = not self._failure
            self._changed.notify_all()

    def _on_loss(self) -> None:
        with self._changed:
            self._is_connected = False
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class Call:
    """One conversation with the host on a connection of its own. Used by one thread; `interrupt` by any."""

    def __init__(self, client: ScriptClient, kind: Kind, deadline: float) -> None:
        """Raises ScriptUnavailable."""
        self._client = client
        self._kind = kind
        self._connection = client.connection(deadline)
        self._deadline: float | None = deadline
        # Whether the script has seen anything of this conversation: until then it may be repeated.
        self._is_begun = False
        self._is_sound = True

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def ask(self, header: dict[str, Any], payload: bytes = b"", fds: Sequence[int] = ()) -> Packet:
        """Send a request and return its answer, which came in time. Raises ScriptFailed.

        A process that ends before it has begun with the call is waited for, and asked again when it is back.
        """
        while True:
            try:
                self._send(header, payload, fds)
                return self.receive()
            except Broken as error:
                if self._is_begun or not self._is_sound:
                    raise self._broken("the script's process ended during the call") from error
                self._connection.close()
                if time.monotonic() + RECONNECT_DELAY_S > (self._deadline or 0.0):
                    raise self._too_late() from error
                time.sleep(RECONNECT_DELAY_S)
                self._connection = self._client.connection(self._deadline or 0.0)

    def receive(self) -> Packet:
        """The next packet of the answer. Raises ScriptFailed, Broken."""
        packet = self._receive()
        while "begun" in packet.header:
            self._is_begun = True
            packet = self._receive()
        if "more" not in packet.header:
            self._deadline = None
        if "failed" in packet.header:
            packet.close()
            failure = ScriptUnavailable if packet.header.get("unavailable") else ScriptFailed
            raise failure(str(packet.header["failed"]))
        return packet

    def extend(self) -> None:
        """The next packet may take as long as a whole call."""
        self._deadline = time.monotonic() + self._kind.limit_s(self._client.options)

    def interrupt(self) -> None:
        """Let the thread that waits for an answer go; the host is told by the end of the connection."""
        self._is_sound = False
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The conversation is over."""
        if self._is_sound and self._deadline is None:
            self._client.give_back(self._connection)
        else:
            self._connection.close()
        self._is_sound = False

    def _send(self, header: dict[str, Any], payload: bytes, fds: Sequence[int]) -> None:
        if not self._is_sound:
            raise ScriptUnavailable("the script has lost this call")
        if self._deadline is None:
            self._deadline = time.monotonic() + self._kind.limit_s(self._client.options)
        remaining_s = self._remaining_s()
        self._connection.settimeout(remaining_s)
        try:
            send(self._connection, {"call": self._kind.text, "limit": remaining_s, **header}, payload, fds)
        except TimeoutError as error:
            raise self._too_late() from error

    def _receive(self) -> Packet:
        waiting.until_readable(self._connection, self._remaining_s())
        self._connection.settimeout(self._remaining_s())
        try:
            return receive(self._connection)
        except TimeoutError as error:
            raise self._too_late() from error

    def _remaining_s(self) -> float:
        return max(0.001, (self._deadline or 0.0) - time.monotonic())

    def _too_late(self) -> ScriptUnavailable:
        return self._broken(f"no answer within {self._kind.limit_s(self._client.options):g} s")

    def _broken(self, reason: str) -> ScriptUnavailable:
        self._is_sound = False
        self._connection.close()
        return ScriptUnavailable(reason)
