"""Boosted trees as ONNX: one `TreeEnsemble` (ai.onnx.ml, version 5) and what its margins mean.

A category's split is the operator's set membership, so that a file has as many nodes as the trees have splits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np

from aimass.proto.trees import LEAF, Ensemble, Objective, Tree

if TYPE_CHECKING:
    import onnx

__all__ = ["tree_model"]

_ML: Final = 5
_IR: Final = 10
"""The file format that came with opset 20's successors; what reads the opset reads it."""
_BRANCH_LEQ, _BRANCH_LT, _BRANCH_MEMBER = 0, 1, 6
_SUM, _NONE = 1, 0


def tree_model(ensemble: Ensemble, opset: int) -> onnx.ModelProto:
    """`features` float32 [rows, features], NaN where missing, to `probabilities` or `prediction` in float64.

    Features are the schema's numbers, then its categories by code. Margins add up in float32, as onnxruntime has it.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415  (whoever exports no ONNX needs none)

    features, outputs = len(ensemble.sizes), len(ensemble.base)
    said, last = _meaning(ensemble.objective)
    labels = {Objective.LOGISTIC: 2}.get(ensemble.objective, outputs)
    graph = helper.make_graph(
        [
            helper.make_node("TreeEnsemble", ["features"], ["sums"], domain="ai.onnx.ml", **_attributes(ensemble)),
            helper.make_node("Cast", ["sums"], ["margins"], to=TensorProto.DOUBLE),
            *said,
        ],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info(last, TensorProto.DOUBLE, ["rows", labels])],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", _ML)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR)


def _meaning(objective: Objective) -> tuple[list[onnx.NodeProto], str]:
    """From `margins` to what they say, and its name."""
    from onnx import helper  # noqa: PLC0415

    match objective:
        case Objective.SQUARED_ERROR:
            return [helper.make_node("Identity", ["margins"], ["prediction"])], "prediction"
        case Objective.LOGISTIC:
            sides = [
                helper.make_node("Neg", ["margins"], ["against"]),
                helper.make_node("Concat", ["against", "margins"], ["sides"], axis=1),
                helper.make_node("Sigmoid", ["sides"], ["probabilities"]),
            ]
            return sides, "probabilities"
        case Objective.SOFTMAX:
            return [helper.make_node("Softmax", ["margins"], ["probabilities"], axis=1)], "probabilities"


@dataclasses.dataclass(slots=True)
class _Nodes:
    """Splits and leaves of all trees, one after the other, as the operator takes them."""

    roots: list[int] = dataclasses.field(default_factory=list)
    feature: list[int] = dataclasses.field(default_factory=list)
    mode: list[int] = dataclasses.field(default_factory=list)
    split: list[float] = dataclasses.field(default_factory=list)
    missing_true: list[int] = dataclasses.field(default_factory=list)
    ways: tuple[list[int], list[int]] = dataclasses.field(default_factory=lambda: ([], []))
    to_leaf: tuple[list[int], list[int]] = dataclasses.field(default_factory=lambda: ([], []))
    members: list[float] = dataclasses.field(default_factory=list)
    output: list[int] = dataclasses.field(default_factory=list)
    weight: list[float] = dataclasses.field(default_factory=list)

    def add(self, tree: Tree) -> None:
        """Number a tree's splits and leaves in level order, after those that are there."""
        leaf = tree.feature == LEAF
        place = np.where(leaf, np.cumsum(leaf) - 1 + len(self.weight), np.cumsum(~leaf) - 1 + len(self.feature))
        self.roots.append(len(self.feature))
        for node in np.flatnonzero(~leaf):
            codes = tree.right_codes.get(int(node))
            left = int(tree.left[node])
            # True goes left of a threshold, and right of a set of codes.
            children = (left, left + 1) if codes is None else (left + 1, left)
            self._way(children, place, leaf)
            self.feature.append(int(tree.feature[node]))
            self.mode.append(_BRANCH_LT if codes is None else _BRANCH_MEMBER)
            self.split.append(float(tree.threshold[node]) if codes is None else 0.0)
            self.missing_true.append(int(bool(tree.default_left[node]) == (codes is None)))
            if codes is not None:
                self.members += [*map(float, codes), math.nan]
        self.output += [tree.output] * int(leaf.sum())
        self.weight += tree.value[leaf].tolist()

    def add_constant(self, output: int, value: float) -> None:
        """A tree of one leaf: a split, which the operator wants, whose two ways lead there."""
        self.roots.append(len(self.feature))
        for way, leaf in zip(self.ways, self.to_leaf, strict=True):
            way.append(len(self.weight))
            leaf.append(1)
        self.feature.append(0)
        self.mode.append(_BRANCH_LEQ)
        self.split.append(0.0)
        self.missing_true.append(0)
        self.output.append(output)
        self.weight.append(value)

    def _way(self, children: Iterable[int], place: np.ndarray, leaf: np.ndarray) -> None:
        for way, to_leaf, child in zip(self.ways, self.to_leaf, children, strict=True):
            way.append(int(place[child]))
            to_leaf.append(int(leaf[child]))


def _attributes(ensemble: Ensemble) -> dict[str, object]:
    """The operator's attributes: the base as a leaf of its own for each output, then the trees."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    nodes = _Nodes()
    for output, value in enumerate(ensemble.base.tolist()):
        nodes.add_constant(output, value)
    for tree in ensemble.trees:
        if tree.depth:
            nodes.add(tree)
        else:
            nodes.add_constant(tree.output, float(tree.value[0]))
    attributes = {
        "tree_roots": nodes.roots,
        "n_targets": len(ensemble.base),
        "nodes_featureids": nodes.feature,
        "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [len(nodes.mode)], nodes.mode),
        "nodes_splits": _floats("splits", nodes.split),
        "nodes_missing_value_tracks_true": nodes.missing_true,
        "nodes_truenodeids": nodes.ways[0],
        "nodes_falsenodeids": nodes.ways[1],
        "nodes_trueleafs": nodes.to_leaf[0],
        "nodes_falseleafs": nodes.to_leaf[1],
        "leaf_targetids": nodes.output,
        "leaf_weights": _floats("weights", nodes.weight),
        "aggregate_function": _SUM,
        "post_transform": _NONE,
    }
    return attributes | ({"membership_values": _floats("members", nodes.members)} if nodes.members else {})


def _floats(name: str, numbers: list[float]) -> onnx.TensorProto:
    from onnx import TensorProto, helper  # noqa: PLC0415

    return helper.make_tensor(name, TensorProto.FLOAT, [len(numbers)], numbers)
