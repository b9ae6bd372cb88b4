"""Boosted trees in the JSON that XGBoost loads: the same trees, categories and missing values.

The form is XGBoost's own schema (doc/model.schema in its sources). Its `base_score` is a probability under logistic
loss and one for all classes before 3.1, so what it holds is not every base margin. The base is therefore exported as
what it is, a first tree of one leaf for each output, and `base_score` says a margin of 0.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.manifest import Schema
from aimass.proto.trees import LEAF, Ensemble, Objective, Tree, feature_columns

__all__ = ["xgboost_json"]

_VERSION: Final = [2, 0, 0]
"""Whose form this is; later releases read it too (tried: 2.1 and 3.2)."""
_NO_PARENT: Final = 2**31 - 1
_MARGIN_ZERO: Final = {Objective.SQUARED_ERROR: "0E0", Objective.LOGISTIC: "5E-1", Objective.SOFTMAX: "0E0"}


def xgboost_json(ensemble: Ensemble, schema: Schema) -> bytes:
    """The file that `xgboost.Booster(model_file=...)` reads: features by the schema's names, categories by codes.

    Margins are this ensemble's up to the rounding of XGBoost's sums, which are float32.
    """
    outputs = len(ensemble.base)
    columns = feature_columns(schema)
    trees = [*_base(ensemble), *ensemble.trees]
    learner = {
        "attributes": {},
        "feature_names": [column.name for column in columns],
        "feature_types": ["c" if size else "float" for size in ensemble.sizes.tolist()],
        "gradient_booster": {
            "name": "gbtree",
            "model": {
                "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(len(trees))},
                "iteration_indptr": [*range(0, len(trees), outputs), len(trees)],
                "tree_info": [tree.output for tree in trees],
                "trees": [_tree(number, tree, len(columns)) for number, tree in enumerate(trees)],
            },
        },
        "learner_model_param": {
            "base_score": _MARGIN_ZERO[ensemble.objective],
            "boost_from_average": "0",
            "num_class": str(outputs if outputs > 1 else 0),
            "num_feature": str(len(columns)),
            "num_target": "1",
        },
        "objective": _objective(ensemble.objective, outputs),
    }
    return json.dumps({"learner": learner, "version": _VERSION}, separators=(",", ":")).encode()


def _base(ensemble: Ensemble) -> list[Tree]:
    if not ensemble.base.any():
        return []
    leaf, zero = np.array([LEAF], np.int32), np.zeros(1, np.float32)
    return [
        Tree(leaf, zero, np.zeros(1, bool), ensemble.base[output : output + 1], zero, zero, output=output)
        for output in range(len(ensemble.base))
    ]


def _objective(objective: Objective, outputs: int) -> dict[str, Any]:
    if objective is Objective.SOFTMAX:
        return {"name": objective.value, "softmax_multiclass_param": {"num_class": str(outputs)}}
    return {"name": objective.value, "reg_loss_param": {"scale_pos_weight": "1"}}


def _tree(number: int, tree: Tree, features: int) -> dict[str, Any]:
    """XGBoost too numbers nodes from the root on, and sends right the categories that it lists."""
    leaf = tree.feature == LEAF
    nodes = sorted(tree.right_codes)
    sizes = [len(tree.right_codes[node]) for node in nodes]
    parents = np.full(len(leaf), _NO_PARENT)
    for side in (0, 1):
        parents[tree.left[~leaf] + side] = np.flatnonzero(~leaf)
    return {
        "id": number,
        "tree_param": {
            "num_deleted": "0",
            "num_feature": str(features),
            "num_nodes": str(len(leaf)),
            "size_leaf_vector": "1",
        },
        "left_children": tree.left.tolist(),
        "right_children": np.where(leaf, LEAF, tree.left + 1).tolist(),
        "parents": parents.tolist(),
        "split_indices": np.where(leaf, 0, tree.feature).tolist(),
        "split_type": np.isin(np.arange(len(leaf)), nodes).astype(int).tolist(),
        "split_conditions": _shortest(np.where(leaf, tree.value, tree.threshold)),
        "default_left": tree.default_left.astype(int).tolist(),
        "base_weights": _shortest(tree.value),
        "loss_changes": _shortest(tree.gain),
        "sum_hessian": _shortest(tree.cover),
        "categories_nodes": nodes,
        "categories_segments": (np.cumsum(sizes, dtype=int) - sizes).tolist(),
        "categories_sizes": sizes,
        "categories": [int(code) for node in nodes for code in tree.right_codes[node]],
    }


def _shortest(numbers: npt.NDArray[np.float32]) -> list[float]:
    """The decimals of least length that are read as these float32."""
    return [float(str(number)) for number in numbers]
