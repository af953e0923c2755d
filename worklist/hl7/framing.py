"""MLLP's frames (HL7 v3 transport specification, MLLP release 1): VT, the message, FS, CR.

Senders differ: bytes of their own between frames, FS without CR or with LF, a frame begun anew without having ended.
What a frame holds does not depend on how the bytes were split on their way.
"""

from dataclasses import dataclass
from typing import Final

START_BLOCK: Final = b"\x0b"
END_BLOCK: Final = b"\x1c"
CARRIAGE_RETURN: Final = b"\r"

# What is kept of a message that is too large: enough for its header.
HEAD_BYTES: Final = 4096
_AFTER_END: Final = b"\r\n" + START_BLOCK
_BLANKS: Final = b"\r\n \t\0"
# A sender that begins a frame anew, because it gave up the one before.
_BEGUN_ANEW: Final = START_BLOCK + b"MSH"
# How many of the bytes that belong to no frame are kept to be shown.
NOISE_SHOWN_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood between VT and FS."""

    # Of a message that is too large its first HEAD_BYTES only.
    body: bytes
    size: int
    is_too_large: bool = False
    # Another frame was begun before this one, and given up.
    replaces_unfinished: bool = False


def enclose(message: bytes) -> bytes:
    """The frame of a message."""
    return START_BLOCK + message + END_BLOCK + CARRIAGE_RETURN


class FrameReader:
    """Cuts a stream of bytes into frames. Holds at most `maximum_bytes`, and what was fed last."""

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum = maximum_bytes
        self._data = bytearray()
        self._inside = False
        # Up to here there is no end of the frame.
        self._scanned = 0
        self._head: bytes | None = None
        self._discarded = 0
        # How many bytes, blanks aside, belonged to no frame, and the first of them.
        self.noise_bytes = 0
        self.noise = b""

    @property
    def is_inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._inside

    @property
    def may_have_ended(self) -> bool:
        """Whether FS is the last byte so far: the frame has ended if it stays the last, or if CR follows."""
        return self._inside and self._scanned < len(self._data) and self._data.endswith(END_BLOCK)

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived. Take all frames with `next` before feeding more."""
        self._data += data

    def next(self) -> Frame | None:
        """The next frame that is complete, or None."""
        if not self._inside and not self._begin():
            return None
        while (end := self._data.find(END_BLOCK, self._scanned)) >= 0:
            if end + 1 == len(self._data):
                self._scanned = end
                break
            if self._data[end + 1] in _AFTER_END:
                return self._cut(end)
            self._scanned = end + 1
        else:
            self._scanned = len(self._data)
        if self._scanned > self._maximum or self._head is not None:
            self._discard()
        return None

    def end(self) -> Frame | None:
        """The frame that ends with FS alone: nothing has followed for a while, or the connection has ended."""
        return self._cut(len(self._data) - 1) if self.may_have_ended else None

    def _begin(self) -> bool:
        start = self._data.find(START_BLOCK)
        noise = bytes(self._data[: start if start >= 0 else len(self._data)]).strip(_BLANKS)
        self.noise_bytes += len(noise)
        self.noise = (self.noise + noise[:NOISE_SHOWN_BYTES])[:NOISE_SHOWN_BYTES]
        if start < 0:
            self._data.clear()
            return False
        del self._data[: start + 1]
        self._inside, self._scanned, self._head, self._discarded = True, 0, None, 0
        return True

    def _discard(self) -> None:
        """Keep nothing of a message that is too large but its head."""
        if self._head is None:
            self._head = bytes(self._data[:HEAD_BYTES])
        del self._data[: self._scanned]
        self._discarded += self._scanned
        self._scanned = 0

    def _cut(self, end: int) -> Frame:
        body, size = bytes(self._data[:end]), self._discarded + end
        del self._data[: end + 1]
        self._inside = False
        if size > self._maximum:
            head = self._head if self._head is not None else body[:HEAD_BYTES]
            return Frame(head, size, is_too_large=True)
        anew = body.rfind(_BEGUN_ANEW)
        if anew >= 0:
            body = body[anew + 1 :]
        return Frame(body, len(body), replaces_unfinished=anew >= 0)
