"""Plans of the runs that the app is looked at with, as people write them."""

from __future__ import annotations

from typing import Final

__all__ = ["CLOTHES", "STUDY", "plan"]

_RATES: Final = {"slow": 0.003, "fast": 0.03}
_COHORT: Final = """
[cohort]
quorum = {quorum}
step_deadline_s = {deadline_s}
"""


def plan(
    name: str,
    *,
    rate: float = 0.03,
    rounds: int = 6,
    seed: int = 7,
    every: int = 1,
    quorum: int = 4,
    deadline_s: float = 300.0,
) -> str:
    """A plan of the task `heart`: statistics, then averaging. `every` so many rounds it is measured, 0 is never."""
    return f"""
name = "{name}"
task = "heart"
data_schema = "heart/1"
seed = {seed}

[train]
batch_size = 32
learning_rate = {rate}
momentum = 0.9
weight_decay = 0.01
epochs = 1

[evaluate]
every = {every}
{_COHORT.format(quorum=quorum, deadline_s=deadline_s)}
[[stages]]
driver = "statistics"

[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""


STUDY: Final = tuple((f"heart-{word}-{seed}", rate, seed) for word, rate in _RATES.items() for seed in (1, 2))
"""Names, learning rates and seeds of runs that differ in these alone: two settings, two seeds each."""

CLOTHES: Final = f"""
name = "clothes"
task = "fashion"
data_schema = "fashion/1"
seed = 5

[train]
batch_size = 32
learning_rate = 0.05
epochs = 1
{_COHORT.format(quorum=2, deadline_s=300.0)}
[[stages]]
driver = "averaging"
options = {{ rounds = 3 }}
"""
