"""A raw MLLP sender: sends any bytes, and reads what comes back frame by frame."""

import socket
import ssl
from types import TracebackType
from typing import Final

VT: Final = b"\x0b"
FS: Final = b"\x1c"
CR: Final = b"\r"

TIMEOUT_S: Final = 20


def order(control_id: str, **fields: str) -> bytes:
    """An ORM^O01 with this MSH-10; `fields` replace MSH-3 to MSH-18 (`msh18`), PID-5 (`name`) and more (`rest`)."""
    msh = ["RIS", "HOSPITAL", "GATEWAY", "RADIOLOGY", "20240102030405", "", "ORM^O01", control_id, "P", "2.5"]
    msh += [""] * 6
    for number in range(3, 19):
        msh[number - 3] = fields.get(f"msh{number}", msh[number - 3])
    segments = [
        "MSH|^~\\&|" + "|".join(msh),
        f"PID|1||P{control_id}^^^HOSPITAL||{fields.get('name', 'DOE^JANE')}||19700101|F",
        f"ORC|NW|{control_id}|F{control_id}||SC",
        f"OBR|1|{control_id}|F{control_id}|CT^CT HEAD^L",
    ]
    text = "\r".join([*segments, *filter(None, [fields.get("rest")])]) + "\r"
    return text.encode(fields.get("codec", "utf-8"))


def enclosed(message: bytes) -> bytes:
    """The frame of a message."""
    return VT + message + FS + CR


class Sender:
    """One connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if context is None else context.wrap_socket(plain)
        self._buffer = b""

    def __enter__(self) -> "Sender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes | None:
        """The next frame's content; None if the connection ended before it was complete."""
        while (end := self._buffer.find(FS + CR)) < 0:
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                return None
            if not data:
                return None
            self._buffer += data
        frame, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        assert frame.startswith(VT), frame
        return frame[1:]

    def ask(self, message: bytes) -> bytes | None:
        """Sends a message and returns the acknowledgement."""
        self.send(enclosed(message))
        return self.receive()


def segments(acknowledgement: bytes | None, codec: str = "utf-8") -> dict[str, list[str]]:
    """The fields of an acknowledgement by its segments' names; those of MSH count from 1 as in HL7, like the others."""
    assert acknowledgement is not None, "closed without an acknowledgement"
    fields = [segment.split("|") for segment in acknowledgement.decode(codec).split("\r") if segment]
    return {each[0]: ["MSH", "|", *each[1:]] if each[0] == "MSH" else each for each in fields}


def code_of(acknowledgement: bytes | None) -> str:
    """MSA-1."""
    return segments(acknowledgement, "latin-1")["MSA"][1]
