"""Exact Shapley values of a prediction, by all coalitions at once.

No library does this as well for a model that is a function of rows: `shap`'s exact explainer walks the coalitions one
flip after another over the whole background. Here the game of a row is the mean of its games against single
references, and each of these has only the features for players on which the two rows differ: 2^d hybrids instead of
2^13. Values are the same to rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.coalitions import (
    Floats,
    Groups,
    Places,
    as_rows,
    differing,
    hybrids,
    members_of,
    shapley_matrix,
    singletons,
)
from aimass.explain.models import Predict
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, LimitExceeded

__all__ = ["MOST_PLAYERS", "Shapley", "checked_background", "exact_shapley"]

MOST_PLAYERS: Final = 13
"""Above, values are sampled: 2^13 coalitions over 100 references are 0.8 million predictions."""
_CHUNK_BYTES: Final = 8 << 20
"""What hybrids of one chunk hold: about a processor's cache, a tenth of a second of most models."""
_PAIRS: Final = 1 << 17
"""Pairs of rows and references that are compared at once."""


@dataclasses.dataclass(frozen=True)
class Shapley:
    """`values` float64 [n, groups, outputs] sum to `said` [n, outputs] less `base` [outputs].

    `base` is the mean prediction over the background. `spread` [n, groups, outputs] is the standard deviation of the
    values against single references: over the square root of their number it is the standard error that comes from a
    background drawn at random. `errors` is the Monte-Carlo standard error of sampled values, None of exact ones.
    """

    values: Floats
    base: Floats
    said: Floats
    spread: Floats
    errors: Floats | None = None

    @property
    def gap(self) -> float:
        """By how much the sums miss the predictions at most (efficiency); rounding alone, where values are exact."""
        missed = self.values.sum(axis=1) - (self.said - self.base)
        return float(np.abs(missed).max(initial=0.0))


def exact_shapley(
    predict: Predict,
    rows: npt.ArrayLike,
    background: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    groups: Groups | None = None,
    work: Work = Work(),
) -> Shapley:
    """Interventional Shapley values of `rows` [n, features] against `background` [m, features], exactly.

    `predict` maps float64 [k, features] to [k, outputs]: `asked(model, work)`. `weights` [m] are the references', all
    alike unless given; `groups` are columns that are one player, each column its own unless given. NaN is a value like
    others. Raises `BadInput` of an empty background, `LimitExceeded` of more than 13 players.

    The gap between `said` (asked for the rows themselves) and the sums is a check: see `Shapley.gap`.
    """
    x, z = as_rows(np.asarray(rows)), as_rows(np.asarray(background))
    z, share = checked_background(x, z, weights)
    members = members_of(singletons(x.shape[1]) if groups is None else groups, x.shape[1])
    if len(members) > MOST_PLAYERS:
        raise LimitExceeded(
            "too many features for all coalitions",
            code="explain.players",
            value=len(members),
            limit=MOST_PLAYERS,
            cure="Put features into groups, or sample: `sampled_shapley`.",
        )
    said, base = predict(x), share @ predict(z)
    values = np.zeros((len(x), len(members), len(base)))
    squares = np.zeros_like(values)
    blocks = _blocks(len(x), len(z))
    for done, block in enumerate(blocks):
        part = work.part(done / len(blocks), (done + 1) / len(blocks), "all coalitions of features")
        for row, reference, players in _pairs(x[block], z, members, part):
            phi = _of_pairs(predict, x[block][row], z[reference], players, members)
            weighted = share[reference, None, None] * phi
            where = (row[:, None] + block.start, players)
            np.add.at(values, where, weighted)
            np.add.at(squares, where, weighted * phi)
    spread = np.sqrt(np.maximum(squares - values**2, 0.0))
    return Shapley(values, base, said, spread)


def checked_background(x: Floats, background: Floats, weights: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """The references, each once, and their shares of 1; raises `BadInput` where there are none or they do not fit."""
    share = np.ones(len(background)) if weights is None else np.asarray(weights, np.float64)
    if not len(background) or share.sum() <= 0:
        raise BadInput(
            "the background is empty", code="explain.background", cure="Give rows that predictions are held against."
        )
    if background.shape[1] != x.shape[1] or share.shape != (len(background),) or (share < 0).any():
        raise BadInput(
            "the background does not fit the rows",
            code="explain.background",
            value=f"{background.shape}, weights {share.shape}",
            limit=f"[m, {x.shape[1]}], weights [m] of 0 or more",
        )
    told = np.where(np.isnan(background), np.inf, background)  # no two NaN are alike to `unique`
    found, inverse = np.unique(told, axis=0, return_inverse=True)
    return np.where(np.isinf(found), np.nan, found), np.bincount(inverse.ravel(), share, len(found)) / share.sum()


def _blocks(rows: int, references: int) -> list[slice]:
    size = max(1, _PAIRS // references)
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def _pairs(x: Floats, z: Floats, members: Places, work: Work) -> Iterator[tuple[Places, Places, Places]]:
    """Pairs as (row [p], reference [p], players [p, d]), those of as many players d together, in chunks."""
    unlike = differing(x, z, members)
    order = np.argsort(~unlike, axis=2, kind="stable")
    numbers = unlike.sum(axis=2)
    hybrid_bytes = 8 * (x.shape[1] + 2)
    whole = int((1 << numbers).sum())
    done = 0
    for number in range(1, len(members) + 1):
        row, reference = np.nonzero(numbers == number)
        size = max(1, min(_CHUNK_BYTES, work.memory_bytes // 2) // (hybrid_bytes << number))
        if (hybrid_bytes << number) > work.memory_bytes:
            raise LimitExceeded(
                "the coalitions of one row do not fit the memory",
                code="explain.memory",
                value=hybrid_bytes << number,
                limit=work.memory_bytes,
                cure="Allow more memory, or put features into fewer groups.",
            )
        for start in range(0, len(row), size):
            work.check()
            some = slice(start, start + size)
            yield row[some], reference[some], order[row[some], reference[some], :number]
            done += len(row[some]) << number
            work.tell(done / whole, "")


def _of_pairs(predict: Predict, rows: Floats, references: Floats, players: Places, members: Places) -> Floats:
    """float64 [pairs, d, outputs]: the Shapley values of each pair's game."""
    cells = hybrids(rows, references, players, members)
    worths = predict(cells.reshape(-1, cells.shape[2]))
    return shapley_matrix(players.shape[1]) @ worths.reshape(*cells.shape[:2], -1)
