"""What a search may cost in privacy, before anything of it has begun: all its runs, each as dear as its dearest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Final

from aimass.explain.runs.spending import told_spent
from aimass.explain.tune.space import Space
from aimass.privacy.dp.spending import planned_spent
from aimass.proto.dotted import with_settings
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.plan import PlanDraft
from aimass.proto.registry.entries import Spent
from aimass.proto.values import Scalar

__all__ = ["check_affordable", "costliest", "most_spent", "told_price"]

_PRICED: Final = ("privacy.", "secure.", "stages.", "train.steps", "evaluate.every")
"""Names, or their beginnings, of settings that change what a run costs."""
_MOST_CORNERS: Final = 256


def costliest(space: Space, draft: PlanDraft) -> dict[str, Scalar]:
    """The values, of settings that change what a run costs, of the run that costs most; empty without privacy.

    A cost rises or falls with each setting, so that it is largest at a corner of the space. Raises `BadInput` for more
    corners than can be looked at, and for settings by which one run may tell what no other one covers.
    """
    _check_cut(space, draft)
    priced = {name: _ends(space, name) for name in space.settings if name.startswith(_PRICED)}
    if planned_spent(draft, 1, quick=True).epsilon is None:
        return {}
    if math.prod(len(ends) for ends in priced.values()) > _MOST_CORNERS:
        raise BadInput(
            "too many settings of the space change what a run costs in privacy",
            code="tune.price",
            value=", ".join(priced),
            limit=f"{_MOST_CORNERS} combinations of their ends",
            cure="Search fewer of them at once.",
        )
    corners = [(_cost(draft, corner), corner) for corner in _corners(priced)]
    most, dearest = max(corners, key=lambda one: one[0])
    idle = {name for name, ends in priced.items() if all(_cost(draft, dearest | {name: end}) == most for end in ends)}
    return {name: value for name, value in dearest.items() if name not in idle}


def _check_cut(space: Space, draft: PlanDraft) -> None:
    """Raise `BadInput` where batches are cut, and what is cut differs: no such run covers another."""
    shapes = {"privacy.sampling_rate", "privacy.divisor", "privacy.cap_deviations"} & space.settings.keys()
    if shapes and draft.privacy is not None and draft.privacy.cap_deviations is not None:
        raise BadInput(
            "where batches are cut these settings cannot be searched: no run's cost covers another's",
            code="tune.price",
            value=", ".join(sorted(shapes)),
            cure="Leave `privacy.cap_deviations` out of the plan, or these out of the space.",
        )


def _ends(space: Space, name: str) -> tuple[Scalar, ...]:
    setting = space.settings[name]
    return setting.choices or (space.number(name, setting.low), space.number(name, setting.high))


def _corners(priced: Mapping[str, tuple[Scalar, ...]]) -> Iterator[dict[str, Scalar]]:
    for values in itertools.product(*priced.values()):
        yield dict(zip(priced, values, strict=True))


def _cost(draft: PlanDraft, corner: Mapping[str, Scalar]) -> float:
    """The quick figure of one run; nothing where its plan cannot be, and without end where it has no bound."""
    try:
        plan = with_settings(draft, corner)
    except BadInput:
        return -math.inf
    spent = planned_spent(plan, 1, quick=True)
    return math.inf if spent.epsilon is None else spent.epsilon


def most_spent(draft: PlanDraft, dearest: Mapping[str, Scalar], runs: int) -> Spent:
    """The most that so many runs cost a unit whose data are in each of them, composed as one history."""
    return planned_spent(with_settings(draft, dearest), runs)


def told_price(most: Spent, trials: int, seeds: int) -> str:
    """What a person is asked to agree to."""
    runs = f"{trials} settings with {seeds} {'seed' if seeds == 1 else 'seeds'} each, {trials * seeds} runs"
    if most.epsilon is None:
        return f"{runs}. Together they promise {told_spent(most)}."
    return f"{runs}. Data that are in all of them spend at most {told_spent(most)}."


def check_affordable(most: Spent, limit: float | None) -> None:
    """Raise `LimitExceeded` for a search that may spend more than `limit`, or without a bound."""
    if limit is None or (most.epsilon is not None and most.epsilon <= limit):
        return
    raise LimitExceeded(
        "the search may spend more than it may",
        code="tune.epsilon",
        value=f"epsilon {most.epsilon:.4g}" if most.epsilon is not None else "no bound",
        limit=f"epsilon {limit:g} (--most-epsilon)",
        cure="Try fewer settings or seeds, fewer rounds, or a space of more noise.",
    )
