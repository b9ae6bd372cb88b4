"""Boosted trees as ONNX: one `TreeEnsembleRegressor` (ai.onnx.ml, version 3) and what its margins mean.

A split by a set of categories is a chain of comparisons with one category each, all of which lead to the same child:
what runtimes read alike. The newer `TreeEnsemble` has sets, and onnxruntime 1.21 and 1.22 answer it wrongly.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np

from aimass.proto.trees import LEAF, Ensemble, Objective, Tree

if TYPE_CHECKING:
    import onnx

__all__ = ["tree_model"]

_ML: Final = 3
_IR: Final = 9
"""The file format of the time of opset 20."""


def tree_model(ensemble: Ensemble, opset: int) -> onnx.ModelProto:
    """`features` float32 [rows, features], NaN where missing, to `probabilities` or `prediction` in float64.

    Features are the schema's numbers, then its categories by code. Margins add up in float32, as onnxruntime has it.
    """
    from onnx import TensorProto, helper  # noqa: PLC0415  (whoever exports no ONNX needs none)

    features, outputs = len(ensemble.sizes), len(ensemble.base)
    said, last = _meaning(ensemble.objective)
    labels = 2 if ensemble.objective is Objective.LOGISTIC else outputs
    attributes = _nodes(ensemble).attributes(outputs)
    graph = helper.make_graph(
        [
            helper.make_node("TreeEnsembleRegressor", ["features"], ["sums"], domain="ai.onnx.ml", **attributes),
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


def _nodes(ensemble: Ensemble) -> _Nodes:
    """The base as a tree of one leaf for each output, then the trees."""
    nodes = _Nodes()
    for output, value in enumerate(ensemble.base.tolist()):
        nodes.begin()
        nodes.leaf(0, output, value)
    for tree in ensemble.trees:
        nodes.begin()
        _add(nodes, tree, ensemble.sizes)
    return nodes


def _add(nodes: _Nodes, tree: Tree, sizes: np.ndarray) -> None:
    """A tree under its own numbers of nodes; what a chain needs beyond its first comparison comes after them."""
    spare = len(tree.feature)
    for node, feature in enumerate(tree.feature.tolist()):
        left, default_left = int(tree.left[node]), bool(tree.default_left[node])
        if feature == LEAF:
            nodes.leaf(node, tree.output, float(tree.value[node]))
        elif (codes := tree.right_codes.get(node)) is None:
            nodes.split(node, feature, "BRANCH_LT", float(tree.threshold[node]), (left, left + 1), default_left)
        else:
            right = set(codes.tolist())
            others = set(range(int(sizes[feature]))) - right
            listed, yes, no = right, left + 1, left
            if 0 < len(others) < len(right):  # the shorter chain; one of no comparison would be no split
                listed, yes, no = others, left, left + 1
            missing_yes = default_left == (yes == left)
            places = [node, *range(spare, spare + len(listed) - 1)]
            spare += len(listed) - 1
            for code, place, after in zip(sorted(listed), places, [*places[1:], no], strict=True):
                nodes.split(place, feature, "BRANCH_EQ", float(code), (yes, after), missing_yes)


@dataclasses.dataclass(slots=True)
class _Nodes:
    """Splits and leaves of all trees, one after the other, as the operator takes them."""

    trees: int = 0
    tree: list[int] = dataclasses.field(default_factory=list)
    node: list[int] = dataclasses.field(default_factory=list)
    feature: list[int] = dataclasses.field(default_factory=list)
    mode: list[str] = dataclasses.field(default_factory=list)
    value: list[float] = dataclasses.field(default_factory=list)
    yes: list[int] = dataclasses.field(default_factory=list)
    no: list[int] = dataclasses.field(default_factory=list)
    missing_yes: list[int] = dataclasses.field(default_factory=list)
    leaves: list[tuple[int, int, int, float]] = dataclasses.field(default_factory=list)

    def begin(self) -> None:
        """Another tree."""
        self.trees += 1

    def split(self, node: int, feature: int, mode: str, value: float, ways: tuple[int, int], missing_yes: bool) -> None:
        """A node that sends rows whose feature compares with `value` the first of two `ways`, others the second."""
        self.tree.append(self.trees - 1)
        self.node.append(node)
        self.feature.append(feature)
        self.mode.append(mode)
        self.value.append(value)
        self.yes.append(ways[0])
        self.no.append(ways[1])
        self.missing_yes.append(int(missing_yes))

    def leaf(self, node: int, output: int, weight: float) -> None:
        """A node that adds `weight` to the margin of `output`."""
        self.split(node, 0, "LEAF", 0.0, (0, 0), missing_yes=False)
        self.leaves.append((self.trees - 1, node, output, weight))

    def attributes(self, outputs: int) -> dict[str, object]:
        """As the operator calls them."""
        trees, nodes, targets, weights = zip(*self.leaves, strict=True)
        return {
            "nodes_treeids": self.tree,
            "nodes_nodeids": self.node,
            "nodes_featureids": self.feature,
            "nodes_modes": self.mode,
            "nodes_values": self.value,
            "nodes_truenodeids": self.yes,
            "nodes_falsenodeids": self.no,
            "nodes_missing_value_tracks_true": self.missing_yes,
            "target_treeids": list(trees),
            "target_nodeids": list(nodes),
            "target_ids": list(targets),
            "target_weights": list(weights),
            "n_targets": outputs,
            "aggregate_function": "SUM",
            "post_transform": "NONE",
        }
