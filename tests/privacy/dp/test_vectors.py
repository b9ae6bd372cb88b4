"""The noise's vectors for other implementations, and the check values of the specification among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.dp_vectors import noise

FOUND = json.loads((Path(__file__).parents[2] / "vectors" / "dp" / "noise.json").read_text())


def test_the_file_says_what_the_code_computes() -> None:
    assert json.loads(json.dumps(noise())) == FOUND


def test_the_table_of_variance_16_is_the_specifications() -> None:
    (table,) = (table for table in FOUND["gaussian_tables"] if table["parameter"] == "16")
    assert [entry[:16] for entry in table["middle"]] == ["733bdd6615e4d7b9", "8cc42299ea1b2846"]


def test_the_golden_plan_is_there() -> None:
    plan = FOUND["plans"][2]
    assert float.fromhex(plan["scale"]) == pytest.approx(10491.61, abs=0.1)
    assert float.fromhex(plan["deviation"]) == pytest.approx(7489.13, abs=0.01)
