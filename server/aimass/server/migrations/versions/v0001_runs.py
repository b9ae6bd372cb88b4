"""Runs, steps, transcript, receipts, heads, models, enrolments."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(200), nullable=False, unique=True),
        sa.Column("owner", sa.String(63), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("plan", sa.LargeBinary, nullable=False),
        sa.Column("plan_digest", sa.String(64), nullable=False),
        sa.Column("roster_digest", sa.String(64), nullable=False),
        sa.Column("snapshot", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "steps",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("view", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "transcript",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("entry", sa.Integer, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
    )
    op.create_table(
        "receipts",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("partner", sa.String(63), primary_key=True),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "heads",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("partner", sa.String(63), primary_key=True),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "models",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("committed_at", sa.Float, nullable=False),
    )
    op.create_index("models_by_digest", "models", ["digest"])
    op.create_table(
        "enrolments",
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
    )
