"""The question of this package, asked and answered as a whole: what does the model use overall?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from aimass.explain.gap.contributions import Contributions, contributions
from aimass.explain.gap.dependences import Dependences, dependences
from aimass.explain.gap.effects import Effects, effects
from aimass.explain.gap.importance import Importance, importance
from aimass.explain.gap.interactions import Interactions, interactions
from aimass.explain.gap.shapley_summary import ShapleySummary, shapley_summary
from aimass.explain.models import Model, lineage_of
from aimass.explain.results import Result, Whole
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.values import Value

__all__ = ["GapOptions", "GapResult", "explain"]


class GapOptions(Value, frozen=True):
    """What is computed, and how finely."""

    loss: Annotated[
        str, Meta(description="log_loss, brier, error_rate, squared_error or absolute_error; the model's own if empty")
    ] = ""
    shuffles: Annotated[int, Meta(ge=30, le=10_000, description="how often each feature is shuffled")] = 30
    correlated: Annotated[
        float, Meta(gt=0, le=1, description="features this strongly associated are shuffled together too")
    ] = 0.7
    groups: Annotated[
        tuple[str, ...], Meta(description="columns that are one feature, each group as name=column,column")
    ] = ()
    output: Annotated[
        str,
        Meta(description="class or number that curves are of; the last of two, the most predicted of more, if empty"),
    ] = ""
    features: Annotated[int, Meta(ge=1, le=200, description="how many of the most important features get curves")] = 6
    steps: Annotated[int, Meta(ge=2, le=1_000, description="steps of each accumulated local effect")] = 20
    points: Annotated[int, Meta(ge=2, le=1_000, description="places of each partial dependence")] = 20
    curve_rows: Annotated[int, Meta(ge=2, le=1_000_000, description="rows behind each partial dependence")] = 1_000
    lines: Annotated[int, Meta(ge=0, le=1_000, description="curves that are kept of single rows, or of some alike")] = (
        50
    )
    with_rows: Annotated[
        bool, Meta(description="keep single rows as they are; else they are rounded, and no curve is of one")
    ] = False
    pair_rows: Annotated[int, Meta(ge=2, le=2_000, description="rows behind each pair's interaction")] = 100
    shapley_rows: Annotated[int, Meta(ge=1, le=100_000, description="rows whose Shapley values are averaged")] = 200
    references: Annotated[int, Meta(ge=2, le=10_000, description="background rows behind Shapley values")] = 100
    sage_rows: Annotated[int, Meta(ge=2, le=100_000, description="rows behind SAGE values")] = 256
    sage_references: Annotated[int, Meta(ge=1, le=10_000, description="background rows behind SAGE values")] = 100
    sage_error: Annotated[
        float, Meta(gt=0, lt=1, description="SAGE ends below this sampling error, as a share of the values' range")
    ] = 0.025
    sage_passes: Annotated[int, Meta(ge=2, le=1_000, description="how often SAGE goes through its rows at most")] = 8


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
    found = _importance(model, rows, options, work.part(0.0, 0.4, "importance"))
    top = found.top(options.features)
    return GapResult(
        lineage=lineage_of(model, rows, work),
        importance=found,
        sage=_sage(model, rows, options, background, work.part(0.4, 0.6, "SAGE")),
        shapley=_shapley(model, rows, options, background, work.part(0.6, 0.75, "Shapley values")),
        ale=effects(
            model,
            rows,
            work.part(0.75, 0.85, "accumulated local effects"),
            features=top,
            output=options.output,
            steps=options.steps,
        ),
        dependence=_dependence(model, rows, options, top, work.part(0.85, 0.95, "partial dependence")),
        interactions=interactions(
            model,
            rows,
            work.part(0.95, 1.0, "interactions"),
            features=top,
            output=options.output,
            most_rows=options.pair_rows,
        ),
    )


def _importance(model: Model, rows: Rows, options: GapOptions, work: Work) -> Importance:
    return importance(
        model,
        rows,
        work,
        loss=options.loss,
        shuffles=options.shuffles,
        correlated=options.correlated,
        groups=options.groups,
    )


def _sage(model: Model, rows: Rows, options: GapOptions, background: Rows | None, work: Work) -> Contributions:
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


def _shapley(model: Model, rows: Rows, options: GapOptions, background: Rows | None, work: Work) -> ShapleySummary:
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


def _dependence(model: Model, rows: Rows, options: GapOptions, features: tuple[str, ...], work: Work) -> Dependences:
    return dependences(
        model,
        rows,
        work,
        features=features,
        output=options.output,
        points=options.points,
        most_rows=options.curve_rows,
        lines=options.lines,
        with_rows=options.with_rows,
        correlated=options.correlated,
    )
