"""What a plan of trees may not ask: trees would not do it, or not as it is meant. Nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aimass.proto.boosting import MOST_BOUND
from aimass.proto.errors import BadInput
from aimass.proto.plan import Plan
from aimass.proto.plan_settings import TREES, TrainSettings
from aimass.proto.surveys import SURVEYS

__all__ = ["check_trees"]


def check_trees(plan: Plan) -> None:
    """Raise `BadInput` for what does not go with the driver `trees`, with the cure."""
    for asked, what, cure in _REFUSED:
        if asked(plan):
            raise BadInput(f"the driver `trees`: {what}", code="plan.trees", cure=cure)


def _trains_otherwise(plan: Plan) -> bool:
    """Whether `train` says more than trees know: their learning rate, and what every plan has to say."""
    train = plan.train
    known = TrainSettings(
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        epochs=train.epochs,
        steps=train.steps,
        weight=train.weight,
    )
    return train != known


_REFUSED: Final[tuple[tuple[Callable[[Plan], bool], str, str], ...]] = (
    (
        lambda plan: plan.privacy is not None,
        "`privacy` is made by noised gradient steps, which trees do not take",
        "Leave `privacy` out, and set the stage's `noise_multiplier`: noise on the histograms.",
    ),
    (
        lambda plan: plan.secure is not None and plan.secure.noise is not None,
        "`secure.noise` is made and accounted for updates, and histograms would have none",
        "Leave `secure.noise` out, and set the stage's `noise_multiplier`; or train a network with `averaging`.",
    ),
    (
        lambda plan: plan.secure is not None and plan.secure.real_bound > MOST_BOUND,
        "lanes for numbers this large would round the histograms",
        f"Set secure.real_bound to {MOST_BOUND:g} or less.",
    ),
    (
        lambda plan: any(stage.driver not in (TREES, *SURVEYS) for stage in plan.stages),
        "a plan of trees has stages of surveys beside it, and no others",
        "Give the other stages a plan of their own.",
    ),
    (
        lambda plan: sum(stage.driver == TREES for stage in plan.stages) > 1,
        "partners know a step by its driver's name, so a plan has one stage of trees",
        "Raise its `rounds`.",
    ),
    (
        _trains_otherwise,
        "of `train` it knows the learning rate alone",
        "Leave the optimiser's other settings out.",
    ),
    (
        lambda plan: plan.compress is not None,
        "`compress` is for updates, and histograms are sums",
        "Leave `compress` out.",
    ),
    (
        lambda plan: plan.cohort.sample > 0,
        "each level asks all partners, so that a node's rows are the same ones as its children's",
        "Leave `cohort.sample` out.",
    ),
)
