"""Procedure steps and what else is known of the work on items, in SQL. Times are nanoseconds since 1970."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from worklist.tables import ITEMS, METADATA

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

STEPS: Final = Table(
    "performed_steps",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", String(64), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(255), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False),
    Index("performed_steps_changed", "changed_at"),
    # An identifier is never given again: it stands in logs.
    sqlite_autoincrement=True,
)

# Which items a step is about.
STEP_ITEMS: Final = Table(
    "performed_step_items",
    METADATA,
    Column("step", _NUMBER, ForeignKey(STEPS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("item", _NUMBER, ForeignKey(ITEMS.c.id, ondelete="CASCADE"), primary_key=True),
    Index("performed_step_items_item", "item"),
)

# Which worklist queries an item was an answer to.
ANSWERS: Final = Table(
    "worklist_answers",
    METADATA,
    Column("item", _NUMBER, ForeignKey(ITEMS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("calling_ae_title", String(16), primary_key=True),
    Column("times", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
)

# The last of Orthanc's changes that a gateway has read.
CHANGES_READ: Final = Table(
    "orthanc_changes",
    METADATA,
    Column("gateway", String(32), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)
