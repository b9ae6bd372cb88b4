"""Gradient boosted trees as arrays: a frozen model and its one encoding as a safetensors blob.

Nodes of a tree stand in level order: the root first, then each level from left to right. So two children stand beside
each other, and which nodes split says all of a tree's shape (level-order unary degree sequence: Jacobson 1989): there
are no links that could go astray.

The blob's tensors: `ensemble.{version, objective}` I32 [], `ensemble.base` F32 [outputs], `ensemble.sizes` I32
[features]; `trees.{output, nodes}` I32 [trees]; `nodes.feature` I32, `nodes.{threshold, value, gain, cover}` F32,
`nodes.default_left` BOOL and `nodes.codes` I32, all [nodes], the trees one after the other; `codes` I32, the nodes' one
after the other. `trees.nodes` and `nodes.codes` count what follows.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.tensors import Blob, Layout, encode_numpy

__all__ = ["LEAF", "MAX_DEPTH", "Ensemble", "Objective", "Tree", "decode", "encode", "feature_columns", "feature_sizes"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Booleans = npt.NDArray[np.bool_]

LEAF: Final = -1
MAX_DEPTH: Final = 64
_VERSION: Final = 1
_NODE_ARRAYS: Final = {
    "feature": "I32",
    "threshold": "F32",
    "default_left": "BOOL",
    "value": "F32",
    "gain": "F32",
    "cover": "F32",
}
_TENSORS: Final[Mapping[str, tuple[str, int]]] = {
    "ensemble.version": ("I32", 0),
    "ensemble.objective": ("I32", 0),
    "ensemble.base": ("F32", 1),
    "ensemble.sizes": ("I32", 1),
    "trees.output": ("I32", 1),
    "trees.nodes": ("I32", 1),
    **{f"nodes.{name}": (dtype, 1) for name, dtype in _NODE_ARRAYS.items()},
    "nodes.codes": ("I32", 1),
    "codes": ("I32", 1),
}
"""Element type and dimensions of every tensor."""


class Objective(enum.StrEnum):
    """The loss that the trees lower, by XGBoost's names; it says what margins mean."""

    SQUARED_ERROR = "reg:squarederror"
    LOGISTIC = "binary:logistic"
    SOFTMAX = "multi:softprob"


