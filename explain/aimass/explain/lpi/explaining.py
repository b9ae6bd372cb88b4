"""The question of this package, asked and answered as a whole: why does the model predict this?"""

from __future__ import annotations

from collections.abc import Mapping

from aimass.explain.lpi.attribution import Attribution, attribution
from aimass.explain.lpi.cells import changes_of
from aimass.explain.lpi.counterfactual import Counterfactual, sought
from aimass.explain.lpi.faithfulness import Faithfulness, faithfulness
from aimass.explain.lpi.game import Game, game_of
from aimass.explain.lpi.gradients import Gradients, gradients, network_of_table
from aimass.explain.lpi.options import LpiOptions
from aimass.explain.lpi.whatif import WhatIf, what_if
from aimass.explain.models import Model
from aimass.explain.results import Result, Whole
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["LpiResult", "explain"]


class LpiResult(Whole, frozen=True, kw_only=True, eq=False, tag="lpi"):
    """All that is said of one row's prediction."""

    attribution: Attribution
    what_if: WhatIf | None
    counterfactual: Counterfactual | None
    faithfulness: Faithfulness
    gradients: Gradients | None

    def views(self) -> Mapping[str, Result]:
        """The parts by name, those that were asked for."""
        parts: dict[str, Result | None] = {
            "attribution": self.attribution,
            "what_if": self.what_if,
            "counterfactual": self.counterfactual,
            "faithfulness": self.faithfulness,
            "gradients": self.gradients,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def headlines(self) -> tuple[str, ...]:
        """What is said, what moved it most, and the nearest other row."""
        other = () if self.counterfactual is None else self.counterfactual.describe()[:1]
        return (*self.attribution.describe()[:2], *other)


def explain(
    model: Model,
    rows: Rows,
    options: LpiOptions = LpiOptions(),
    work: Work = Work(),
    *,
    background: Rows | None = None,
) -> LpiResult:
    """Why `model` predicts what it does for one row of `rows`, held against `background` or `rows` themselves.

    Raises `BadInput` for a row that is none, columns that differ, an empty background, a model that answers what is no
    number; `LimitExceeded` for more features than can be computed exactly where that was asked.
    """
    game = game_of(model, rows, work, options, background=background)
    found = attribution(game, rows, options.row, work.part(0.0, 0.4, "values"))
    changes = changes_of(rows, options.what_if)
    changed = what_if(game, rows, options.row, changes, work.part(0.4, 0.6, "what if")) if changes else None
    network = network_of_table(model)
    steep = work.part(0.6, 0.7, "gradients")
    by_gradients = None if network is None else gradients(model, network, game, rows, found, options.steps, steep)
    return LpiResult(
        lineage=game.lineage,
        attribution=found,
        what_if=changed,
        counterfactual=_counterfactual(model, game, rows, options, work.part(0.7, 0.9, "the nearest other row")),
        faithfulness=faithfulness(game, rows, found, options.orders, work.part(0.9, 1.0, "random orders")),
        gradients=by_gradients,
        caveats=("The explained row's own cells stand in it: keep it as you keep the rows.",),
    )


def _counterfactual(model: Model, game: Game, rows: Rows, options: LpiOptions, work: Work) -> Counterfactual | None:
    """None where none is asked for, and of a number unless a level is named."""
    chooses = model.classifies and len(model.outputs) > 1
    if not options.counterfactual or not (options.target or chooses):
        return None
    return sought(model, game, rows, options, work)
