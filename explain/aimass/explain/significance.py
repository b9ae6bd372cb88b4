"""Whether a difference is more than chance: intervals of means and differences, p-values by shuffles, corrected.

Shuffles suppose no shape of the errors. Values that are 0 or 1 have the intervals of proportions.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.means import mean_interval, student95
from aimass.explain.work import Work
from aimass.proto.intervals import wilson

__all__ = ["LEVEL", "difference_interval", "holm", "hypergeometric", "mean_and_interval", "shuffled_p"]

Floats = npt.NDArray[np.float64]
LEVEL: Final = 0.05
"""A p-value that is larger is no more than chance."""
_SHARE_BYTES: Final = 24
"""Of a shuffled error: the number, its copy and the random order."""


def holm(p: npt.ArrayLike) -> Floats:
    """p-values [k] corrected for all k (Holm 1979): of those at most a, any is false in a share a of cases at most."""
    found = np.asarray(p, np.float64)
    order = np.argsort(found)
    steps = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    corrected = np.empty(len(found))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def shuffled_p(inside: npt.NDArray[np.bool_], errors: Floats, shuffles: int, work: Work, purpose: str) -> Floats:
    """p [k] that errors [n] inside of [n, k] are no larger than elsewhere, by shuffles of the errors over the rows.

    Where errors are 0 or 1 it is of all shuffles there are, and exact: Fisher's test. Else (1 + as extreme) /
    (1 + shuffles), which is valid at any number of them: Phipson and Smyth 2010.
    """
    if np.isin(errors, (0.0, 1.0)).all():
        wrong, sizes = (errors @ inside).tolist(), inside.sum(axis=0).tolist()
        told = [(round(seen), len(errors), round(errors.sum()), size) for seen, size in zip(wrong, sizes, strict=True)]
        return np.array([hypergeometric(*one) for one in told], np.float64)
    member = inside.astype(np.float64)
    seen = errors @ member
    near = 1e-9 * max(1.0, float(np.abs(errors).sum()))
    extreme = np.zeros(inside.shape[1], np.int64)
    random = work.rng("significance", purpose)
    for part in work.chunks(shuffles, _SHARE_BYTES * max(1, len(errors))):
        work.check()
        drawn = random.permuted(np.tile(errors, (part.stop - part.start, 1)), axis=1)
        extreme += (drawn @ member >= seen - near).sum(axis=0)
    return (1 + extreme) / (1 + shuffles)


def hypergeometric(seen: int, rows: int, wrong: int, drawn: int) -> float:
    """The chance that of `drawn` among `rows`, of which so many are `wrong`, as many as `seen` or more are wrong."""
    most = min(wrong, drawn)
    whole = _choices(rows, drawn)
    terms = (
        math.exp(_choices(wrong, hit) + _choices(rows - wrong, drawn - hit) - whole)
        for hit in range(max(seen, drawn - (rows - wrong), 0), most + 1)
    )
    return min(1.0, math.fsum(terms))


def _choices(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)


def mean_and_interval(values: Floats, *, share: bool) -> tuple[float, float, float]:
    """The mean of `values` [n] with its 95 % interval: Wilson's where they are 0 or 1 (`share`), else Student's."""
    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if share:
        return (mean, *wilson(mean, len(values)))
    return (mean, *mean_interval(len(values), float(values.sum()), float((values**2).sum())))


def difference_interval(one: Floats, other: Floats, *, share: bool) -> tuple[float, float]:
    """The 95 % interval of mean(one) - mean(other), of different rows; NaN where too few rows leave it open.

    Newcombe's hybrid score interval where the values are 0 or 1 (1998, method 10), else Welch's.
    """
    if min(len(one), len(other)) < (1 if share else 2):
        return math.nan, math.nan
    p, q = float(one.mean()), float(other.mean())
    if share:
        (a, b), (c, d) = wilson(p, len(one)), wilson(q, len(other))
        return p - q - math.hypot(p - a, d - q), p - q + math.hypot(b - p, q - c)
    u, v = float(one.var(ddof=1)) / len(one), float(other.var(ddof=1)) / len(other)
    if u + v == 0:
        return p - q, p - q
    freedom = (u + v) ** 2 / (u**2 / (len(one) - 1) + v**2 / (len(other) - 1))
    half = student95(max(1, math.floor(freedom))) * math.sqrt(u + v)
    return p - q - half, p - q + half
