"""The port: who may connect, how many at the same time, and the end of it all."""

import selectors
import socket
import threading
import time
from typing import Any, Final

from gateway.access.peers import AddressFilter, plain_address
from gateway.child import is_pinged
from gateway.options.hl7 import Hl7Section
from gateway.repeated_lines import RepeatedLines
from gateway.tls.context import TlsContexts, TlsError
from worklist.hl7.connection import Connection
from worklist.hl7.inbox import Inbox

# What is being worked on when the gateway stops may take so long, then so long again until it is sent.
DRAIN_TIMEOUT_S: Final = 5.0
SUMMARY_INTERVAL_S: Final = 10.0
# When the system has no descriptor left for a connection, the port stays readable.
ACCEPT_RETRY_S: Final = 0.2


class Listener:
    """Accepts connections in the caller's thread, and gives each a thread of its own."""

    def __init__(
        self, port: socket.socket, inbox: Inbox, section: Hl7Section, tls: TlsContexts | None, log: Any
    ) -> None:
        self._port = port
        self._inbox = inbox
        self._section = section
        self._tls = tls
        self._log = log
        self._lines = RepeatedLines(log)
        self._filter = AddressFilter(section.allowed_hosts)
        self._lock = threading.Lock()
        self._open: dict[Connection, threading.Thread] = {}

    def run(self, control: socket.socket) -> None:
        """Serve until the supervisor says stop on `control`, or is dead; then drain."""
        self._inbox.start()
        encryption = {} if self._tls is None else {"tls": True}
        self._log.info("listening for HL7", host=self._section.host, port=self._section.port, **encryption)
        with selectors.DefaultSelector() as selector:
            selector.register(self._port, selectors.EVENT_READ)
            selector.register(control, selectors.EVENT_READ)
            while True:
                events = selector.select(SUMMARY_INTERVAL_S)
                if any(key.fileobj is control for key, _events in events) and not is_pinged(control):
                    break
                self._accept()
                self._lines.summarise()
        self._drain()

    def _accept(self) -> None:
        try:
            transport, address = self._port.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._lines.warning("cannot accept a connection", reason=error.strerror)
            time.sleep(ACCEPT_RETRY_S)
            return
        peer = str(plain_address(address)[0])
        refusal = self._refusal(peer)
        if refusal is not None:
            transport.close()
            reason, option = refusal
            self._lines.warning("connection refused", peer=peer, reason=reason, option=f"DicomGateway.Hl7.{option}")
            return
        try:
            context = self._tls.current() if self._tls is not None else None
        except TlsError as error:
            transport.close()
            self._lines.warning("connection refused", peer=peer, reason=str(error))
            return
        connection = Connection(transport, peer, self._inbox, self._section, context, self._log)
        thread = threading.Thread(target=self._serve, args=(connection,), name=peer, daemon=True)
        with self._lock:
            self._open[connection] = thread
        try:
            thread.start()
        except RuntimeError as error:  # the system's limit
            with self._lock:
                del self._open[connection]
            transport.close()
            self._lines.warning("connection refused", peer=peer, reason=str(error))

    def _refusal(self, peer: str) -> tuple[str, str] | None:
        """Why this peer may not connect now, and the option that says so."""
        if not self._filter.allows(peer):
            return "its address is not allowed", "AllowedHosts"
        maximum, maximum_per_peer = self._section.maximum_connections, self._section.maximum_connections_per_peer
        with self._lock:
            if len(self._open) >= maximum:
                return f"{maximum} connections are open", "MaximumConnections"
            of_peer = sum(connection.peer == peer for connection in self._open)
        if maximum_per_peer and of_peer >= maximum_per_peer:
            return f"{maximum_per_peer} connections of this address are open", "MaximumConnectionsPerPeer"
        return None

    def _serve(self, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            with self._lock:
                del self._open[connection]

    def _drain(self) -> None:
        """What is being worked on is finished and acknowledged."""
        self._port.close()
        with self._lock:
            threads = list(self._open.items())
        for connection, _thread in threads:
            connection.stop()
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        for _connection, thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._inbox.stop(max(0.0, deadline - time.monotonic()))
        self._lines.summarise(unfinished=True)
