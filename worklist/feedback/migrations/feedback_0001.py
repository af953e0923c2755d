"""The receivers of messages, and what is sent to them."""

import sqlalchemy as sa
from alembic import op

revision = "feedback_0001"
down_revision = None
branch_labels = ("feedback",)
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "hl7_receivers",
        sa.Column("gateway", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("interest", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("trouble", sa.String(255), nullable=False),
        sa.Column("trouble_since", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "hl7_receiver_owners",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("gateway", sa.String(32), nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "hl7_outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("item", sa.BigInteger, nullable=False),
        sa.Column("order_key", sa.String(64), nullable=False),
        sa.Column("previous", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("control_id", sa.String(20), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
        sa.Column("settled_at", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(2), nullable=False),
        sa.Column("text", sa.String(255), nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=True),
        sa.Column("acknowledgement", sa.LargeBinary, nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("hl7_outbox_receiver", "hl7_outbox", ["receiver", "state", "id"])
    op.create_index("hl7_outbox_order", "hl7_outbox", ["order_key"])
    op.create_index("hl7_outbox_item", "hl7_outbox", ["item"])
    op.create_index("hl7_outbox_settled", "hl7_outbox", ["settled_at"])
