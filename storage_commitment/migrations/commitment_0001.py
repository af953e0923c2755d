"""The first tables of storage commitment."""

import sqlalchemy as sa
from alembic import op

revision = "commitment_0001"
down_revision = None
branch_labels = ("commitment",)
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create all of them."""
    op.create_table(
        "commitment_transactions",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("gateway", sa.String(32), nullable=False),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("requester", sa.String(16), nullable=False),
        sa.Column("called_ae_title", sa.String(16), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("is_duplicate", sa.Boolean, nullable=False),
        sa.Column("instances", sa.Integer, nullable=False),
        sa.Column("instance_references", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("verified_at", sa.BigInteger, nullable=True),
        sa.Column("failures", sa.Text, nullable=False),
        sa.Column("note", sa.String(255), nullable=False),
    )
    op.create_index("commitment_transactions_due", "commitment_transactions", ["gateway", "state", "due_at"])
    op.create_index("commitment_transactions_uid", "commitment_transactions", ["transaction_uid"])
    op.create_table(
        "commitment_reports",
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("reporter", sa.String(16), primary_key=True),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
    )
