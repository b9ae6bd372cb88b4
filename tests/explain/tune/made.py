"""A plan, a space over it, and what its settings would come to where that is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from aimass.explain.tune.space import Space, read_space
from aimass.proto.plan import PlanDraft, read_plan_draft
from aimass.proto.values import Scalar

PLAN: Final = """
name = "heart"
task = "heart"
data_schema = "heart/1"
seed = 5
[train]
batch_size = 16
learning_rate = 0.05
steps = 4
weight = "one"
[evaluate]
every = 1
[cohort]
quorum = 2
[[stages]]
driver = "averaging"
options = { rounds = 4 }
"""
PRIVATE: Final = "[privacy]\nnoise_multiplier = 1.0\nclip = 1.0\nsampling_rate = 0.02\ndelta = 1e-5\ndivisor = 4.0\n"
SPACE: Final = """
metric = "auc"
[settings]
train.learning_rate = { low = 0.001, high = 1.0, log = true }
train.momentum = { low = 0.0, high = 0.95 }
train.batch_size = { low = 8, high = 128, log = true }
train.optimizer = { choices = ["sgd", "adam"] }
train.weight_decay = { low = 0.0, high = 0.1 }
"""


def draft(more: str = "") -> PlanDraft:
    return read_plan_draft(PLAN + more)


def space(text: str = SPACE) -> Space:
    return read_space(text)


def planted(settings: Mapping[str, Scalar]) -> float:
    """A known quality: learning rate decides most, then momentum, then batch size; the others nothing.

    Too large a rate makes training collapse, so that the surface is no polynomial.
    """
    rate = (math.log10(float(settings["train.learning_rate"])) + 3) / 3
    momentum, batch = float(settings["train.momentum"]) / 0.95, math.log2(float(settings["train.batch_size"]) / 8) / 4
    collapse = 0.25 / (1 + math.exp(-40 * (rate - 0.9)))
    return 0.92 - 0.9 * (rate - 0.6) ** 2 - 0.4 * (momentum - 0.4) ** 2 - 0.08 * (batch - 0.5) ** 2 - collapse
