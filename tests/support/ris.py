"""A RIS for tests: takes messages over MLLP on a real port, and answers as it is told, or not at all."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

from tests.support.mllp import CR, FS, TIMEOUT_S, VT, enclosed
from tests.support.ports import free_port
from tests.support.processes import wait_until


def field(message: bytes, segment: str, number: int, codec: str = "utf-8") -> str:
    """A field of a message as it was sent; MSH-2 is number 2."""
    for line in message.decode(codec).split("\r"):
        if line.startswith(segment + "|"):
            fields = line.split("|")
            index = number - 1 if segment == "MSH" else number
            return fields[index] if index < len(fields) else ""
    raise AssertionError(f"no {segment} in {message!r}")


def acknowledgement(message: bytes, code: str = "AA", text: str = "", control_id: str | None = None) -> bytes:
    """An acknowledgement in its frame."""
    said = field(message, "MSH", 10) if control_id is None else control_id
    return enclosed(f"MSH|^~\\&|RIS|||||||ACK^O01|R1|P|2.5\rMSA|{code}|{said}|{text}\r".encode())


# What a RIS does about a message on a connection; a connection that it closes is ended.
Behaviour = Callable[["Ris", socket.socket, bytes], None]


def accept(_ris: "Ris", connection: socket.socket, message: bytes) -> None:
    connection.sendall(acknowledgement(message))


def answer(code: str, text: str = "") -> Behaviour:
    return lambda _ris, connection, message: connection.sendall(acknowledgement(message, code, text))


def send(data: bytes) -> Behaviour:
    return lambda _ris, connection, _message: connection.sendall(data)


def hang_up(_ris: "Ris", connection: socket.socket, _message: bytes) -> None:
    connection.close()


def say_nothing(_ris: "Ris", _connection: socket.socket, _message: bytes) -> None:
    """Keeps the connection."""


class Ris:
    """Up between `start` and `stop`, always on the same port. `behaviours` are used up, then `default` counts."""

    def __init__(self, default: Behaviour = accept, context: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.default = default
        self.behaviours: list[Behaviour] = []
        # Whatever came, whole messages only, in order.
        self.received: list[bytes] = []
        self.connections = 0
        self._context = context
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Ris":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Ends all connections; nobody can connect until `start`."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections = list(self._open)
        if listener is not None:
            # close alone would not wake the thread that accepts.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def wait_for(self, count: int) -> list[bytes]:
        """What was received, once it is so many messages."""
        wait_until(lambda: len(self.received) >= count, TIMEOUT_S, lambda: f"{len(self.received)} of {count} messages")
        return self.received

    @property
    def statuses(self) -> list[tuple[str, str]]:
        """OBR-18 and ORC-5 of what was received."""
        return [(field(message, "OBR", 18), field(message, "ORC", 5)) for message in self.received]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with self._lock:
                self.connections += 1
                self._open.add(connection)
                if self._listener is None:
                    connection.close()
            buffer = b""
            while data := connection.recv(65536):
                buffer += data
                while (end := buffer.find(FS + CR)) >= 0:
                    frame, buffer = buffer[:end], buffer[end + 2 :]
                    assert frame.startswith(VT), frame
                    self._handle(connection, frame[1:])
        with self._lock:
            self._open.discard(connection)
        connection.close()

    def _handle(self, connection: socket.socket, message: bytes) -> None:
        with self._lock:
            self.received.append(message)
            behaviour = self.behaviours.pop(0) if self.behaviours else self.default
        behaviour(self, connection, message)
