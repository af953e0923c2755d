"""The quotas' first tables."""

import sqlalchemy as sa
from alembic import op

revision = "quotas_0001"
down_revision = None
branch_labels = ("quotas",)
depends_on = None


def upgrade() -> None:
    """Create all of them."""
    op.create_table(
        "quota_rules",
        sa.Column("rule", sa.String(80), primary_key=True),
        sa.Column("definition", sa.String(1000), nullable=False),
        sa.Column("counts_since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "quota_use",
        sa.Column("rule", sa.String(80), primary_key=True),
        sa.Column("study", sa.String(64), primary_key=True),
        sa.Column("instances", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "quota_leases",
        sa.Column("rule", sa.String(80), primary_key=True),
        sa.Column("study", sa.String(64), primary_key=True),
        sa.Column("gateway", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.Column("instances", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "quota_sources",
        sa.Column("source", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("called_ae_title", sa.String(16), nullable=False),
        sa.Column("host", sa.String(64), nullable=False),
    )
    op.create_index("quota_sources_all", "quota_sources", ["calling_ae_title", "called_ae_title", "host"], unique=True)
    op.create_table(
        "quota_instances",
        sa.Column("gateway", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("source", sa.Integer, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("orthanc_id", sa.String(44), nullable=False),
        sa.Column("accepted_at", sa.BigInteger, nullable=False),
        sa.Column("was_new", sa.Boolean, nullable=False),
        sa.Column("held", sa.SmallInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
    )
    op.create_index("quota_instances_sop", "quota_instances", ["sop_instance_uid"])
    op.create_index("quota_instances_orthanc", "quota_instances", ["orthanc_id"])
    op.create_index("quota_instances_source", "quota_instances", ["source", "accepted_at"])
