"""What is to be sent to whom, and what came of it, in SQL. Instants are nanoseconds since 1970."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData()

MAXIMUM_TEXT_CHARACTERS: Final = 255

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

# Who wants to hear what: a row for each gateway and each of its receivers, written when the gateway starts.
RECEIVERS: Final = Table(
    "hl7_receivers",
    METADATA,
    Column("gateway", String(32), primary_key=True),
    Column("name", String(64), primary_key=True),
    # worklist.feedback.receivers.Interest as JSON.
    Column("interest", Text, nullable=False),
    # When the gateway last said that it is there.
    Column("seen_at", BigInteger, nullable=False),
    # Why it is not reached, and since when; empty if it is.
    Column("trouble", String(MAXIMUM_TEXT_CHARACTERS), nullable=False),
    Column("trouble_since", BigInteger, nullable=False),
)

# Which of several gateways sends to a receiver.
OWNERS: Final = Table(
    "hl7_receiver_owners",
    METADATA,
    Column("name", String(64), primary_key=True),
    # "" is nobody.
    Column("gateway", String(32), nullable=False),
    # Grows while the owner lives.
    Column("beat", BigInteger, nullable=False),
)

OUTBOX: Final = Table(
    "hl7_outbox",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("receiver", String(64), nullable=False),
    # No foreign key: what happened to an item is told also when the item is gone.
    Column("item", BigInteger, nullable=False),
    # The same for all items of an order: its messages go out one after the other.
    Column("order_key", String(64), nullable=False),
    # What happened: from which status to which, when, by whom, and when the item was STARTED (0: never).
    Column("previous", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("who", String(255), nullable=False),
    Column("started_at", BigInteger, nullable=False),
    # MSH-10, the same at each attempt.
    Column("control_id", String(20), nullable=False),
    # worklist.feedback.outbox.State.
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    # Not before; 0 is at once.
    Column("due_at", BigInteger, nullable=False),
    # When it was sent last, and when it needed nothing more; 0 is never.
    Column("sent_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger, nullable=False),
    # MSA-1 of the last acknowledgement, and what it said, or why there was none.
    Column("outcome", String(2), nullable=False),
    Column("text", String(MAXIMUM_TEXT_CHARACTERS), nullable=False),
    # Last, so that SQLite need not read them to get at the others: the item as it was then, as JSON; the message as
    # it is sent, once it was; the last acknowledgement.
    Column("attributes", Text, nullable=False),
    Column("body", LargeBinary, nullable=True),
    Column("acknowledgement", LargeBinary, nullable=True),
    Index("hl7_outbox_receiver", "receiver", "state", "id"),
    Index("hl7_outbox_order", "order_key"),
    Index("hl7_outbox_item", "item"),
    Index("hl7_outbox_settled", "settled_at"),
    # A number is never given again: it stands in logs.
    sqlite_autoincrement=True,
)
