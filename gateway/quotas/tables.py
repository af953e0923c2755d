"""The tables of the quotas. Instants are nanoseconds since 1970, as in the names of spooled files."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
)

METADATA: Final = MetaData()

# Values of `held`. An instance that was sent again is held twice at most for a while, and counts once.
GONE: Final = 0
COUNTED: Final = 1
DUPLICATE: Final = 2

RULES: Final = Table(
    "quota_rules",
    METADATA,
    Column("rule", String(80), primary_key=True),
    # By what its use was counted; when this differs from the configuration it is counted anew.
    Column("definition", String(1000), nullable=False),
    # Only what was accepted after this instant counts: the start of the window, or the last reset.
    Column("counts_since", BigInteger, nullable=False),
)

USE: Final = Table(
    "quota_use",
    METADATA,
    Column("rule", String(80), primary_key=True),
    Column("study", String(64), primary_key=True),
    Column("instances", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

LEASES: Final = Table(
    "quota_leases",
    METADATA,
    Column("rule", String(80), primary_key=True),
    Column("study", String(64), primary_key=True),
    Column("gateway", String(32), primary_key=True),
    Column("holder", String(64), primary_key=True),
    Column("instances", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

SOURCES: Final = Table(
    "quota_sources",
    METADATA,
    Column("source", Integer, primary_key=True, autoincrement=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("host", String(64), nullable=False),
    Index("quota_sources_all", "calling_ae_title", "called_ae_title", "host", unique=True),
)

INSTANCES: Final = Table(
    "quota_instances",
    METADATA,
    Column("gateway", String(32), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("source", Integer, nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("orthanc_id", String(44), nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    # Whether it was new when it came: rules with a window count it, whatever becomes of it.
    Column("was_new", Boolean, nullable=False),
    Column("held", SmallInteger, nullable=False),
    # The run of the comparison with Orthanc that found it there.
    Column("seen", BigInteger, nullable=False),
    Index("quota_instances_sop", "sop_instance_uid"),
    Index("quota_instances_orthanc", "orthanc_id"),
    Index("quota_instances_source", "source", "accepted_at"),
)
