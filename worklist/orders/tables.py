"""What the gateway remembers of HL7 messages besides the items that they made."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from worklist.tables import ITEMS, METADATA

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

# Which message said last what of an item.
KNOWN: Final = Table(
    "hl7_items",
    METADATA,
    Column("item", _NUMBER, ForeignKey(ITEMS.c.id, ondelete="CASCADE"), primary_key=True),
    # worklist.orders.memory.Memory as JSON.
    Column("memory", Text, nullable=False),
)

# A status for an order that is not there yet: its first message was overtaken.
EARLY: Final = Table(
    "hl7_early_statuses",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    # One identifier of the order: worklist.orders.identity.Identity.keys.
    Column("order_key", String(64), nullable=False),
    # "" is all steps of the order.
    Column("step", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    # worklist.orders.memory.Moment as JSON.
    Column("moment", Text, nullable=False),
    # Nanoseconds since 1970.
    Column("received_at", BigInteger, nullable=False),
    Index("hl7_early_statuses_order", "order_key"),
    Index("hl7_early_statuses_received", "received_at"),
    sqlite_autoincrement=True,
)
