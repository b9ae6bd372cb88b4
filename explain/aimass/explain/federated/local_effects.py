"""A curve of accumulated local effects, and its error, from sums by cell.

Of each row two numbers u and v are known. Of a feature that is a number, u is by how much the prediction rises over the
step that the row is in, and v in 0 .. 1 where in the step it stands. Of a category, u is the rise from the value before
to the row's own, and v that from its own to the next. With the rows in each cell and the sums of u, v, u^2, v^2 and u v
the influence of every row on every point of the curve squares and adds up to what it is over pooled rows.

With h the curve where a row stands, c the mean of h, m a step's mean rise, N rows and n in a step, the influence on the
curve at k is  c - h + (u - m) f (1[step < k] - w),  f = N / n sqrt(n / (n - 1)), where w is what c moves by with m.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from aimass.explain.federated.sums import Floats

__all__ = ["LocalEffect", "of_category", "of_number"]


@dataclasses.dataclass(frozen=True)
class LocalEffect:
    """`value` [k] with its `error` at `at` [k], of mean 0 over the rows; `behind` [k - 1] rows are behind each step."""

    at: Floats
    value: Floats
    error: Floats
    behind: Floats
    change: float
    change_error: float


def of_number(at: Floats, cells: Floats, moments: Floats, noise: float = 0.0) -> LocalEffect:
    """From `cells` [>= k - 1] and `moments` [>= k - 1, 5]; `noise` is the standard deviation of each sum."""
    steps = len(at) - 1
    n = np.maximum(cells[:steps], 0.0)
    u, v, uu, vv, uv = np.where(n[:, None] > 0, moments[:steps], 0.0).T
    rows = n.sum()
    mean = _over(u, n)
    total = np.concatenate([[0.0], np.cumsum(mean)])
    centre = (n @ total[:-1] + v @ mean) / rows
    weight = 1.0 - np.cumsum(n) / rows + v / rows
    scale = _scale(n, rows)
    away, tilt = centre - total[:-1], -mean  # c - h is away + tilt v
    squares = (n * away**2 + 2 * away * tilt * v + tilt**2 * vv).sum()
    products = tilt * (uv - mean * v)
    spread = np.maximum(uu - n * mean**2, 0.0)
    passed = _passed(steps) - weight[:, None]
    variance = squares + (2 * products * scale) @ passed + (spread * scale**2) @ passed**2
    shaken = (noise * _over(np.ones(steps), n)) ** 2
    return _effect(at, total, centre, variance, (spread * scale**2).sum(), n, shaken, passed, rows)


def of_category(at: Floats, cells: Floats, moments: Floats, noise: float = 0.0) -> LocalEffect:
    """From `cells` [>= k] and `moments` [>= k, 5]; a step's rows are those of the two values that it is between."""
    steps = len(at) - 1
    n = np.maximum(cells[: steps + 1], 0.0)
    u, v, uu, vv, uv = np.where(n[:, None] > 0, moments[: steps + 1], 0.0).T
    rows = n.sum()
    behind = n[:-1] + n[1:]
    mean = _over(v[:-1] + u[1:], behind)
    total = np.concatenate([[0.0], np.cumsum(mean)])
    centre = n @ total / rows
    weight = 1.0 - np.cumsum(n)[:-1] / rows
    scale = _scale(behind, rows)
    # Of each value the step before it and the one after; there is none before the first nor after the last.
    before, after = np.append(0.0, mean), np.append(mean, 0.0)
    passed = _passed(steps) - weight[:, None]
    blank = np.zeros((1, steps + 1))
    one, other = (scale[:, None] * passed for _ in range(2))
    one, other = np.concatenate([blank, one]), np.concatenate([other, blank])
    away = (centre - total)[:, None]
    su, sv = (u - n * before)[:, None], (v - n * after)[:, None]
    suu = np.maximum(uu - 2 * before * u + n * before**2, 0.0)[:, None]
    svv = np.maximum(vv - 2 * after * v + n * after**2, 0.0)[:, None]
    suv = (uv - before * v - after * u + n * before * after)[:, None]
    each = n[:, None] * away**2 + 2 * away * (one * su + other * sv) + one**2 * suu + other**2 * svv
    variance = (each + 2 * one * other * suv).sum(axis=0)
    whole = np.append(0.0, scale)[:, None], np.append(scale, 0.0)[:, None]
    changed = float((whole[0] ** 2 * suu + whole[1] ** 2 * svv + 2 * whole[0] * whole[1] * suv).sum())
    shaken = 2 * (noise * _over(np.ones(steps), behind)) ** 2
    return _effect(at, total, centre, variance, changed, behind, shaken, passed, rows)


def _effect(
    at: Floats,
    total: Floats,
    centre: float,
    variance: Floats,
    changed: float,
    behind: Floats,
    shaken: Floats,
    passed: Floats,
    rows: float,
) -> LocalEffect:
    """With the `shaken` [steps] variances of the steps' means that noise adds."""
    pairs = rows * max(rows - 1.0, 1.0)
    error = np.sqrt(np.maximum(variance, 0.0) / pairs + shaken @ passed**2)
    change_error = float(np.sqrt(max(changed, 0.0) / pairs + shaken.sum()))
    return LocalEffect(at, total - centre, error, behind, float(total[-1]), change_error)


def _passed(steps: int) -> Floats:
    """1 [step, k] where the step lies before k."""
    return (np.arange(steps)[:, None] < np.arange(steps + 1)[None, :]).astype(np.float64)


def _over(sums: Floats, counts: Floats) -> Floats:
    """The means; 0 where nothing is counted."""
    return np.divide(sums, counts, out=np.zeros(len(sums)), where=counts > 0)


def _scale(counts: Floats, rows: float) -> Floats:
    """What a row's deviation from its step's mean counts for: f of the module's equation."""
    return _over(rows * np.sqrt(counts / np.maximum(counts - 1, 1.0)), counts)