_OBJECTIVES: Final = tuple(Objective)
"""By their number in a blob."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
    """One tree, its nodes in level order; all arrays are [nodes].

    Number splits: a row goes left where its number is below `threshold`. Category splits: it goes right where its code
    is in `right_codes` of the node, and has a threshold of 0. Where its value is missing it goes the way that
    `default_left` says. `feature` is `LEAF` at a leaf. `value` is what a leaf adds to the margin of `output`, shrunk by
    the learning rate; at an inner node, what it would add as a leaf. `gain` is the loss reduction of a split (Chen &
    Guestrin 2016, eq. 7), `cover` the sum of Hessians of the rows that came by. Raises `BadInput` for what is no tree.
    """

    feature: Integers
    threshold: Floats
    default_left: Booleans
    value: Floats
    gain: Floats
    cover: Floats
    right_codes: Mapping[int, Integers] = dataclasses.field(default_factory=dict)
    output: int = 0

    def __post_init__(self) -> None:
        if any(getattr(self, name).shape != self.feature.shape for name in _NODE_ARRAYS) or self.feature.ndim != 1:
            raise _bad("has node arrays of several lengths", "lengths")
        splits = self.feature != LEAF
        if (self.feature < LEAF).any():
            raise _bad("splits by a feature below 0", "feature", int(self.feature.min()))
        if len(self.feature) != 2 * int(splits.sum()) + 1 or (self.left[splits] <= np.flatnonzero(splits)).any():
            raise _bad("has nodes that are not one tree in level order", "shape", len(self.feature))
        if self.depth > MAX_DEPTH:
            raise _bad("is too deep", "depth", self.depth, MAX_DEPTH)
        if not all(np.isfinite(array).all() for array in (self.threshold, self.value, self.gain, self.cover)):
            raise _bad("has a number that is not finite", "not_finite")
        by_code = np.isin(np.arange(len(self.feature)), list(self.right_codes))
        if (
            by_code.sum() != len(self.right_codes)
            or (by_code & ~splits).any()
            or self.threshold[by_code | ~splits].any()
        ):
            raise _bad("has a threshold or codes where no split reads them", "idle")
        if self.gain[~splits].any() or self.default_left[~splits].any() or (self.cover < 0).any():
            raise _bad("has a leaf with a split's gain or direction, or a cover below 0", "idle")
        for codes in self.right_codes.values():
            if len(codes) == 0 or codes[0] < 0 or (np.diff(codes) <= 0).any():
                raise _bad("has codes that do not ascend, or a split without any", "codes")

    @cached_property
    def left(self) -> Integers:
        """Each node's left child, its right one being the next; `LEAF` at a leaf."""
        splits = self.feature != LEAF
        return np.where(splits, 2 * np.cumsum(splits) - 1, LEAF).astype(np.int32)

    @cached_property
    def levels(self) -> tuple[slice, ...]:
        """The nodes of each level, the root's first."""
        found, start, stop = [], 0, 1
        while start < stop:
            found.append(slice(start, stop))
            start, stop = stop, stop + 2 * int((self.feature[start:stop] != LEAF).sum())
        return tuple(found)

    @property
    def depth(self) -> int:
        """Splits on the longest way to a leaf."""
        return len(self.levels) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Trees that add up: margin of each output = `base` + the values of the leaves that a row comes to.

    `base` [outputs]: one output, or with softmax one a class. `sizes` [features]: how many codes a category has, 0 for
    a number. Features are the schema's numbers, then its categories. Raises `BadInput` where trees do not fit them.
    """

    objective: Objective
    base: Floats
    sizes: Integers
    trees: tuple[Tree, ...] = ()

    def __post_init__(self) -> None:
        outputs = len(self.base)
        if outputs < 1 or (outputs > 1) != (self.objective is Objective.SOFTMAX):
            raise _bad("has outputs that are not its objective's", "outputs", outputs, self.objective)
        if not np.isfinite(self.base).all():
            raise _bad("has a number that is not finite", "not_finite")
        if (self.sizes < 0).any():
            raise _bad("has a category of less than no values", "sizes", int(self.sizes.min()))
        for tree in self.trees:
            self._check(tree)

    def _check(self, tree: Tree) -> None:
        if not 0 <= tree.output < len(self.base):
            raise _bad("adds to an output that is not there", "outputs", tree.output, len(self.base))
        if tree.feature.max() >= len(self.sizes):
            raise _bad("splits by a feature that is not there", "feature", int(tree.feature.max()), len(self.sizes) - 1)
        splits = np.flatnonzero(tree.feature != LEAF)
        for node in splits[self.sizes[tree.feature[splits]] > 0]:
            codes, size = tree.right_codes.get(int(node)), int(self.sizes[tree.feature[node]])
            if codes is None or codes[-1] >= size:
                raise _bad("splits a category by codes that it does not have", "codes", limit=size - 1)
        for node in tree.right_codes:
            if self.sizes[tree.feature[node]] == 0:
                raise _bad("splits a number by codes", "codes", int(tree.feature[node]))


def feature_columns(schema: Schema) -> tuple[Number | Category, ...]:
    """What the features are, in their order."""
    return (*schema.numbers, *schema.categories)


def feature_sizes(schema: Schema) -> Integers:
    """`Ensemble.sizes` of a schema's columns."""
    columns = feature_columns(schema)
    return np.array([len(column.values) if isinstance(column, Category) else 0 for column in columns], dtype=np.int32)


