"""The worklist's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "worklist_0001"
down_revision = None
branch_labels = ("worklist",)
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_KEY = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")

_KEYS = (
    "partition",
    "placer_order_number",
    "placer_namespace",
    "filler_order_number",
    "filler_namespace",
    "accession_number",
    "study_instance_uid",
    "scheduled_procedure_step_id",
    "requested_procedure_id",
    "patient_id",
    "issuer_of_patient_id",
    "modality",
    "scheduled_date",
    "scheduled_time",
)
_INDEXES = {
    "scheduled": ["scheduled_date", "scheduled_time", "id"],
    "placer": ["placer_order_number"],
    "filler": ["filler_order_number"],
    "accession": ["accession_number"],
    "study": ["study_instance_uid"],
    "step": ["scheduled_procedure_step_id"],
    "procedure": ["requested_procedure_id"],
    "patient": ["patient_id"],
    "changed": ["changed_at"],
}


def upgrade() -> None:
    """Create all of them."""
    op.create_table(
        "worklist_items",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("origin", sa.String(255), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        *(sa.Column(name, _KEY, nullable=False) for name in _KEYS),
        sqlite_autoincrement=True,
    )
    for name, columns in _INDEXES.items():
        op.create_index(f"worklist_items_{name}", "worklist_items", columns)
    op.create_table(
        "worklist_stations",
        sa.Column("station", _KEY, primary_key=True),
        sa.Column("scheduled_date", _KEY, primary_key=True),
        sa.Column("item", _NUMBER, _item(), primary_key=True),
    )
    op.create_index("worklist_stations_item", "worklist_stations", ["item"])
    op.create_table(
        "worklist_names",
        sa.Column("name", _KEY, primary_key=True),
        sa.Column("item", _NUMBER, _item(), primary_key=True),
    )
    op.create_index("worklist_names_item", "worklist_names", ["item"])
    op.create_table(
        "worklist_history",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("item", _NUMBER, _item(), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("what", sa.Text, nullable=False),
    )
    op.create_index("worklist_history_item", "worklist_history", ["item", "id"])
    op.create_table(
        "worklist_files",
        sa.Column("item", _NUMBER, _item(), primary_key=True),
        sa.Column("gateway", sa.String(32), nullable=False),
        sa.Column("path", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.String(255), nullable=False),
    )
    op.create_index("worklist_files_gateway", "worklist_files", ["gateway"])


def _item() -> sa.ForeignKey:
    return sa.ForeignKey("worklist_items.id", ondelete="CASCADE")
