"""The worklist's tables. Instants are nanoseconds since 1970."""

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

from worklist.items import MAXIMUM_KEY_CHARACTERS

METADATA: Final = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
# Keys are compared by code point, so that a prefix is a range: other collations of PostgreSQL order otherwise.
_KEY = String(MAXIMUM_KEY_CHARACTERS).with_variant(String(MAXIMUM_KEY_CHARACTERS, collation="C"), "postgresql")

ITEMS: Final = Table(
    "worklist_items",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("status", String(16), nullable=False),
    Column("origin", String(255), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False),
    # Derived from the attributes by worklist.items.keys_of.
    Column("partition", _KEY, nullable=False),
    Column("placer_order_number", _KEY, nullable=False),
    Column("placer_namespace", _KEY, nullable=False),
    Column("filler_order_number", _KEY, nullable=False),
    Column("filler_namespace", _KEY, nullable=False),
    Column("accession_number", _KEY, nullable=False),
    Column("study_instance_uid", _KEY, nullable=False),
    Column("scheduled_procedure_step_id", _KEY, nullable=False),
    Column("requested_procedure_id", _KEY, nullable=False),
    Column("patient_id", _KEY, nullable=False),
    Column("issuer_of_patient_id", _KEY, nullable=False),
    Column("modality", _KEY, nullable=False),
    Column("scheduled_date", _KEY, nullable=False),
    Column("scheduled_time", _KEY, nullable=False),
    Index("worklist_items_scheduled", "scheduled_date", "scheduled_time", "id"),
    Index("worklist_items_placer", "placer_order_number"),
    Index("worklist_items_filler", "filler_order_number"),
    Index("worklist_items_accession", "accession_number"),
    Index("worklist_items_study", "study_instance_uid"),
    Index("worklist_items_step", "scheduled_procedure_step_id"),
    Index("worklist_items_procedure", "requested_procedure_id"),
    Index("worklist_items_patient", "patient_id"),
    Index("worklist_items_changed", "changed_at"),
    # An identifier is never given again: it stands in logs.
    sqlite_autoincrement=True,
)

STATIONS: Final = Table(
    "worklist_stations",
    METADATA,
    Column("station", _KEY, primary_key=True),
    Column("scheduled_date", _KEY, primary_key=True),
    Column("item", _NUMBER, ForeignKey("worklist_items.id", ondelete="CASCADE"), primary_key=True),
    Index("worklist_stations_item", "item"),
)

NAMES: Final = Table(
    "worklist_names",
    METADATA,
    Column("name", _KEY, primary_key=True),
    Column("item", _NUMBER, ForeignKey("worklist_items.id", ondelete="CASCADE"), primary_key=True),
    Index("worklist_names_item", "item"),
)

HISTORY: Final = Table(
    "worklist_history",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    Column("item", _NUMBER, ForeignKey("worklist_items.id", ondelete="CASCADE"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("who", String(255), nullable=False),
    Column("what", Text, nullable=False),
    Index("worklist_history_item", "item", "id"),
)

# Which items are in files, and what the files looked like when they were read: others are read again.
FILES: Final = Table(
    "worklist_files",
    METADATA,
    Column("item", _NUMBER, ForeignKey("worklist_items.id", ondelete="CASCADE"), primary_key=True),
    # Whose folder it is: several gateways may have files of the same name on different machines.
    Column("gateway", String(32), nullable=False),
    # Bytes: names of files need not be text.
    Column("path", LargeBinary, nullable=False),
    Column("fingerprint", String(255), nullable=False),
    Index("worklist_files_gateway", "gateway"),
)
