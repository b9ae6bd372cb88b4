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
    base = share @ worth
    values = np.zeros((len(x), len(members), worth.shape[1]))
    spread = np.zeros_like(values)
    size = max(1, min(_CHUNK_BYTES, work.memory_bytes // 2) // (16 * pairs * len(members) * (x.shape[1] + len(base))))
    for start in range(0, len(x), size):
        some = slice(start, min(start + size, len(x)))
        orders = [
            _orders(share, pairs, len(members), work.rng("lpi", "orders", row)) for row in range(*some.indices(len(x)))
        ]
        reference, ranks = (np.concatenate(part) for part in zip(*orders, strict=True))
        owner = np.repeat(np.arange(start, some.stop), pairs)
        found = _of_orders(predict, x[owner], z[reference], (worth[reference], said[owner]), ranks, members, work)
        found = found.reshape(-1, pairs, *found.shape[1:])
        values[some], spread[some] = found.mean(axis=1), found.std(axis=1, ddof=1)
        work.tell(some.stop / len(x), "orders of features")
    return Shapley(values, base, said, spread, spread / np.sqrt(pairs))


def _orders(share: Floats, pairs: int, groups: int, rng: np.random.Generator) -> tuple[Places, Places]:
    """References [pairs] and the rank of each group in each order [pairs, groups]."""
    return _in_equal_steps(share, pairs, rng), np.argsort(rng.random((pairs, groups)), axis=1)


def _in_equal_steps(share: Floats, number: int, rng: np.random.Generator) -> Places:
    """int64 [number] places drawn by `share` with one random start (systematic sampling), in random order."""
    ends = np.cumsum(share)
    steps = (np.arange(number) + rng.random()) / number * ends[-1]
    drawn = np.minimum(np.searchsorted(ends, steps, side="right"), len(share) - 1)
    return rng.permutation(drawn)


def _of_orders(
    predict: Predict,
    x: Floats,
    z: Floats,
    ends: tuple[Floats, Floats],
    ranks: Places,
    members: Places,
    work: Work,
) -> Floats:
    """float64 [orders, groups, outputs]: what each order with its reverse says of each feature.

    Rows `x` and references `z` [orders, features] with their predictions, as `ends`; only what lies between is asked.
    """
    groups, features, outputs = len(members), x.shape[1], ends[0].shape[1]
    group_of = np.empty(features, np.int64)
    group_of[members] = np.arange(groups)[:, None]
    found = np.empty((len(ranks), groups, outputs))
    size = max(1, min(_CHUNK_BYTES, work.memory_bytes // 2) // (16 * (features + outputs) * groups))
    for start in range(0, len(ranks), size):
        work.check()
        some = slice(start, start + size)
        both = np.stack([ranks[some], groups - 1 - ranks[some]])
        joined = both[:, :, None, :] < np.arange(1, groups)[:, None]
        cells = np.where(joined[..., group_of], x[some][:, None, :], z[some][:, None, :])
        between = predict(cells.reshape(-1, features)).reshape(*both.shape[:2], groups - 1, outputs)
        worths = np.concatenate([_as_ends(ends[0][some]), between, _as_ends(ends[1][some])], axis=2)
        found[some] = np.take_along_axis(np.diff(worths, axis=2), both[..., None], axis=2).mean(axis=0)
    return found


def _as_ends(worth: Floats) -> Floats:
    return np.broadcast_to(worth[None, :, None, :], (2, len(worth), 1, worth.shape[1]))