def encode(ensemble: Ensemble) -> bytes:
    """The ensemble's canonical blob: equal ensembles have equal bytes."""
    trees = ensemble.trees
    codes = [tree.right_codes[node] for tree in trees for node in sorted(tree.right_codes)]
    arrays: dict[str, npt.NDArray[Any]] = {
        "ensemble.version": np.array(_VERSION, np.int32),
        "ensemble.objective": np.array(_OBJECTIVES.index(ensemble.objective), np.int32),
        "ensemble.base": ensemble.base,
        "ensemble.sizes": ensemble.sizes,
        "trees.output": np.array([tree.output for tree in trees], np.int32),
        "trees.nodes": np.array([len(tree.feature) for tree in trees], np.int32),
        "nodes.codes": _joined([_code_counts(tree) for tree in trees], np.int32),
        "codes": _joined(codes, np.int32),
    }
    for name, dtype in {"feature": np.int32, "default_left": np.bool_}.items():
        arrays[f"nodes.{name}"] = _joined([getattr(tree, name) for tree in trees], dtype)
    for name in ("threshold", "value", "gain", "cover"):
        arrays[f"nodes.{name}"] = _joined([getattr(tree, name) for tree in trees], np.float32)
    return encode_numpy(arrays)


def is_ensemble(layout: Layout) -> bool:
    """Whether a blob has the tensors of trees, whatever they hold."""
    return _dimensions(layout) == _TENSORS


def _dimensions(layout: Layout) -> dict[str, tuple[str, int]]:
    return {name: (dtype, len(shape)) for name, (dtype, shape) in layout.shapes().items()}


def decode(blob: Blob) -> Ensemble:
    """The ensemble of a blob, over its bytes; raises `BadInput` for whatever `encode` would not have written."""
    if not is_ensemble(blob.layout):
        found = _dimensions(blob.layout)
        odd = sorted(name for name in found.keys() | _TENSORS.keys() if found.get(name) != _TENSORS.get(name))
        raise _bad("is not made of the tensors of trees", "tensors", ", ".join(odd[:5]))
    arrays = blob.arrays()
    if (version := int(arrays["ensemble.version"])) != _VERSION:
        raise _bad("is of a version that is not known here", "version", version, _VERSION)
    if not 0 <= (number := int(arrays["ensemble.objective"])) < len(_OBJECTIVES):
        raise _bad("has an objective that is not known here", "objective", number, len(_OBJECTIVES) - 1)
    if bytes(blob.raw("nodes.default_left")).strip(b"\0\1"):
        raise _bad("has a truth value that is neither 0 nor 1", "truth")
    return Ensemble(_OBJECTIVES[number], arrays["ensemble.base"], arrays["ensemble.sizes"], tuple(_trees(arrays)))


def _trees(arrays: Mapping[str, npt.NDArray[Any]]) -> list[Tree]:
    counts, outputs, code_counts = arrays["trees.nodes"], arrays["trees.output"], arrays["nodes.codes"]
    if len(counts) != len(outputs) or (counts < 1).any() or (code_counts < 0).any():
        raise _bad("has counts that are not those of trees", "lengths")
    ends, code_ends = np.cumsum(counts, dtype=np.int64), np.cumsum(code_counts, dtype=np.int64)
    wanted = {f"nodes.{name}": int(ends[-1]) if len(ends) else 0 for name in (*_NODE_ARRAYS, "codes")}
    wanted["codes"] = int(code_ends[-1]) if len(code_ends) else 0
    for name, length in wanted.items():
        if len(arrays[name]) != length:
            raise _bad(
                f"has {name!r} of a length that is not the sum of its parts", "lengths", len(arrays[name]), length
            )
    trees = []
    for start, stop, output in zip(ends - counts, ends, outputs, strict=True):
        nodes = {name: arrays[f"nodes.{name}"][start:stop] for name in _NODE_ARRAYS}
        codes = {
            int(node - start): arrays["codes"][code_ends[node] - code_counts[node] : code_ends[node]]
            for node in start + np.flatnonzero(code_counts[start:stop])
        }
        trees.append(Tree(**nodes, right_codes=codes, output=int(output)))
    return trees


def _code_counts(tree: Tree) -> Integers:
    counts = np.zeros(len(tree.feature), dtype=np.int32)
    for node, codes in tree.right_codes.items():
        counts[node] = len(codes)
    return counts


def _joined(parts: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts], dtype=dtype)


def _bad(what: str, code: str, value: object = None, limit: object = None) -> BadInput:
    return BadInput(
        f"the model of trees {what}",
        code=f"trees.{code}",
        value=value,
        limit=limit,
        cure="Write it with aimass.proto.trees.",
    )
