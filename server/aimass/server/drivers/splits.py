"""The best split of each node from its histograms, as XGBoost's `hist` chooses it: pure, over arrays.

A split of a node of sums G and H into (G_L, H_L) and (G_R, H_R) gains

    G_L^2 / (H_L + lambda) + G_R^2 / (H_R + lambda) - G^2 / (H + lambda)

(Chen & Guestrin 2016, equation 7, times two and without gamma, which it must reach). Gains are compared as float32: of
those that are equal the first counts, by column and then by the order below, so that rounding decides over nothing.

Numbers: below each edge or not, what is missing once on the right and once on the left (algorithm 3). Categories of
fewer than `ONE_HOT` values: one value against the rest. Others: sorted by -G / (H + lambda), or 0 for values that are
lighter than `min_child_weight`, the first ones against the rest, as partitions of least loss are (Fisher 1958); on the
side that is counted there are fewer than `MOST_CHOSEN`.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.boosting import Boosting, BoostingOptions

__all__ = ["MOST_CHOSEN", "ONE_HOT", "Splits", "best_splits", "leaf_values"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Cells = npt.NDArray[np.int64]
ONE_HOT: Final = 4
MOST_CHOSEN: Final = 64
"""XGBoost's `max_cat_to_onehot` and `max_cat_threshold`."""
_LEAST_GAIN: Final = 1e-6
"""A split gains more than this, whatever gamma is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Splits:
    """What becomes of so many nodes.

    `columns` int64 [nodes], -1 where a node stays a leaf; `left` bool [nodes, widest column], which cells of the column
    go left; `gains` float32 [nodes]; `totals` float64 [nodes, 2], G and H of a node's rows, and `sums` float64
    [nodes, 2, 2] those of its left and right side.
    """

    columns: Cells
    left: Bools
    gains: npt.NDArray[np.float32]
    totals: Floats
    sums: Floats


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidates:
    """Ways to split nodes by one column, in the order in which they count.

    `sums` float64 [nodes, ways, 2] of the left side. Way w leaves on the `chosen_left` side, or else on the right, the
    cells of `rank` [nodes, cells] in `starts[w]` to `ends[w]`; what is missing goes left where `missing_left[w]`.
    """

    sums: Floats
    rank: Cells
    starts: Cells
    ends: Cells
    chosen_left: Bools
    missing_left: Bools

    def left(self, way: Cells) -> Bools:
        """bool [nodes, cells]: which cells go left in the way that each node takes."""
        start, end = self.starts[way, None], self.ends[way, None]
        chosen = (self.rank >= start) & (self.rank < end)
        sides = np.where(self.chosen_left[way, None], chosen, ~chosen)
        return np.concatenate([sides, self.missing_left[way, None]], axis=1)


def best_splits(boosting: Boosting, histograms: Floats) -> Splits:
    """The splits of nodes by `histograms` float64 [nodes, cells, 2], gradients and Hessians."""
    options, nodes, every = boosting.options, len(histograms), np.arange(len(histograms))
    total = histograms[:, boosting.columns[0]].sum(axis=1)
    best = Splits(
        np.full(nodes, -1),
        np.zeros((nodes, max(boosting.widths)), bool),
        np.full(nodes, _LEAST_GAIN, np.float32),
        total,
        np.zeros((nodes, 2, 2)),
    )
    for column, at in enumerate(boosting.columns):
        cells = histograms[:, at]
        ways = _ways(options, cells, is_number=column < len(boosting.schema.numbers))
        gains = _gains(options, ways.sums, total)
        way = gains.argmax(axis=1)
        gain = gains[every, way]
        better = (gain > best.gains) & (gain >= options.gamma)
        sums = ways.sums[every, way]
        best.columns[better], best.gains[better] = column, gain[better]
        best.left[better] = False
        best.left[better, : cells.shape[1]] = ways.left(way)[better]
        best.sums[better] = np.stack([sums, total - sums], axis=1)[better]
    return best


def leaf_values(options: BoostingOptions, learning_rate: float, sums: Floats) -> npt.NDArray[np.float32]:
    """float32 [...]: what a leaf of these sums [..., 2] adds: -G / (H + lambda), times the rate (equation 5)."""
    gradient, hessian = sums[..., 0], sums[..., 1]
    weight = np.divide(-gradient, hessian + options.penalty, out=np.zeros_like(gradient), where=hessian > 0)
    return weight.astype(np.float32) * np.float32(learning_rate)


def _gains(options: BoostingOptions, left: Floats, total: Floats) -> npt.NDArray[np.float32]:
    """float32 [nodes, ways], minus infinity where a side is too light."""
    right = total[:, None] - left
    lightest = np.minimum(left[..., 1], right[..., 1])
    gains = _score(options, left) + _score(options, right) - _score(options, total)[:, None]
    return np.where((lightest > 0) & (lightest >= options.min_child_weight), gains, np.float32(-np.inf))


def _score(options: BoostingOptions, sums: Floats) -> npt.NDArray[np.float32]:
    """float32 [...] of sums [..., 2]: G^2 / (H + lambda), of two float32."""
    square, weight = (sums[..., 0] ** 2).astype(np.float32), (sums[..., 1] + options.penalty).astype(np.float32)
    return np.divide(square, weight, out=np.zeros_like(square), where=sums[..., 1] > 0)


def _ways(options: BoostingOptions, cells: Floats, *, is_number: bool) -> _Candidates:
    if is_number:
        return _below(cells)
    return _one_against_rest(cells) if cells.shape[1] - 1 < ONE_HOT else _partitions(options, cells)


def _below(cells: Floats) -> _Candidates:
    """Edges from the second on with what is missing on the right, then from the last but one back, on the left."""
    present, missing = cells[:, :-1], cells[:, -1:]
    bins = present.shape[1]
    upto = np.cumsum(present, axis=1)
    before = np.concatenate([np.zeros_like(missing), upto[:, :-1]], axis=1)
    return _Candidates(
        sums=np.concatenate([upto, (before + missing)[:, ::-1]], axis=1),
        rank=np.broadcast_to(np.arange(bins), present.shape[:2]),
        starts=np.zeros(2 * bins, np.int64),
        ends=np.concatenate([np.arange(1, bins + 1), np.arange(bins - 1, -1, -1)]),
        chosen_left=np.ones(2 * bins, bool),
        missing_left=np.arange(2 * bins) >= bins,
    )


def _one_against_rest(cells: Floats) -> _Candidates:
    """Each value on the right by itself, with what is missing on the left and then beside it."""
    present, missing = cells[:, :-1], cells[:, -1:]
    values, total = present.shape[1], cells.sum(axis=1, keepdims=True)
    right = np.stack([present, present + missing], axis=2).reshape(len(cells), 2 * values, 2)
    ways = np.arange(2 * values)
    return _Candidates(
        sums=total - right,
        rank=np.broadcast_to(np.arange(values), present.shape[:2]),
        starts=ways // 2,
        ends=ways // 2 + 1,
        chosen_left=np.zeros(2 * values, bool),
        missing_left=ways % 2 == 0,
    )


def _partitions(options: BoostingOptions, cells: Floats) -> _Candidates:
    """Of the values in order the first ones on the right, what is missing on the left; then the last ones on the left,
    what is missing on the right."""
    present, total = cells[:, :-1], cells.sum(axis=1, keepdims=True)
    values = present.shape[1]
    heavy = (present[..., 1] > 0) & (present[..., 1] >= options.min_child_weight)
    weights = np.divide(-present[..., 0], present[..., 1] + options.penalty, out=np.zeros(heavy.shape), where=heavy)
    order = np.argsort(weights, axis=1, kind="stable")
    ordered = np.take_along_axis(present, order[..., None], axis=1)
    most = min(values, MOST_CHOSEN) - 1
    first, last = np.cumsum(ordered, axis=1)[:, :most], np.cumsum(ordered[:, ::-1], axis=1)[:, :most]
    return _Candidates(
        sums=np.concatenate([total - first, last], axis=1),
        rank=np.argsort(order, axis=1, kind="stable"),
        starts=np.zeros(2 * most, np.int64),
        ends=np.concatenate([np.arange(1, most + 1), values - np.arange(1, most + 1)]),
        chosen_left=np.zeros(2 * most, bool),
        missing_left=np.arange(2 * most) < most,
    )
