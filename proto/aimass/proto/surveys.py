"""Surveys: analyses that count or sum what the rows' columns hold, as partner and server agree on them from the plan.

A survey is asked by the stage of its name. Its sums are tables: a row of the data falls into one cell of each column's
table at most, or adds one number within [-1, 1] to each of a column's sums. So what one row adds has a bounded L2 norm,
`Survey.row_norm`, which noise is a multiple of. Bounds and categories are the schema's, which are public.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt

from aimass.proto.asks import EXPLAIN
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import Plan, PlanDraft, Stage
from aimass.proto.plan_settings import TREES
from aimass.proto.values import Value, convert

__all__ = [
    "MOMENTS",
    "MOST_CELLS",
    "SURVEYS",
    "Survey",
    "SurveyOptions",
    "asks_columns",
    "bins_of",
    "edges",
    "options_of",
    "survey_of",
]

SURVEYS: Final = ("counts", "histogram", "moments", "quantiles")
MOMENTS: Final = ("count", "sum_1", "sum_2", "sum_3", "sum_4")
"""Sums of the powers 0 to 4 of z = (x - middle) / half, which lies in [-1, 1] between the schema's bounds."""
MOST_CELLS: Final = 1 << 16
"""Numbers in one survey: its result stands in a step's view, and its price is known before the schema is."""
_OPTIONS: Final = {
    "counts": {"required"},
    "histogram": {"required", "bins"},
    "moments": {"required"},
    "quantiles": {"required", "bins", "quantiles", "refine"},
}

Floats = npt.NDArray[np.float64]


class SurveyOptions(Value, frozen=True):
    """A stage's options. Without `required` the run goes on where policies leave too few partners: with no result.

    `bins` are the equal parts of each number's range; `quantiles` are shares between 0 and 1. With `refine` a second
    step divides the bins that the quantiles lie in by `bins` once more.
    """

    bins: Annotated[int, msgspec.Meta(ge=2, le=1_000)] = 20
    quantiles: str = "0.25, 0.5, 0.75"
    refine: bool = False
    required: bool = True

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ValueError(f"`quantiles` {self.quantiles!r} names no shares between 0 and 1, like '0.25, 0.5'")

    @property
    def shares(self) -> tuple[float, ...]:
        """The quantiles' shares, in order."""
        try:
            return tuple(sorted({float(part) for part in self.quantiles.split(",")}))
        except ValueError:
            return ()


def options_of(stage: Stage) -> SurveyOptions:
    """The options of a survey's stage; raises `BadInput` for one that it does not have, or out of range."""
    allowed = _OPTIONS[stage.driver]
    if odd := sorted(set(stage.options) - allowed):
        raise BadInput(
            f"`{stage.driver}` has no such option",
            code="plan.options",
            value=", ".join(odd),
            limit=", ".join(sorted(allowed)),
        )
    return convert(SurveyOptions, stage.options, f"the options of `{stage.driver}`")


def asks_columns(plan: Plan | PlanDraft) -> bool:
    """Whether a stage asks about columns, so that the plan needs the task's schema."""
    return any(stage.driver in (*SURVEYS, EXPLAIN, TREES) for stage in plan.stages)


class Survey(Value, frozen=True):
    """What is asked of every training row. `refined` is the second step of quantiles."""

    name: str
    schema: Schema
    options: SurveyOptions
    refined: bool = False

    @property
    def tables(self) -> Mapping[str, tuple[int, ...]]:
        """The cells of each column's table, by tensor; a tensor holds its tables one after the other.

        `numbers` and `categories` end with the cell of what is missing; `label` has none, and there is no table of
        one that is no category. Of moments each tensor holds a number for each column.
        """
        schema, bins = self.schema, self.options.bins
        numbers, values = len(schema.numbers), [len(column.values) for column in schema.categories]
        label = (len(schema.classes),) if isinstance(schema.label, Category) else ()
        match self.name:
            case "moments":
                tables = dict.fromkeys(MOMENTS, (1,) * numbers)
            case "quantiles":
                tables = {"numbers": (bins,) * numbers * (len(self.options.shares) if self.refined else 1)}
            case "histogram":
                tables = {"numbers": (bins + 1,) * numbers, "categories": tuple(n + 1 for n in values), "label": label}
            case _:
                tables = {"numbers": (2,) * numbers, "categories": (2,) * len(values), "label": label}
        return {name: widths for name, widths in tables.items() if widths}

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Element type and shape by tensor."""
        return {name: ("F64", (sum(widths),)) for name, widths in self.tables.items()}

    @property
    def cells(self) -> int:
        """Numbers in all tensors together."""
        return sum(sum(widths) for widths in self.tables.values())

    @property
    def row_norm(self) -> float:
        """The largest L2 norm of what one row adds: a one in each table, or `MOMENTS` numbers within [-1, 1]."""
        tables = sum(len(widths) for widths in self.tables.values())
        return math.sqrt(len(self.schema.numbers) if self.refined else tables)


def survey_of(plan: Plan, name: str, *, refined: bool = False) -> Survey:
    """The survey of this name, as the plan's first stage of it asks; raises `BadInput` where the plan has none.

    Quantiles alone have a `refined` step, where they are asked to `refine`.
    """
    stage = next((stage for stage in plan.stages if stage.driver == name), None)
    if stage is None or plan.schema is None:
        raise BadInput(
            "the plan does not say what this survey asks of which columns",
            code="plan.schema",
            value=name,
            cure="Submit the plan as a draft: `aimass run submit` and the SDK fill in the task's schema.",
        )
    options = options_of(stage)
    refined = refined and name == "quantiles" and options.refine
    return Survey(name=name, schema=plan.schema, options=options, refined=refined)


def edges(column: Number, bins: int) -> Floats:
    """float64 [bins + 1]: the equal parts of a number's range."""
    return np.linspace(column.minimum, column.maximum, bins + 1)


def bins_of(values: Floats, at: Floats) -> npt.NDArray[np.int64]:
    """Which of the bins between the edges `at` each value is in, from 0; the last one has its upper edge too.

    What lies beyond counts in the first or the last; -1 is for what is no number.
    """
    found = np.clip(np.searchsorted(at, values, side="right") - 1, 0, len(at) - 2)
    return np.where(np.isnan(values), -1, found).astype(np.int64)
