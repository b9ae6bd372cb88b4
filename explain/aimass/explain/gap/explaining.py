"""The question of this package, asked and answered as a whole: what does the model use overall?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from aimass.explain.charts.picture import Picture
from aimass.explain.gap.dependences import Dependences, dependences
from aimass.explain.gap.effects import Effects, effects
from aimass.explain.gap.importance import Importance, importance
from aimass.explain.models import Model, lineage_of
from aimass.explain.results import Columns, Result
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
    lines: Annotated[int, Meta(ge=0, le=1_000, description="single rows' curves that are kept")] = 50


class GapResult(Result, frozen=True, kw_only=True, eq=False, tag="gap"):
    """All that is said of a model's use of its features."""

    importance: Importance
    ale: Effects
    dependence: Dependences

    def views(self) -> Mapping[str, Result]:
        """The parts by name."""
        return {"importance": self.importance, "ale": self.ale, "dependence": self.dependence}

    def describe(self) -> tuple[str, ...]:
        """What the parts say, one after another."""
        return tuple(line for part in self.views().values() for line in part.describe())

    def picture(self) -> Picture:
        """The first that a reader wants: importance."""
        return self.importance.picture()

    def to_columns(self) -> Columns:
        """The table of importance; the parts have their own."""
        return self.importance.to_columns()

    def warnings(self) -> tuple[str, ...]:
        """Of all parts, each once."""
        said = (*super().warnings(), *(line for part in self.views().values() for line in part.warnings()))
        return tuple(dict.fromkeys(said))


def explain(
    model: Model,
    rows: Rows,
    options: GapOptions = GapOptions(),  # noqa: B008  (a frozen value)
    work: Work = Work(),
    *,
    background: Rows | None = None,  # noqa: ARG001  (of the views that follow)
) -> GapResult:
    """What `model` uses of the features of `rows`, whose labels are known; `background` stands for unknown features.

    Raises `BadInput` for rows without labels, of other columns, or too few; `Stopped` and `DeadlinePassed` as asked.
    """
    found = _importance(model, rows, options, work.part(0, 0.6, "importance"))
    top = found.top(options.features)
    return GapResult(
        lineage=lineage_of(model, rows, work),
        importance=found,
        ale=effects(
            model,
            rows,
            work.part(0.6, 0.8, "accumulated local effects"),
            features=top,
            output=options.output,
            steps=options.steps,
        ),
        dependence=dependences(
            model,
            rows,
            work.part(0.8, 1.0, "partial dependence"),
            features=top,
            output=options.output,
            points=options.points,
            most_rows=options.curve_rows,
            lines=options.lines,
            correlated=options.correlated,
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
