"""A thousand partners in the memory of a hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts.benches.simulate import many_digits, simulated

MB_BESIDE = 80
"""What the run's own state and the rows may add; contributions and shards are on the disk."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_partners_take_the_memory_of_a_hundred_and_all_are_counted(tmp_path: Path) -> None:
    peaks = {}
    for partners in (100, 1_000):
        rows = many_digits(tmp_path / f"{partners}.parquet", 20 * partners)
        run = simulated(tmp_path, rows, partners, rounds=2)
        assert run["told"]["state"] == "finished"
        assert {step["counted"] for step in run["steps"]} == {partners}
        peaks[partners] = run["told"]["peak_memory_mb"]
    for process in ("here", "worker"):
        assert peaks[1_000][process] < peaks[100][process] + MB_BESIDE, peaks
