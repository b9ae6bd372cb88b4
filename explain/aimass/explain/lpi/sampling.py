"""Shapley values of many features, by random orders in antithetic pairs, with their standard error.

An order lets the features join one after another, its reverse the other way round: what one of them over-states for an
early feature the other under-states (Castro et al. 2009; Mitchell et al. 2022, section 3.3).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.coalitions import Floats, Groups, Places, as_rows, members_of, singletons
from aimass.explain.lpi.shapley import Shapley, checked_background
from aimass.explain.models import Predict
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["sampled_shapley"]

_CHUNK_BYTES = 8 << 20


def sampled_shapley(
    predict: Predict,
    rows: npt.ArrayLike,
    background: npt.ArrayLike,
    *,
    pairs: int = 200,
    weights: npt.ArrayLike | None = None,
    groups: Groups | None = None,
    work: Work = Work(),
) -> Shapley:
    """As `exact_shapley`, unbiased, from `pairs` pairs of orders for each row, of any number of features.

    Each pair has one reference. They are taken in equal steps through the weights, so that as many pairs as there are
    references of one weight, or a multiple, use each alike and the sums are exact. `errors` are standard errors that
    count pairs as if references were drawn at random, which is more than they are. `spread` is that of pairs.
    """
    if pairs < 2:
        raise BadInput("one pair of orders has no standard error", code="explain.pairs", value=pairs, limit="2 or more")
    x, z = as_rows(np.asarray(rows)), as_rows(np.asarray(background))
    z, share = checked_background(x, z, weights)
    members = members_of(singletons(x.shape[1]) if groups is None else groups, x.shape[1])
    said, worth = predict(x), predict(z)
    values = np.zeros((len(x), len(members), worth.shape[1]))
    spread = np.zeros_like(values)
    for row in range(len(x)):
        work.check()
        rng = work.rng("lpi", "orders", row)
        reference = _in_equal_steps(share, pairs, rng)
        found = _of_row(predict, x[row], z, reference, (worth, said[row]), members, rng, work)
        values[row], spread[row] = found.mean(axis=0), found.std(axis=0, ddof=1)
        work.tell((row + 1) / len(x), "orders of features")
    return Shapley(values, share @ worth, said, spread, spread / np.sqrt(pairs))


def _in_equal_steps(share: Floats, number: int, rng: np.random.Generator) -> Places:
    """int64 [number] places drawn by `share` with one random start (systematic sampling), in random order."""
    ends = np.cumsum(share)
    steps = (np.arange(number) + rng.random()) / number * ends[-1]
    drawn = np.minimum(np.searchsorted(ends, steps, side="right"), len(share) - 1)
    return rng.permutation(drawn)


def _of_row(
    predict: Predict,
    x: Floats,
    z: Floats,
    reference: Places,
    worth: tuple[Floats, Floats],
    members: Places,
    rng: np.random.Generator,
    work: Work,
) -> Floats:
    """float64 [pairs, groups, outputs]: what each pair of orders says of each feature."""
    groups, features = len(members), len(x)
    group_of = np.empty(features, np.int64)
    group_of[members] = np.arange(groups)[:, None]
    ranks = np.argsort(rng.random((len(reference), groups)), axis=1)
    found = np.empty((len(reference), groups, worth[0].shape[1]))
    size = max(1, min(_CHUNK_BYTES, work.memory_bytes // 2) // (16 * features * groups))
    for start in range(0, len(reference), size):
        work.check()
        some = slice(start, start + size)
        both = np.concatenate([ranks[some], groups - 1 - ranks[some]])
        at = np.concatenate([reference[some], reference[some]])
        joined = both[:, None, :] < np.arange(1, groups)[None, :, None]
        cells = np.where(joined[:, :, group_of], x, z[at][:, None, :])
        middle = predict(cells.reshape(-1, features)).reshape(len(both), groups - 1, worth[0].shape[1])
        last = np.broadcast_to(worth[1], (len(both), 1, middle.shape[2]))
        gains = np.diff(np.concatenate([worth[0][at][:, None, :], middle, last], axis=1), axis=1)
        phi = np.take_along_axis(gains, both[:, :, None], axis=1)
        found[some] = phi.reshape(2, -1, *phi.shape[1:]).mean(axis=0)
    return found
