"""What boosted trees say of rows: the leaves that rows come to, margins, and the probabilities of labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.proto.rows import Batch
from aimass.proto.trees import LEAF, Ensemble, Objective, Tree

__all__ = ["features", "leaves", "margins", "predictions"]

Floats = npt.NDArray[np.float32]


def features(batch: Batch) -> Floats:
    """float32 [n, features]: numbers, then categories by their codes; NaN where missing."""
    codes = np.where(batch.categories < 0, np.nan, batch.categories)
    return np.concatenate([batch.numbers, codes], axis=1, dtype=np.float32)


def leaves(tree: Tree, rows: Floats) -> npt.NDArray[np.int32]:
    """int32 [n]: the node of `tree` at which each row of `features` ends."""
    position = np.zeros(len(rows), dtype=np.int32)
    every = np.arange(len(rows))
    for _ in range(tree.depth):
        feature = tree.feature[position]
        right = _goes_right(tree, position, rows[every, feature])
        position = np.where(feature == LEAF, position, tree.left[position] + right).astype(np.int32)
    return position


def _goes_right(tree: Tree, position: npt.NDArray[np.int32], value: Floats) -> npt.NDArray[np.bool_]:
    right = value >= tree.threshold[position]
    for node, codes in tree.right_codes.items():
        here = position == node
        right[here] = np.isin(value[here], codes)
    return np.where(np.isnan(value), ~tree.default_left[position], right)


def margins(ensemble: Ensemble, rows: Floats) -> npt.NDArray[np.float64]:
    """float64 [n, outputs]: base and the values of the leaves, summed in the order of the trees."""
    total = np.tile(ensemble.base.astype(np.float64), (len(rows), 1))
    for tree in ensemble.trees:
        total[:, tree.output] += tree.value[leaves(tree, rows)]
    return total


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
