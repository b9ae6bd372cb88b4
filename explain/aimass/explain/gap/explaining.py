"""The question of this package, asked and answered as a whole: what does the model use overall?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from aimass.explain.charts.picture import Picture
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
    resamples: Annotated[int, Meta(ge=200, le=100_000, description="bootstrap samples behind the ranks")] = 1_000
    correlated: Annotated[
        float, Meta(gt=0, le=1, description="features this strongly associated are shuffled together too")
    ] = 0.7
    groups: Annotated[
        tuple[str, ...], Meta(description="more features to shuffle together, each group as name,name")
    ] = ()


class GapResult(Result, frozen=True, kw_only=True, eq=False, tag="gap"):
    """All that is said of a model's use of its features."""

    importance: Importance

    def views(self) -> Mapping[str, Result]:
        """The parts by name."""
        return {"importance": self.importance}

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
    groups = tuple(tuple(name.strip() for name in group.split(",")) for group in options.groups)
    found = importance(
        model,
        rows,
        work,
        loss=options.loss,
        shuffles=options.shuffles,
        resamples=options.resamples,
        correlated=options.correlated,
        groups=groups,
    )
    return GapResult(lineage=lineage_of(model, rows, work), importance=found)
