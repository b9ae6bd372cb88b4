"""The demo's plans, as a person writes them."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["PLANS", "Level"]

Level = Literal["none", "example", "partner"]

_HEAD = """# The demo's plan. Submit it again: aimass run submit plan.toml --as scientist
name = "heart-demo"
task = "heart"
data_schema = "heart/1"
seed = {seed}
"""
_TRAIN = """
[train]
batch_size = 32
learning_rate = 0.03
momentum = 0.9
weight_decay = 0.01
epochs = 1
"""
_COHORT = """
[cohort]
quorum = 4
step_deadline_s = 120.0

[secure]
min_cohort = 3
"""
_AVERAGING = """
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
"""

PLANS: Final[dict[Level, str]] = {
    "none": f"""{_HEAD}{_TRAIN}{_COHORT}max_weight = 256

[[stages]]
driver = "statistics"
{_AVERAGING}""",
    # No hospital's row moves the model by much: each hospital's training has noise.
    "example": f"""{_HEAD}
[train]
batch_size = 64
learning_rate = 0.3
weight_decay = 0.01
steps = 5
weight = "one"

[evaluate]
every = {{every}}

[privacy]
noise_multiplier = {{noise:.4f}}
clip = 1.0
sampling_rate = 0.2
divisor = 32.0
delta = {{delta}}
metrics = {{{{ noise_multiplier = 4.0, bins = 10 }}}}
{_COHORT}{_AVERAGING}""",
    # No hospital moves the model by much: the sum of all has noise.
    "partner": f"""{_HEAD}{_TRAIN}weight = "one"
{_COHORT}
[secure.noise]
multiplier = {{noise:.4f}}
clip = 1.0
delta = {{delta}}
members = 4
{_AVERAGING}""",
}
"""To be formatted with `seed` and `rounds`, and the private ones with `noise`, `delta` and `every`."""
