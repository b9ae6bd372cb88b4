"""The views of this question one by one, for whom the whole takes too long: each is what `explain` says of it.

Functions are named as the views of `GapResult` are. Curves are of `options.curves`; where none are named, of the most
important features, which are found first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aimass.explain.gap.contributions import Contributions, contributions
from aimass.explain.gap.dependences import Dependences, dependences
from aimass.explain.gap.effects import Effects, effects
from aimass.explain.gap.importance import Importance
from aimass.explain.gap.importance import importance as importance_of
from aimass.explain.gap.interactions import Interactions
from aimass.explain.gap.interactions import interactions as interactions_of
from aimass.explain.gap.options import GapOptions
from aimass.explain.gap.shapley_summary import ShapleySummary, shapley_summary
from aimass.explain.models import Model
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["USED", "ale", "dependence", "importance", "interactions", "sage", "shapley"]

_CURVES: Final = frozenset({"output", "curves", "features", "loss", "shuffles", "correlated", "groups"})
USED: Final[Mapping[str, frozenset[str]]] = {
    "importance": frozenset({"loss", "shuffles", "correlated", "groups"}),
    "sage": frozenset({"loss", "groups", "sage_rows", "sage_references", "sage_error", "sage_passes"}),
    "shapley": frozenset({"output", "groups", "shapley_rows", "references", "with_rows"}),
    "ale": _CURVES | {"steps"},
    "dependence": _CURVES | {"points", "curve_rows", "lines", "with_rows"},
    "interactions": _CURVES | {"pair_rows"},
}
"""The options that a view hangs on: it need not be found anew where others change."""


def importance(model: Model, rows: Rows, options: GapOptions, work: Work) -> Importance:
    """What the loss rises by when a feature is shuffled."""
    return importance_of(
        model,
        rows,
        work,
        loss=options.loss,
        shuffles=options.shuffles,
        correlated=options.correlated,
        groups=options.groups,
    )


def sage(model: Model, rows: Rows, options: GapOptions, work: Work, *, background: Rows | None = None) -> Contributions:
    """Each feature's share in what all take off the loss."""
    return contributions(
        model,
        rows,
        work,
        background=background,
        groups=options.groups,
        loss=options.loss,
        most_rows=options.sage_rows,
        references=options.sage_references,
        tolerance=options.sage_error,
        most_passes=options.sage_passes,
    )


def shapley(
    model: Model, rows: Rows, options: GapOptions, work: Work, *, background: Rows | None = None
) -> ShapleySummary:
    """How far features move single predictions."""
    return shapley_summary(
        model,
        rows,
        work,
        background=background,
        groups=options.groups,
        output=options.output,
        most_rows=options.shapley_rows,
        references=options.references,
        with_rows=options.with_rows,
    )


def ale(model: Model, rows: Rows, options: GapOptions, work: Work) -> Effects:
    """How the prediction moves with a feature, the others as they are there."""
    features, left = _curves(model, rows, options, work)
    return effects(model, rows, left, features=features, output=options.output, steps=options.steps)


def dependence(model: Model, rows: Rows, options: GapOptions, work: Work) -> Dependences:
    """The mean prediction at a feature's values, and how far rows go their own way."""
    features, left = _curves(model, rows, options, work)
    return dependences(
        model,
        rows,
        left,
        features=features,
        output=options.output,
        points=options.points,
        most_rows=options.curve_rows,
        lines=options.lines,
        with_rows=options.with_rows,
        correlated=options.correlated,
    )


def interactions(model: Model, rows: Rows, options: GapOptions, work: Work) -> Interactions:
    """What two features do together beyond each alone."""
    features, left = _curves(model, rows, options, work)
    return interactions_of(model, rows, left, features=features, output=options.output, most_rows=options.pair_rows)


def _curves(model: Model, rows: Rows, options: GapOptions, work: Work) -> tuple[tuple[str, ...], Work]:
    """Which features have curves, and the work that is left when that is known."""
    if options.curves:
        return options.curves, work
    found = importance(model, rows, options, work.part(0.0, 0.5, "importance"))
    return found.top(options.features), work.part(0.5, 1.0)
