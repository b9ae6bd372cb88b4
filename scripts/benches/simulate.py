"""A simulation with many partners: seconds of a round, and what it takes in memory, beside one with a tenth of them.

Each partner has about twenty digits, drawn with replacement from the public ones. The command runs as a person types
it, in processes of its own; the peaks are what the kernel counts as resident at most, shared libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from aimass.client.data_get import cache_folder, get
from scripts.benches.row import Row

_ROWS_A_PARTNER: Final = 20
_PLAN: Final = """
name = "bench"
task = "digits"
data_schema = "digits/1"
seed = 1
[train]
batch_size = 10
learning_rate = 0.1
epochs = 1
[evaluate]
every = {every}
[cohort]
quorum = 1
{cohort}
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""


def measure(*, quick: bool) -> list[Row]:
    """1,000 partners on two processes (`quick`: 200), all of them in each round, or a tenth."""
    count, rounds = (200, 3) if quick else (1_000, 6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        many = many_digits(folder / "many.parquet", count * _ROWS_A_PARTNER)
        few = many_digits(folder / "few.parquet", count // 10 * _ROWS_A_PARTNER)
        whole = simulated(folder, many, count, rounds)
        tenth = simulated(folder, few, count // 10, rounds)
        sampled = simulated(folder, many, count, rounds, f"sample = {count // 10}", every=0)
    peaks = [(run["told"]["peak_memory_mb"]["here"], run["told"]["peak_memory_mb"]["worker"]) for run in (whole, tenth)]
    return [
        Row.of(f"training, {count} partners", seconds(whole, "train"), "s", None, "lower"),
        Row.of(f"evaluation, {count} partners", seconds(whole, "evaluate"), "s", None, "lower"),
        Row.of(f"training, {count // 10} of {count}", seconds(sampled, "train"), "s", None, "lower"),
        Row.of("peak here", [peaks[0][0]], "MB", None, "lower"),
        Row.of("peak of a worker", [peaks[0][1]], "MB", None, "lower"),
        Row.of(f"peak here, by that of {count // 10}", [peaks[0][0] / peaks[1][0]], "x", 1.25, "lower"),
        Row.of(f"peak of a worker, by that of {count // 10}", [peaks[0][1] / peaks[1][1]], "x", 1.25, "lower"),
    ]


def many_digits(path: Path, rows: int) -> Path:
    """So many of the public digits, with replacement."""
    table = parquet.read_table(get("digits", cache_folder())[0] / "digits.parquet")
    chosen = np.random.Generator(np.random.PCG64(0)).integers(0, len(table), rows)
    parquet.write_table(table.take(pa.array(chosen)), path)
    return path


def simulated(
    folder: Path, rows: Path, partners: int, rounds: int, cohort: str = "", *, every: int = 1, workers: int = 2
) -> Mapping[str, Any]:
    """What `aimass simulate` told, and its steps but for those of the first round, in which processes start."""
    plan, out = folder / "plan.toml", folder / f"out-{partners}-{cohort[:3]}-{workers}"
    plan.write_text(_PLAN.format(rounds=rounds, cohort=cohort, every=every))
    command = [sys.executable, "-m", "aimass.proto.commands", "simulate", str(plan), "--data", str(rows)]
    more = ["--partners", str(partners), "--workers", str(workers), "--out", str(out), "--json"]
    done = subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    return {"told": json.loads(done.stdout), "steps": [line for line in lines if line["round"] > 1]}


def seconds(run: Mapping[str, Any], kind: str) -> list[float]:
    """Of each step of this kind."""
    return [step["seconds"] for step in run["steps"] if step["kind"] == kind]
