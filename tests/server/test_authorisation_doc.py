"""The table that people read is the table that the server uses."""

from __future__ import annotations

from pathlib import Path

from aimass.privacy.pki import Role
from aimass.server.authorisation import TABLE


def test_the_documented_table_is_the_one_in_force() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "authorisation.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    roles = [Role(name) for name in rows[0][1:]]
    documented = {
        row[0]: {role for role, cell in zip(roles, row[1:], strict=True) if cell == "yes"} for row in rows[2:]
    }
    assert documented == {rpc: set(allowed) for rpc, allowed in TABLE.items()}
