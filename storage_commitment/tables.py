"""The tables of storage commitment. Instants are nanoseconds since 1970."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

METADATA: Final = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

TRANSACTIONS: Final = Table(
    "commitment_transactions",
    METADATA,
    Column("id", _NUMBER, primary_key=True, autoincrement=True),
    # Who reports: the gateway that took the request last.
    Column("gateway", String(32), nullable=False),
    Column("transaction_uid", String(64), nullable=False),
    Column("requester", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    # Of the instances; a Transaction UID that comes with others is a duplicate.
    Column("digest", LargeBinary(32), nullable=False),
    Column("is_duplicate", Boolean, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("instance_references", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    # When there is something to do for it; of what is over: since when it is.
    Column("due_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("verified_at", BigInteger, nullable=True),
    # By SOP Instance UID: why it is not committed.
    Column("failures", Text, nullable=False),
    Column("note", String(255), nullable=False),
    Index("commitment_transactions_due", "gateway", "state", "due_at"),
    Index("commitment_transactions_uid", "transaction_uid"),
)

# Reports of others, to Orthanc's own requests.
REPORTS: Final = Table(
    "commitment_reports",
    METADATA,
    Column("transaction_uid", String(64), primary_key=True),
    Column("reporter", String(16), primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Column("report", Text, nullable=False),
)
