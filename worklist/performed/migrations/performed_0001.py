"""Procedure steps, which items they are about, to whom items were shown, and how far Orthanc's changes were read."""

import sqlalchemy as sa
from alembic import op

revision = "performed_0001"
down_revision = None
branch_labels = ("performed",)
depends_on = "worklist_0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create all of them."""
    op.create_table(
        "performed_steps",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False, unique=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("calling_ae_title", sa.String(16), nullable=False),
        sa.Column("called_ae_title", sa.String(16), nullable=False),
        sa.Column("address", sa.String(255), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("performed_steps_changed", "performed_steps", ["changed_at"])
    op.create_table(
        "performed_step_items",
        sa.Column("step", _NUMBER, sa.ForeignKey("performed_steps.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("item", _NUMBER, _item(), primary_key=True),
    )
    op.create_index("performed_step_items_item", "performed_step_items", ["item"])
    op.create_table(
        "worklist_answers",
        sa.Column("item", _NUMBER, _item(), primary_key=True),
        sa.Column("calling_ae_title", sa.String(16), primary_key=True),
        sa.Column("times", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "orthanc_changes",
        sa.Column("gateway", sa.String(32), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )


def _item() -> sa.ForeignKey:
    return sa.ForeignKey("worklist_items.id", ondelete="CASCADE")
