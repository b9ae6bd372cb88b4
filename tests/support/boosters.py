"""XGBoost beside our trees: rows as it takes them, and its own model read into arrays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xgboost

from aimass.proto.manifest import Schema
from aimass.proto.trees import LEAF, Ensemble, Objective, Tree, feature_columns, feature_sizes


def matrix_of(schema: Schema, rows: np.ndarray, labels: np.ndarray | None = None) -> xgboost.DMatrix:
    """Rows of `tree_scores.features` with the schema's names."""
    return xgboost.DMatrix(
        rows,
        label=labels,
        feature_names=[column.name for column in feature_columns(schema)],
        feature_types=["c" if size else "float" for size in feature_sizes(schema)],
        enable_categorical=True,
    )


def ensemble_of(booster: xgboost.Booster, schema: Schema) -> Ensemble:
    """The trees of a booster of XGBoost 3.1 or newer, whose `base_score` has a number for each output."""
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective = Objective(learner["objective"]["name"])
    base = np.array(json.loads(learner["learner_model_param"]["base_score"]), np.float32)
    if objective is Objective.LOGISTIC:
        base = np.log(base / (1 - base))
    model = learner["gradient_booster"]["model"]
    trees = tuple(_tree(tree, output) for tree, output in zip(model["trees"], model["tree_info"], strict=True))
    return Ensemble(objective, base, feature_sizes(schema), trees)


def _tree(tree: dict[str, Any], output: int) -> Tree:
    left = np.array(tree["left_children"])
    leaf, by_code = left == LEAF, np.array(tree["split_type"], bool)
    condition = np.array(tree["split_conditions"], np.float32)
    ends = np.cumsum(tree["categories_sizes"], dtype=int)
    made = Tree(
        feature=np.where(leaf, LEAF, tree["split_indices"]).astype(np.int32),
        threshold=np.where(leaf | by_code, np.float32(0), condition),
        default_left=~leaf & np.array(tree["default_left"], bool),
        value=np.where(leaf, condition, np.array(tree["base_weights"], np.float32)),
        gain=np.array(tree["loss_changes"], np.float32),
        cover=np.array(tree["sum_hessian"], np.float32),
        right_codes={
            node: np.array(tree["categories"][start:stop], np.int32)
            for node, start, stop in zip(tree["categories_nodes"], ends - tree["categories_sizes"], ends, strict=True)
        },
        output=output,
    )
    np.testing.assert_array_equal(made.left, left)
    return made
