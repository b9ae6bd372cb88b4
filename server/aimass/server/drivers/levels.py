"""The levels of the trees that a round grows: as the blobs that partners split their rows by, and as trees at last.

A level has a place for each node that a tree could have there: node p of tree k stands at k 2^level + p, and has the
children 2 p and 2 p + 1 in the next. A place without a node, and a node that is not split, has the column -1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aimass.proto.boosting import Boosting
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.trees import LEAF, Tree
from aimass.server.drivers.splits import Splits, leaf_values

__all__ = ["decode_level", "encode_level", "grown"]

Floats = npt.NDArray[np.float64]
Edges = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


def encode_level(splits: Splits) -> bytes:
    """The level's blob, of which partners read `columns` and `left`."""
    return encode_numpy({field.name: getattr(splits, field.name) for field in dataclasses.fields(splits)})


def decode_level(blob: Blob) -> Splits:
    """What this server encoded."""
    return Splits(**{field.name: blob.numpy(field.name) for field in dataclasses.fields(Splits)})


class _Node(NamedTuple):
    """A node as a model has it; `sums` are G and H of its rows."""

    sums: Floats
    feature: int = LEAF
    threshold: float = 0.0
    default_left: bool = False
    gain: float = 0.0
    right_codes: Codes | None = None


def grown(boosting: Boosting, learning_rate: float, edges: Edges, levels: Sequence[Splits], output: int) -> Tree:
    """The tree of an output after its levels. What a node's rows come to is what the split of its parent gave it."""
    nodes: list[_Node] = []
    places, sums = np.zeros(1, np.int64), levels[0].totals[output : output + 1]
    for number, level in enumerate(levels):
        here = (output << number) + places
        nodes += [_node(boosting, edges, level, place, own) for place, own in zip(here.tolist(), sums, strict=True)]
        split = level.columns[here] != LEAF
        places = (2 * places[split, None] + np.arange(2)).reshape(-1)
        sums = level.sums[here[split]].reshape(-1, 2)
    nodes += [_Node(own) for own in sums]
    stats = np.array([node.sums for node in nodes])
    return Tree(
        feature=np.array([node.feature for node in nodes], np.int32),
        threshold=np.array([node.threshold for node in nodes], np.float32),
        default_left=np.array([node.default_left for node in nodes], np.bool_),
        value=leaf_values(boosting.options, learning_rate, stats),
        gain=np.array([node.gain for node in nodes], np.float32),
        cover=np.maximum(stats[:, 1], 0.0).astype(np.float32),  # (noise may be more than there is)
        right_codes={at: node.right_codes for at, node in enumerate(nodes) if node.right_codes is not None},
        output=output,
    )


def _node(boosting: Boosting, edges: Edges, level: Splits, place: int, sums: Floats) -> _Node:
    column = int(level.columns[place])
    if column == LEAF:
        return _Node(sums)
    left = level.left[place, : boosting.widths[column]]
    split = _Node(sums, column, default_left=bool(left[-1]), gain=float(level.gains[place]))
    if column >= len(edges):
        return split._replace(right_codes=np.flatnonzero(~left[:-1]).astype(np.int32))
    return split._replace(threshold=float(edges[column, left[:-1].sum()]))
