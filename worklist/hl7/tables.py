"""The message log's table. Instants are nanoseconds since 1970."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table

METADATA: Final = MetaData()

MAXIMUM_TEXT_CHARACTERS: Final = 255

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_TEXT = String(MAXIMUM_TEXT_CHARACTERS)

MESSAGES: Final = Table(
    "hl7_messages",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    # When it came first, when last, and how often.
    Column("received_at", BigInteger, nullable=False),
    Column("last_received_at", BigInteger, nullable=False),
    Column("times_received", Integer, nullable=False),
    # Who sent it last.
    Column("peer", String(64), nullable=False),
    # MSH-3, MSH-4, MSH-9.1^MSH-9.2, MSH-10.
    Column("sending_application", _TEXT, nullable=False),
    Column("sending_facility", _TEXT, nullable=False),
    Column("type", _TEXT, nullable=False),
    Column("control_id", _TEXT, nullable=False),
    # Of sender, MSH-10 and body: the same again is a replay. Without MSH-10 nothing tells whether it is one.
    Column("replay_key", LargeBinary(32), nullable=True),
    # AA, AE, AR; empty if the sender got no acknowledgement because of trouble of ours.
    Column("outcome", String(2), nullable=False),
    # MSA-3, the code of table 0357 (0: none) and ERR-2.
    Column("text", _TEXT, nullable=False),
    Column("error_code", Integer, nullable=False),
    Column("error_location", _TEXT, nullable=False),
    # Last, so that SQLite need not read them to get at the others.
    Column("body", LargeBinary, nullable=False),
    # What was sent, with its frames.
    Column("acknowledgement", LargeBinary, nullable=False),
    Index("hl7_messages_replay", "replay_key", unique=True),
    Index("hl7_messages_age", "last_received_at"),
    # A number is never given again: it stands in logs.
    sqlite_autoincrement=True,
)
