"""A question of the tests' own: how many rows there are, and what the model says of them on average."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np

from aimass.explain.charts.picture import Axis, Bars, Panel, Picture, names_axis
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.questions import Question
from aimass.explain.results import Array, Columns, Result
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.values import Value

ASKED = Question("means", "What it says", "what the model says on average", "tests.support.asked")


class MeansOptions(Value, frozen=True):
    """Every kind of option."""

    times: Annotated[int, msgspec.Meta(ge=1, le=9, description="how often it is asked, 100 % of the time")] = 2
    share: Annotated[float, msgspec.Meta(ge=0, le=1, description="of the rows")] | None = None
    features: Annotated[tuple[str, ...], msgspec.Meta(description="these alone")] = ()
    cuts: Annotated[tuple[float, ...], msgspec.Meta(description="thresholds")] = (0.25, 0.5)
    way: Annotated[Literal["plain", "odd"], msgspec.Meta(description="in which way")] = "plain"
    labels: Annotated[bool, msgspec.Meta(description="with labels alone")] = False


class MeansResult(Result, frozen=True, kw_only=True, eq=False, tag="test.means"):
    """The mean of each output."""

    outputs: tuple[str, ...]
    means: Array
    background: int = 0

    def describe(self) -> tuple[str, ...]:
        return (f"It says {self.means[0]:.3f} on average.",)

    def to_columns(self) -> Columns:
        return {"output": self.outputs, "mean": self.means.tolist()}

    def picture(self) -> Picture:
        bars = Bars(np.arange(len(self.outputs)), self.means)
        panel = Panel("", Axis("mean"), names_axis(self.outputs), (bars,))
        return Picture("Means", (panel,), "A bar is a mean.", "How single rows differ.")


def explain(
    model: Model,
    rows: Rows,
    options: MeansOptions = MeansOptions(),  # noqa: B008  (a frozen value)
    work: Work = Work(),
    *,
    background: Rows | None = None,
) -> MeansResult:
    if options.labels:
        rows.need_labels()
    if not len(rows):
        raise BadInput("there are no rows", code="explain.rows")
    lineage = lineage_of(model, rows, work)
    work.tell(0.5, "asking")
    said = asked(model, work)(rows.values)
    work.tell(1.0, "done")
    return MeansResult(
        lineage=lineage,
        outputs=model.outputs,
        means=said.mean(axis=0),
        background=0 if background is None else len(background),
    )
