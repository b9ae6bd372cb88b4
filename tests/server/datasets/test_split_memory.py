"""Memory does not grow with the rows that are split."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def peak_bytes(folder: Path, rows: int, rule: str) -> int:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.support.measured_split", str(rows), str(folder), rule]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "larger"), [("rows:10000", "rows:10000"), ("stratified:2", "stratified:40")])
def test_twenty_times_the_rows_take_no_more_memory(tmp_path: Path, rule: str, larger: str) -> None:
    few, many = peak_bytes(tmp_path / "few", 20_000, rule), peak_bytes(tmp_path / "many", 400_000, larger)
    # 380,000 rows are 12 MB as a trainer holds them, and 25 MB of hashes.
    assert many - few < 5 << 20, (few, many)
