"""Studies that have ended, and who ended them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """One table."""
    op.create_table(
        "ended_studies",
        sa.Column("study", sa.String(32), primary_key=True),
        sa.Column("ended_by", sa.String(63), nullable=False),
        sa.Column("ended_at", sa.Float, nullable=False),
    )
