"""A plan, a space over it, and what its settings would come to where that is known."""

from __future__ import annotations

from typing import Final

from scripts.benches.tune import SPACE, planted

from aimass.explain.tune.space import Space, read_space
from aimass.proto.plan import PlanDraft, read_plan_draft

__all__ = ["PLAN", "PRIVATE", "SPACE", "draft", "planted", "space"]

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


def draft(more: str = "") -> PlanDraft:
    return read_plan_draft(PLAN + more)


def space(text: str = SPACE) -> Space:
    return read_space(text)
