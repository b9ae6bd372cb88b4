"""Personal models: what a stage of the driver `personal` asks of each partner, by the plan alone.

After the last round each partner goes on training the final model on its own rows and keeps the result: fine-tuning,
the baseline of personalised federated learning (Yu et al. 2020; Cheng et al. 2021). Nothing of that model leaves; its
measures on the partner's held-out rows do, as those of any evaluation.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from aimass.proto.plan_settings import PrivacySettings, Stage, TrainSettings
from aimass.proto.values import convert

__all__ = ["BEFORE", "PERSONAL", "check_personal", "trainings", "tuning"]

PERSONAL: Final = "personal"
"""The driver, and the purpose of the evaluation of personal models."""

BEFORE: Final = "before"
"""The purpose of the evaluation of the model that they begin with."""

_OPTIONS: Final = frozenset({"epochs", "steps", "learning_rate", "batch_size", "proximal_mu"})


class _Staged(Protocol):
    """A plan, or a draft of one."""

    @property
    def stages(self) -> tuple[Stage, ...]: ...
    @property
    def train(self) -> TrainSettings: ...
    @property
    def privacy(self) -> PrivacySettings | None: ...


def tuning(stage: Stage, train: TrainSettings) -> TrainSettings:
    """How a personal model is trained: as the plan trains, but for the stage's options. Raises `BadInput`."""
    fields = {name: value for name, value in stage.options.items() if name in _OPTIONS}
    length = {"epochs": None, "steps": None} if {"epochs", "steps"} & set(fields) else {}
    return convert(TrainSettings, msgspec.structs.asdict(train) | length | fields, "the personal stage's options")


def trainings(plan: _Staged) -> tuple[TrainSettings, ...]:
    """All trainings of a plan that a policy bounds. Raises as `tuning` does."""
    return (plan.train, *(tuning(stage, plan.train) for stage in plan.stages if stage.driver == PERSONAL))


def check_personal(plan: _Staged) -> None:
    """Raise `ValueError` for personal stages that cannot be: more than one, not the last, with privacy for rows."""
    places = [place for place, stage in enumerate(plan.stages) if stage.driver == PERSONAL]
    if not places:
        return
    if places != [len(plan.stages) - 1]:
        raise ValueError("a `personal` stage is the last one, and the only one of its kind")
    if unknown := sorted(set(plan.stages[-1].options) - _OPTIONS):
        raise ValueError(f"a `personal` stage has no option `{unknown[0]}`; it has {', '.join(sorted(_OPTIONS))}")
    if plan.privacy is not None:
        raise ValueError(
            "a `personal` stage with `privacy`: personal models are tuned without noise, so their measures would tell "
            "of the rows that they were tuned on. Leave the stage out"
        )
    tuning(plan.stages[-1], plan.train)
