"""The host's socket: a thread for each connection, which makes the calls that arrive on it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.log import get_logger
from gateway.script_host.kinds import Kind
from gateway.script_host.packets import MAXIMUM_TEXT_CHARACTERS, Broken, NoDescriptors, Packet, receive, send
from gateway.script_host.process import in_this_process
from gateway.script_host.registrations import Registrations
from gateway.script_host.running import NoTurn, TooLate, Turns

BACKLOG: Final = 512
SEND_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 0.1

Handler = Callable[["Conversation", Packet], None]
"""Answers the first request of a conversation, and receives those that follow."""


class Refused(Exception):
    """The call has no result: what the caller is told. `unavailable`: the callback did not fail, time was too short."""

    def __init__(self, reason: str, *, unavailable: bool = False) -> None:
        super().__init__(reason)
        self.unavailable = unavailable

    def header(self) -> dict[str, Any]:
        """As an answer."""
        return {"failed": str(self), "unavailable": self.unavailable}


class Conversation:
    """One connection, on its thread."""

    def __init__(self, connection: socket.socket, turns: Turns) -> None:
        self._connection = connection
        self._turns = turns
        # Whether the script has been called, and the caller knows it.
        self._is_begun = False
        self._log = get_logger()

    def perform(self, kind: Kind, limit_s: float, function: Callable[[], Any]) -> Any:
        """Call a function of the script, in its turn. Raises Refused for whatever goes wrong in it."""
        try:
            with self._turns.turn(kind, limit_s):
                if not self._is_begun:
                    self._is_begun = True
                    self._turns.begin_conversation()
                    self.answer({"begun": True})
                return in_this_process(function)
        except Broken:
            raise
        except NoTurn as error:
            raise Refused(str(error), unavailable=True) from error
        except TooLate as error:
            self._log.error("a callback of the script took too long", callback=kind.text)
            raise Refused(f"the {kind.text} callback took too long", unavailable=True) from error
        except MemoryError as error:
            self._turns.end_soon("it has no memory left")
            raise Refused(f"the {kind.text} callback: MemoryError", unavailable=True) from error
        except BaseException as error:
            self._turns.log_failure(kind, error)
            raise Refused(f"the {kind.text} callback: {described(error)}") from error

    def answer(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send a packet of the answer. Raises Broken."""
        try:
            send(self._connection, header, payload)
        except TimeoutError as error:
            raise Broken("the caller does not listen") from error

    def end(self) -> None:
        """The last answer is sent, or cannot be. What follows is a call of its own."""
        if self._is_begun:
            self._is_begun = False
            self._turns.end_conversation()

    def next(self) -> Packet:
        """The next request. Raises Broken at the end of the conversation."""
        self._connection.settimeout(None)
        packet = receive(self._connection)
        self._connection.settimeout(SEND_TIMEOUT_S)
        return packet


def described(error: BaseException) -> str:
    """An exception in a line: for callers, and their logs."""
    return f"{type(error).__name__}: {error}"[:MAXIMUM_TEXT_CHARACTERS]


class Server:
    """Listens from its beginning; answers once `open` or `fail` has said what there is."""

    def __init__(self, path: Path, registrations: Registrations, turns: Turns) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._registrations = registrations
        self._turns = turns
        self._handlers: dict[Kind, Handler] = {}
        self._failure = ""
        self._lock = threading.Lock()
        self._watchers: list[socket.socket] = []
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet([self._listener])
        os.register_at_fork(after_in_child=self._leave)

    def open(self, handlers: dict[Kind, Handler]) -> None:
        """The script is loaded: serve."""
        self._handlers = handlers
        self._registrations.listen(self._tell)
        self._start()

    def fail(self, reason: str) -> None:
        """The script cannot be loaded: tell everybody who asks."""
        self._failure = reason[:MAXIMUM_TEXT_CHARACTERS]
        self._start()

    def _start(self) -> None:
        self._listener.listen(BACKLOG)
        threading.Thread(target=self._accept, name="script-accept", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError as error:
                self._turns.end_soon(f"it cannot take a call: {error.strerror}")
                time.sleep(RETRY_S)
                continue
            self._sockets.add(connection)
            while not self._has_thread(connection):
                time.sleep(RETRY_S)

    def _has_thread(self, connection: socket.socket) -> bool:
        """Whether the thread of a connection could be started. If not, those who call wait for the next process."""
        try:
            threading.Thread(target=self._serve, args=(connection,), name="script-call", daemon=True).start()
        except (RuntimeError, MemoryError):
            self._turns.end_soon("it has no memory left for a thread")
            return False
        return True

    def _serve(self, connection: socket.socket) -> None:
        conversation = Conversation(connection, self._turns)
        try:
            while True:
                packet = conversation.next()
                try:
                    if "watch" in packet.header:
                        self._add_watcher(connection)
                        return
                    self._call(conversation, packet)
                finally:
                    packet.close()
        except (Broken, TooLate) as error:
            connection.close()
            if isinstance(error, NoDescriptors):
                self._turns.end_soon("it has no descriptor left")

    def _call(self, conversation: Conversation, packet: Packet) -> None:
        kind = Kind.of(packet.header["call"])
        try:
            if self._registrations.of(kind) is None:
                raise Refused(f"the script has no {kind.text} callback any more")
            self._handlers[kind](conversation, packet)
        except Refused as error:
            conversation.answer(error.header())
        except (MemoryError, OSError) as error:  # before the script was called: what it has left is too little
            reason = f"no {kind.text} callback is called: {described(error)}"
            conversation.answer(Refused(reason, unavailable=True).header())
            self._turns.end_soon(reason)
        finally:
            conversation.end()

    def _leave(self) -> None:
        """We are a process that the script has forked: callers are to notice the end of the first one."""
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.close()

    def _add_watcher(self, connection: socket.socket) -> None:
        with self._lock:
            self._watchers.append(connection)
        self._tell()

    def _tell(self) -> None:
        news = {"failure": self._failure} if self._failure else {"kinds": [k.text for k in self._registrations.kinds]}
        with self._lock:
            for watcher in list(self._watchers):
                try:
                    send(watcher, news)
                except (Broken, TimeoutError):
                    self._watchers.remove(watcher)
                    watcher.close()
