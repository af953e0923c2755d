"""What the listener hands on, and what it wants to hear."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import hl7
from sqlalchemy import Connection

from worklist.hl7.header import Header


@dataclass(frozen=True, slots=True)
class Received:
    """A message that could be decoded and parsed."""

    header: Header
    message: hl7.Message
    # Segments end with "\r"; there are no empty ones. Escape sequences stand as they came.
    text: str
    # The sender's address.
    peer: str
    # In UTC.
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a message that was accepted (AA)."""

    # For MSA-3 and the message log, in a few words; may be empty. Without patient data.
    text: str = ""
    # What was changed, for the log line: "created", "item 7 canceled", ... Without patient data.
    changes: tuple[str, ...] = ()


class Handler(Protocol):
    """Acts on messages. It is called by one thread at a time."""

    def handle(self, received: Received, connection: Connection) -> Result:
        """Act on a message, inside the transaction that also writes it into the message log.

        The transaction belongs to the caller and may hold other messages too: neither commit nor roll back. Raises
        MessageError (AE) or NotSupported (AR), and what was changed for this message is undone. After any other
        exception as well, and the sender gets no acknowledgement, so that it tries again.
        """
