"""Accumulated local effects: how the prediction moves as one feature does, other features as they are around there.

Apley and Zhu 2020, "Visualizing the effects of predictor variables in black box supervised learning models", section
3, first order, with categories as their package ALEPlot has them; the curve's mean over the rows is 0. Unlike partial
dependence it asks nothing of rows that cannot exist where features go together.

The error is that of the influence of each row: on the mean step of its own bin, and on the mean that is taken off. The
edges count as given.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from aimass.explain.gap.steps import category_order, quantile_edges
from aimass.explain.models import Predict
from aimass.explain.rows import Rows
from aimass.proto.errors import BadInput

__all__ = ["Curve", "accumulated_local_effects", "curve_of_steps"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Curve:
    """`value` [k] with its `error` at cells `at` [k]; `behind` [k - 1] rows are behind each step from one to the next.

    `change` is from the first to the last. `influence` [n, k] is each row's on `value`.
    """

    at: Floats
    value: Floats
    error: Floats
    behind: Places
    change: float
    change_error: float
    influence: Floats


def accumulated_local_effects(
    predict: Predict, rows: Rows, column: int, output: int, *, steps: int = 20, edges: Floats | None = None
) -> Curve:
    """Of one feature over the rows that have it; raises `BadInput` where it has fewer than two values.

    `edges` are ascending cells of a number; quantiles unless given.
    """
    known = rows.take(~np.isnan(rows.values[:, column]))
    category = rows.features[column].kind == "category"
    if category:
        at = category_order(known, column)
    else:
        at = quantile_edges(known.values[:, column], steps) if edges is None else edges
    if len(at) < 2:
        raise BadInput(
            "a feature with one value has no effect that could be seen",
            code="explain.constant",
            value=rows.features[column].name,
        )
    if category:
        return _of_category(predict, known.values, column, output, at)
    return _of_number(predict, known.values, column, output, at)


def _of_number(predict: Predict, values: Floats, column: int, output: int, at: Floats) -> Curve:
    """Each row goes from the lower to the upper edge of its own bin; the first bin has its lower edge too."""
    cells = values[:, column]
    own = np.clip(np.searchsorted(at, cells, side="left") - 1, 0, len(at) - 2)
    low, high = values.copy(), values.copy()
    low[:, column], high[:, column] = at[own], at[own + 1]
    rise = predict(high)[:, output] - predict(low)[:, output]
    within = np.clip((cells - at[own]) / (at[own + 1] - at[own]), 0.0, 1.0)
    return curve_of_steps(at, own[:, None], rise[:, None], own, within)


def _of_category(predict: Predict, values: Floats, column: int, output: int, at: Floats) -> Curve:
    """Each row goes to the next value, and from the one before to its own."""
    own = (values[:, column][:, None] == at[None, :]).argmax(axis=1)
    before, after = values.copy(), values.copy()
    before[:, column], after[:, column] = at[np.maximum(own - 1, 0)], at[np.minimum(own + 1, len(at) - 1)]
    said = predict(values)[:, output]
    rise = np.stack([said - predict(before)[:, output], predict(after)[:, output] - said], axis=1)
    step = np.stack([own - 1, np.where(own + 1 < len(at), own, -1)], axis=1)
    return curve_of_steps(at, step, rise, own, np.zeros(len(own)))


def curve_of_steps(at: Floats, step: Places, rise: Floats, own: Places, within: Floats) -> Curve:
    """The curve of rows that rise by `rise` [n, c] over the steps `step` [n, c], -1 for none.

    A row stands `within` [n] 0 .. 1 of step `own` [n]: there the curve is taken for its mean over the rows.
    """
    count, steps, taken = len(own), len(at) - 1, step >= 0
    behind = np.bincount(step[taken], minlength=steps)
    if not behind.all():
        raise BadInput("a step of the curve has no rows", code="explain.steps", cure="Take fewer or wider steps.")
    mean = np.bincount(step[taken], rise[taken], minlength=steps) / behind
    total = np.concatenate([[0.0], np.cumsum(mean)])
    here = total[own] + within * np.append(mean, 0.0)[own]
    # what c = mean(here) moves by where one step's mean does: the share of rows beyond it, and within it
    passed = np.bincount(own, minlength=len(at))
    beyond = 1.0 - np.cumsum(passed)[:steps] / count
    weight = beyond + np.bincount(own, within, minlength=len(at))[:steps] / count
    influence = np.repeat((here.mean() - here)[:, None], len(at), axis=1)
    unbiased = np.sqrt(behind / np.maximum(behind - 1, 1))
    for column in range(step.shape[1]):
        rows = np.flatnonzero(taken[:, column])
        to = step[rows, column]
        off = (rise[rows, column] - mean[to]) * (count / behind * unbiased)[to]
        influence[rows] += off[:, None] * ((to[:, None] < np.arange(len(at))[None, :]) - weight[to][:, None])
    whole = count * max(count - 1, 1)
    spread = np.sqrt((influence**2).sum(axis=0) / whole)
    change = influence[:, -1] - influence[:, 0]
    return Curve(
        at,
        total - here.mean(),
        spread,
        behind,
        float(total[-1]),
        float(np.sqrt((change**2).sum() / whole)),
        influence,
    )
