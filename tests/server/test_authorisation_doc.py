"""The tables that people read are the tables that the services use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from aimass.privacy.pki import Role
from aimass.server.authorisation import DATA_SETS, TABLE


@pytest.mark.parametrize(("heading", "table"), [("The aggregation server", TABLE), ("The data set service", DATA_SETS)])
def test_the_documented_table_is_the_one_in_force(heading: str, table: Mapping[str, frozenset[Role]]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "authorisation.md").read_text()
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    roles = [Role(name) for name in rows[0][1:]]
    documented = {
        row[0]: {role for role, cell in zip(roles, row[1:], strict=True) if cell == "yes"} for row in rows[2:]
    }
    assert documented == {rpc: set(allowed) for rpc, allowed in table.items()}
