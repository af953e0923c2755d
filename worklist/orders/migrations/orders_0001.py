"""What is remembered of messages."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0001"
down_revision = None
branch_labels = ("orders",)
depends_on = "worklist_0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "hl7_items",
        sa.Column("item", _NUMBER, sa.ForeignKey("worklist_items.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("memory", sa.Text, nullable=False),
    )
    op.create_table(
        "hl7_early_statuses",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("order_key", sa.String(64), nullable=False),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("moment", sa.Text, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("hl7_early_statuses_order", "hl7_early_statuses", ["order_key"])
    op.create_index("hl7_early_statuses_received", "hl7_early_statuses", ["received_at"])
