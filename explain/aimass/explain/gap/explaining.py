"""The question of this package, asked and answered as a whole: what does the model use overall?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from aimass.explain.gap import parts
from aimass.explain.gap.contributions import Contributions
from aimass.explain.gap.dependences import Dependences
from aimass.explain.gap.effects import Effects
from aimass.explain.gap.importance import Importance
from aimass.explain.gap.interactions import Interactions
from aimass.explain.gap.options import GapOptions
from aimass.explain.gap.shapley_summary import ShapleySummary
from aimass.explain.models import Model, lineage_of
from aimass.explain.results import Result, Whole
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["GapResult", "explain"]


class GapResult(Whole, frozen=True, kw_only=True, eq=False, tag="gap"):
    """All that is said of a model's use of its features."""

    importance: Importance
    ale: Effects
    dependence: Dependences
    interactions: Interactions
    shapley: ShapleySummary
    sage: Contributions

    def views(self) -> Mapping[str, Result]:
        """The parts by name."""
        return {
            "importance": self.importance,
            "sage": self.sage,
            "shapley": self.shapley,
            "ale": self.ale,
            "dependence": self.dependence,
            "interactions": self.interactions,
        }

    def headlines(self) -> tuple[str, ...]:
        """How good the model is, what that rests on most, and with which feature predictions move most."""
        return (*self.importance.describe()[:2], *self.ale.describe()[:1])


def explain(
    model: Model,
    rows: Rows,
    options: GapOptions = GapOptions(),  # noqa: B008  (a frozen value)
    work: Work = Work(),
    *,
    background: Rows | None = None,
) -> GapResult:
    """What `model` uses of the features of `rows`, whose labels are known; `background` stands for unknown features.

    Raises `BadInput` for rows without labels, of other columns, or too few; `Stopped` and `DeadlinePassed` as asked.
    """
    found = parts.importance(model, rows, options, work.part(0.0, 0.4, "importance"))
    curves = msgspec.structs.replace(options, curves=options.curves or found.top(options.features))
    return GapResult(
        lineage=lineage_of(model, rows, work),
        importance=found,
        sage=parts.sage(model, rows, options, work.part(0.4, 0.6, "SAGE"), background=background),
        shapley=parts.shapley(model, rows, options, work.part(0.6, 0.75, "Shapley values"), background=background),
        ale=parts.ale(model, rows, curves, work.part(0.75, 0.85, "accumulated local effects")),
        dependence=parts.dependence(model, rows, curves, work.part(0.85, 0.95, "partial dependence")),
        interactions=parts.interactions(model, rows, curves, work.part(0.95, 1.0, "interactions")),
    )
