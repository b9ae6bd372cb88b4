"""Bytes of each run that moved down and up, and those that did not have to."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """One table."""
    op.create_table(
        "traffic",
        sa.Column("run_id", sa.String(32), primary_key=True),
        sa.Column("down", sa.BigInteger, nullable=False),
        sa.Column("up", sa.BigInteger, nullable=False),
        sa.Column("spared", sa.BigInteger, nullable=False),
    )
