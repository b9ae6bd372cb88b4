"""Trees in XGBoost's JSON, against XGBoost itself: it says of rows what we say, and we what it says of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.client.tasks.adult import trees as adult
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.rows import encode as encode_rows
from aimass.proto.rows import read_table, require
from aimass.proto.tree_scores import features, leaves, margins, predictions
from aimass.proto.tree_xgboost import xgboost_json
from aimass.proto.trees import Ensemble, Objective
from tests.support.boosters import ensemble_of, matrix_of
from tests.support.datasets import dataset
from tests.support.drawn_trees import drawn_ensemble, drawn_rows

SCHEMA = Schema(
    name="drawn/1",
    columns=(
        *(Number(name=name, minimum=0, maximum=1) for name in ("a", "b b", "c.c")),
        *(Category(name=f"k{size}", values=tuple(map(str, range(size)))) for size in (2, 7, 1)),
    ),
    label=Category(name="y", values=("no", "yes")),
)
LOSSES = {Objective.SQUARED_ERROR: 2, Objective.LOGISTIC: 2, Objective.SOFTMAX: 3}


def loaded(ensemble: Ensemble, schema: Schema = SCHEMA) -> xgboost.Booster:
    return xgboost.Booster({"nthread": 1}, model_file=bytearray(xgboost_json(ensemble, schema)))


def dyadic(ensemble: Ensemble) -> Ensemble:
    """The same with values whose sums are exact in float32, so that nothing hides behind rounding."""

    def rounded(numbers: np.ndarray) -> np.ndarray:
        return np.round(numbers * 1024).astype(np.float32) / np.float32(1024)

    trees = tuple(dataclasses.replace(tree, value=rounded(tree.value)) for tree in ensemble.trees)
    return Ensemble(ensemble.objective, rounded(ensemble.base), ensemble.sizes, trees)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(Objective), st.integers(0, 7), st.integers(0, 6))
def test_xgboost_says_of_rows_what_we_say(seed: int, objective: Objective, trees: int, depth: int) -> None:
    ensemble = dyadic(drawn_ensemble(seed, objective, trees, depth))
    rows, booster = drawn_rows(seed, ensemble.sizes, 200), loaded(ensemble)
    matrix, ours = matrix_of(SCHEMA, rows), margins(ensemble, rows)
    np.testing.assert_array_equal(booster.predict(matrix, output_margin=True).reshape(ours.shape), ours)
    chances = predictions(objective, ours)
    np.testing.assert_allclose(
        booster.predict(matrix).reshape(ours.shape), chances[:, -ours.shape[1] :], rtol=1e-5, atol=1e-6
    )


def test_a_base_that_no_probability_holds_in_float32_is_exported_as_it_is() -> None:
    stump = drawn_ensemble(1, trees=1, depth=0)
    ensemble = dyadic(Ensemble(stump.objective, np.array([14.5], np.float32), stump.sizes, stump.trees))
    rows = drawn_rows(1, ensemble.sizes, 1)
    assert loaded(ensemble).predict(matrix_of(SCHEMA, rows), output_margin=True) == margins(ensemble, rows)


def test_xgboost_writes_what_it_read_and_ends_rows_at_the_same_leaves() -> None:
    ensemble = drawn_ensemble(9, Objective.SOFTMAX, 6)
    rows, booster = drawn_rows(9, ensemble.sizes, 300), loaded(ensemble)
    again = ensemble_of(booster, SCHEMA)
    assert again.base.tolist() == [0, 0, 0]
    for tree, expected in zip(again.trees[3:], ensemble.trees, strict=True):
        for name in ("feature", "threshold", "default_left", "value", "gain", "cover"):
            np.testing.assert_array_equal(getattr(tree, name), getattr(expected, name))
    np.testing.assert_array_equal(
        booster.predict(matrix_of(SCHEMA, rows), pred_leaf=True).T[3:], leaves(ensemble, rows)
    )


def census() -> tuple[np.ndarray, np.ndarray]:
    with (dataset("adult") / "test.parquet").open("rb") as file:
        batch = encode_rows(require(read_table(adult.schema, [file], "parquet")))
    return features(batch), batch.labels


def by_decade(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Three classes of age and income."""
    return np.where(rows[:, 0] < 30, 0, 1 + labels)


@pytest.mark.parametrize(
    ("objective", "target"),
    [
        (Objective.LOGISTIC, lambda labels, rows: labels),
        (Objective.SQUARED_ERROR, lambda labels, rows: rows[:, 0] / 10 + labels),
        (Objective.SOFTMAX, by_decade),
    ],
)
def test_we_say_of_rows_what_xgboost_says_with_trees_that_it_grew(
    objective: Objective, target: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    """Adult: missing values, numbers, and categories of two to forty-one values."""
    rows, labels = census()
    options = {
        "objective": objective.value,
        "tree_method": "hist",
        "max_depth": 6,
        "nthread": 1,
        "max_cat_to_onehot": 4,
    }
    classes = {"num_class": 3} if objective is Objective.SOFTMAX else {}
    matrix = matrix_of(adult.schema, rows, target(labels, rows))
    booster = xgboost.train(options | classes, matrix, 15)
    ensemble = ensemble_of(booster, adult.schema)
    assert sum(len(codes) > 1 for tree in ensemble.trees for codes in tree.right_codes.values()) > 10
    ours, theirs = margins(ensemble, rows), booster.predict(matrix, output_margin=True).reshape(len(rows), -1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)
    exported = loaded(ensemble, adult.schema).predict(matrix, output_margin=True).reshape(len(rows), -1)
    np.testing.assert_allclose(exported, ours, rtol=1e-6, atol=2e-6)


def test_the_file_is_what_xgboost_loads_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(xgboost_json(drawn_ensemble(2), SCHEMA))
    booster = xgboost.Booster(model_file=path)
    assert booster.feature_names == ["a", "b b", "c.c", "k2", "k7", "k1"]
    assert booster.num_boosted_rounds() == 6
