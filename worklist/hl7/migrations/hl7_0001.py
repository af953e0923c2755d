"""The message log."""

import sqlalchemy as sa
from alembic import op

revision = "hl7_0001"
down_revision = None
branch_labels = ("hl7",)
depends_on = None


def upgrade() -> None:
    """Create it."""
    op.create_table(
        "hl7_messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("last_received_at", sa.BigInteger, nullable=False),
        sa.Column("times_received", sa.Integer, nullable=False),
        sa.Column("peer", sa.String(64), nullable=False),
        sa.Column("sending_application", sa.String(255), nullable=False),
        sa.Column("sending_facility", sa.String(255), nullable=False),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("control_id", sa.String(255), nullable=False),
        sa.Column("replay_key", sa.LargeBinary(32), nullable=True),
        sa.Column("outcome", sa.String(2), nullable=False),
        sa.Column("text", sa.String(255), nullable=False),
        sa.Column("error_code", sa.Integer, nullable=False),
        sa.Column("error_location", sa.String(255), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("acknowledgement", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("hl7_messages_replay", "hl7_messages", ["replay_key"], unique=True)
    op.create_index("hl7_messages_age", "hl7_messages", ["last_received_at"])
