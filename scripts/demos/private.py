"""The demo with differential privacy: its plan, calibrated to a stated epsilon, the budgets, and the price shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aimass.client.plan_check import case_of
from aimass.client.plan_options import least_multiplier
from aimass.client.shards import Shard
from aimass.client.trainer import evaluate
from aimass.privacy.dp.events import Budget
from aimass.privacy.dp.private_terms import trained_elements
from aimass.privacy.secagg.rounds import noise_of
from aimass.proto.plan import Plan, read_plan_draft
from aimass.proto.storage import map_file
from aimass.proto.task import Task
from aimass.proto.tensors import Blob
from scripts.demos.house import House
from scripts.demos.plans import PLANS, Level
from scripts.demos.ways import Way, held_out_rows, weighted

__all__ = [
    "DELTA",
    "PLANNED",
    "Account",
    "accounts",
    "budget_of",
    "exact_way",
    "private_plan",
    "rounds_of",
    "what_it_does",
]

DELTA: Final = 1e-4
PLANNED: Final[dict[Level, float]] = {"example": 4.0, "partner": 8.0}
"""Epsilon of the plan as a whole."""
_ROOM: Final = 2.0
"""The budget over the plan's price: who is killed in a step pays for it twice."""


def private_plan(level: Level, model: Blob, rounds: int, seed: int) -> str:
    """The plan's TOML, its noise the least with which all its rounds fit the planned epsilon."""

    def written(noise: float) -> str:
        return PLANS[level].format(seed=seed, rounds=rounds, every=max(1, rounds // 2), noise=noise, delta=DELTA)

    case = case_of(read_plan_draft(written(1.0)), trained_elements(model.layout))
    (terms,) = case.terms
    return written(least_multiplier(case, Budget(terms=terms, epsilon=PLANNED[level])))


def what_it_does(plan: Plan, model: Blob) -> str:
    """What a private plan does to the updates of four hospitals, for who wonders about its AUC."""
    if plan.privacy is not None:
        return "private: other steps, and no statistics; a small gain is theirs and no gift of the noise"
    made = noise_of(plan.secure, trained_elements(model.layout)) if plan.secure is not None else None
    assert made is not None  # of a plan for partners
    noise, update = made.mean_deviation, made.setting.clip / math.sqrt(made.setting.count)
    return (
        f"private: a mean of {made.setting.circle.members} has noise of {noise:.2g} on each element, and an update has "
        f"{update:.2g} at most: noise for whole partners needs many of them"
    )


def budget_of(level: Level) -> str:
    """What a hospital writes into its policy."""
    return f"""
[[budgets]]
data_set = "heart"
unit = "{level}"
epsilon = {_ROOM * PLANNED[level]}
delta = {DELTA}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """A hospital's budget as its own ledger tells it."""

    partner: str
    epsilon: float
    spent: float
    left: float


def accounts(house: House, partners: Sequence[str]) -> tuple[Account, ...]:
    """Each partner's, as `aimass client budget` shows it."""
    found = []
    for partner in partners:
        (told,) = house.run("client", "budget", "--dir", partner)
        row = told["budgets"][0]
        found.append(Account(partner, row["epsilon"], row["spent"], row["left"]))
    return tuple(found)


def rounds_of(folder: Path) -> list[Blob]:
    """The model of each round, as the demo fetched them."""
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: int(path.stem))
    return [Blob(map_file(path)) for path in paths]


def exact_way(task: Task, shards: Sequence[Shard], models: Sequence[Blob], plan: Plan) -> Way:
    """AUC of each round's model on the held-out rows, which nobody in the federation sees: the demo has all rows."""
    by_round = []
    for model in models:
        figures = {shard.participant: evaluate(task, shard, model, plan.evaluate).figures for shard in shards}
        by_round.append({name: found["auc"] for name, found in figures.items() if "auc" in found})
    rows = held_out_rows(shards)
    return Way(weighted(by_round[-1], rows), by_round[-1], tuple(weighted(auc, rows) for auc in by_round))
