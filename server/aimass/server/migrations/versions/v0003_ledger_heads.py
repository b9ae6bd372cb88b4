"""How far partners' privacy ledgers go, as they sealed it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """One table."""
    op.create_table(
        "ledger_heads",
        sa.Column("partner", sa.String(63), primary_key=True),
        sa.Column("slot", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
