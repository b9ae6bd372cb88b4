"""What the rule of kept models asks of one run, held as the run goes on, so that a commit costs what it changed. Pure.

`retention.kept` says the same of all models at once; it is the plain version of this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aimass.proto.plan import Plan
from aimass.proto.step import StepKind
from aimass.proto.views import StepView
from aimass.server.store import ModelRow

__all__ = ["Shelf"]


@dataclasses.dataclass(slots=True)
class Shelf:
    """Begins empty: the first `take` is of everything, each further one of what stands from step `settled` on.

    `here` are the models that were not deleted, by step; `best` is by the plan's early-stopping metric, where it has
    one.
    """

    plan: Plan
    last: int
    settled: int = 0
    here: dict[int, ModelRow] = dataclasses.field(default_factory=dict)
    _newest: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    _unmeasured: dict[int, dict[int, str]] = dataclasses.field(default_factory=dict)
    _best: tuple[float, int, str] | None = None
    _known: set[int] = dataclasses.field(default_factory=set)

    def take(self, models: Sequence[ModelRow], steps: Sequence[StepView], settled: int) -> None:
        """Models and steps from `settled` on as they are stored now; those before the new `settled` are final.

        Steps are read where the plan stops early, and in order.
        """
        for row in models:
            if row.step not in self._known:
                self._known.add(row.step)
                self.here[row.step] = row
                self._newest = sorted([*self._newest, (row.step, row.digest)], reverse=True)[: max(self.last, 1)]
                if self.plan.early_stop is not None:
                    self._unmeasured.setdefault(row.round, {})[row.step] = row.digest
        self._measure([step for step in steps if step.kind is StepKind.EVALUATE and not step.purpose])
        self.settled = max(self.settled, settled)
        self._known = {step for step in self._known if step >= self.settled}

    def _measure(self, evaluations: Sequence[StepView]) -> None:
        """A model's figures are those of the first evaluation of its round after it, once that is committed."""
        rule = self.plan.early_stop
        if rule is None:
            return
        for number in {view.round for view in evaluations} & self._unmeasured.keys():
            for step, digest in list(self._unmeasured[number].items()):
                first = next((view for view in evaluations if view.round == number and view.index > step), None)
                if first is None or first.state != "committed":
                    continue
                del self._unmeasured[number][step]
                if rule.metric in first.metrics:
                    mean = first.metrics[rule.metric].mean
                    measured = (mean if rule.mode == "max" else -mean, step, digest)
                    self._best = measured if self._best is None else max(self._best, measured)

    def keep(self, last: int) -> frozenset[str]:
        """Digests of the plan's model, the newest `last` (no more than this shelf's own, or one), and the best."""
        best = set() if self._best is None else {self._best[2]}
        return frozenset({self.plan.model, *(digest for _, digest in self._newest[:last]), *best})
