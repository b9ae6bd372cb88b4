"""How shards are trained in a round: each by itself and then averaged, or all in lockstep.

The plan is the same for both: a stage of `averaging` is what a schedule has its own driver for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from aimass.proto.errors import BadInput
from aimass.proto.origin import Schedule
from aimass.proto.plan import Plan, Stage
from aimass.proto.step import Step, StepKind
from aimass.proto.surveys import SURVEYS
from aimass.server.drivers.averaging import Averaging, AveragingState
from aimass.server.drivers.base import Context, Done, Driver
from aimass.server.engine import InstalledDrivers

__all__ = ["Schedule", "Synchronous", "drivers_of"]

_BESIDE: Final = frozenset({"averaging", "statistics", *SURVEYS})


class Synchronous(Averaging):
    """A training step of all shards that comes to one contribution: processes made it together."""

    def check(self, plan: Plan, stage: Stage) -> None:
        """Raises `BadInput` for what makes sense of one shard's own training alone."""
        super().check(plan, stage)
        train = plan.train
        odd = {
            "secure": plan.secure is not None,
            "privacy": plan.privacy is not None,
            "compress": plan.compress is not None,
            "options.rule": "rule" in stage.options,
            "cohort.sample": bool(plan.cohort.sample),
            "train.keep_local": bool(train.keep_local),
            "train.proximal_mu": bool(train.proximal_mu),
            "train.fewer_steps": train.fewer_steps,
            "train.accumulate": train.accumulate > 1,
            "train.mixed_precision": train.mixed_precision,
            "train.checkpointing": train.checkpointing,
        }
        odd |= {f"driver = {other.driver}": other.driver not in _BESIDE for other in plan.stages}
        if found := [name for name, there in odd.items() if there]:
            raise BadInput(
                "shards that train in lockstep make one update, and have nothing of their own",
                code="offline.synchronous",
                value=", ".join(found),
                cure="Leave it out of the plan, or train by --schedule averaging.",
            )

    def next(self, state: AveragingState, context: Context) -> tuple[Step, ...] | Done:
        """The first answer to a training step is the update of all."""
        proposed = super().next(state, context)
        if isinstance(proposed, Done) or proposed[0].kind is not StepKind.TRAIN:
            return proposed
        return (msgspec.structs.replace(proposed[0], quorum=1, wanted=1),)


class _InLockstep(InstalledDrivers):
    """Installed drivers, one of which trains all shards together."""

    def __getitem__(self, name: str) -> Driver:
        return _SYNCHRONOUS if name == "averaging" else super().__getitem__(name)


_SYNCHRONOUS: Final = Synchronous()


def drivers_of(schedule: Schedule) -> Mapping[str, Driver]:
    """The drivers of a run with this schedule."""
    return InstalledDrivers() if schedule == "averaging" else _InLockstep()
