"""What boosted trees say of rows: the leaves that rows come to, margins, and the probabilities of labels.

A value is read once, as a code: how many thresholds of its feature it does not lie below, or its category. Then a split
is one look into a table of the next node by code, whatever kind of split it is, and all trees are walked at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.rows import Batch
from aimass.proto.trees import LEAF, Ensemble, Objective

__all__ = ["features", "leaves", "margins", "predictions", "scorer"]

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
_BLOCK_ROWS: Final = 256
"""Rows at once: so many that what they and a hundred trees need stays near the processor."""


def features(batch: Batch) -> Floats:
    """float32 [n, features]: numbers, then categories by their codes; NaN where missing."""
    codes = np.where(batch.categories < 0, np.nan, batch.categories)
    return np.concatenate([batch.numbers, codes], axis=1, dtype=np.float32)


def margins(ensemble: Ensemble, rows: Floats) -> npt.NDArray[np.float64]:
    """float64 [n, outputs]: base and the values of the leaves, summed in the order of the trees."""
    return scorer(ensemble)(rows)


def scorer(ensemble: Ensemble) -> Callable[[Floats], npt.NDArray[np.float64]]:
    """`margins` of these trees, which are made ready once for all calls."""
    base = ensemble.base.astype(np.float64)
    if not ensemble.trees:
        return lambda rows: np.tile(base, (len(rows), 1))
    compiled = _compiled(ensemble)
    values = np.concatenate([tree.value for tree in ensemble.trees]).astype(np.float64)
    outputs = np.array([tree.output for tree in ensemble.trees])

    def score(rows: Floats) -> npt.NDArray[np.float64]:
        total = np.tile(base, (len(rows), 1))
        for block, ends in _walked(compiled, rows):
            for output in range(len(base)):
                total[block, output] += values[ends[outputs == output]].sum(axis=0)
        return total

    return score


def leaves(ensemble: Ensemble, rows: Floats) -> npt.NDArray[np.int32]:
    """int32 [trees, n]: the node of each tree at which each row of `features` ends."""
    found = np.zeros((len(ensemble.trees), len(rows)), dtype=np.int32)
    if ensemble.trees:
        compiled = _compiled(ensemble)
        for block, ends in _walked(compiled, rows):
            found[:, block] = ends - compiled.roots[:, None]
    return found


def predictions(objective: Objective, margin: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities [n, labels] of margins [n, outputs]; with squared error the margins themselves."""
    match objective:
        case Objective.SQUARED_ERROR:
            return margin
        case Objective.LOGISTIC:
            # Both from the side that is small, so that neither is lost to rounding.
            sides = np.concatenate([margin, -margin], axis=1)
            return np.asarray(1.0 / (1.0 + np.exp(np.clip(sides, -700.0, 700.0))))
        case Objective.SOFTMAX:
            powers = np.exp(margin - margin.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@dataclasses.dataclass(frozen=True, slots=True)
class _Compiled:
    """The nodes of all trees, one tree after the other.

    A row with `code` of a node's `feature` goes on to `next[start[node] + code]`. A leaf asks for one feature more than
    there are, of which every row has code 0, and goes on to itself.
    """

    sizes: npt.NDArray[np.int32]
    cuts: tuple[Floats, ...]
    feature: Places
    start: Places
    next: Places
    roots: Places
    depth: int


def _compiled(ensemble: Ensemble) -> _Compiled:
    trees, sizes = ensemble.trees, ensemble.sizes
    roots = np.cumsum([0, *(len(tree.feature) for tree in trees[:-1])])
    feature = np.concatenate([tree.feature for tree in trees]).astype(np.intp)
    threshold = np.concatenate([tree.threshold for tree in trees])
    default_left = np.concatenate([tree.default_left for tree in trees])
    left = np.concatenate([tree.left + root for tree, root in zip(trees, roots, strict=True)])
    leaf = feature == LEAF
    feature[leaf] = len(sizes)
    number = ~leaf & (np.append(sizes, 0)[feature] == 0)
    cuts, rank = _ranked(feature, threshold, number, len(sizes))
    codes = np.where(sizes > 0, sizes + 1, [len(cut) + 2 for cut in cuts])  # the last one of a value that is missing
    width = np.append(codes, 1)[feature]
    start = np.cumsum(width) - width
    node = np.repeat(np.arange(len(feature)), width)
    code = np.arange(len(node)) - start[node]
    right = number[node] & (code > rank[node])
    for tree, root in zip(trees, roots, strict=True):
        for place, going_right in tree.right_codes.items():
            right[start[root + place] + going_right] = True
    right = np.where(code == width[node] - 1, ~default_left[node], right)
    return _Compiled(
        sizes, cuts, feature, start, np.where(leaf[node], node, left[node] + right), roots, max(t.depth for t in trees)
    )


def _ranked(
    feature: Places, threshold: Floats, number: npt.NDArray[np.bool_], features: int
) -> tuple[tuple[Floats, ...], Places]:
    """The ascending thresholds of each feature, and the place of each node's own among them."""
    rank = np.zeros(len(feature), dtype=np.intp)
    cuts: list[Floats] = []
    for each in range(features):
        nodes = number & (feature == each)
        found, rank[nodes] = np.unique(threshold[nodes], return_inverse=True)
        cuts.append(found)
    return tuple(cuts), rank


def _coded(compiled: _Compiled, rows: Floats) -> Places:
    """intp [features + 1, n]."""
    codes = np.zeros((len(compiled.sizes) + 1, len(rows)), dtype=np.intp)
    for feature, (size, cuts) in enumerate(zip(compiled.sizes, compiled.cuts, strict=True)):
        values = rows[:, feature]
        known, missing = (values, size) if size else (np.searchsorted(cuts, values, side="right"), len(cuts) + 1)
        codes[feature] = np.where(np.isnan(values), missing, known)
    return codes


def _walked(compiled: _Compiled, rows: Floats) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    """Blocks of rows, and intp [trees, rows of the block]: the node of each tree at which each of them ends."""
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = slice(first, min(first + _BLOCK_ROWS, len(rows)))
        codes = _coded(compiled, rows[block])
        count = codes.shape[1]
        codes, feature, row = codes.reshape(-1), compiled.feature * count, np.arange(count)
        at = np.repeat(compiled.roots[:, None], count, axis=1)
        for _ in range(compiled.depth):
            at = compiled.next[compiled.start[at] + codes[feature[at] + row]]
        yield block, at
