"""The map over two features: cells hold their rows, and the surface is the model's own mean."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.explain.models import model_of_function
from aimass.explain.prim import PrimOptions, explain
from aimass.explain.prim.cells import cell_means, telling, telling_pair
from aimass.explain.prim.map_view import BandMap
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from tests.explain.federated.hospitals import heart
from tests.explain.prim.wards import wards


def test_cells_hold_the_mean_of_their_rows_and_rows_with_a_missing_cell_lie_nowhere() -> None:
    pair = np.array([[0.1, 0.1], [0.2, 0.3], [0.9, 0.1], [1.0, 1.0], [np.nan, 0.5]])
    edges = np.array([0.0, 0.5, 1.0])
    counts, means = cell_means(pair, np.array([1.0, 3.0, 5.0, 7.0, 9.0]), edges, edges)
    np.testing.assert_array_equal(counts, [[2, 1], [0, 1]])
    np.testing.assert_array_equal(means, [[2.0, 5.0], [np.nan, 7.0]])


def test_the_surface_of_a_sum_is_the_sum_at_the_middles_and_the_mean_of_the_rest() -> None:
    values = np.random.default_rng(0).normal(size=(80, 3))
    model = model_of_function(lambda cells: 2 * cells[:, 0] - cells[:, 1] + 0.1 * cells[:, 2], ["a", "b", "c"])
    found = explain(model, Rows.of(values, ["a", "b", "c"]), PrimOptions(x="a", y="b", grid=5)).map
    x, y = ((edges[1:] + edges[:-1]) / 2 for edges in (found.x_edges, found.y_edges))
    expected = 2 * x[None, :] - y[:, None] + 0.1 * values[:, 2].mean()
    np.testing.assert_allclose(found.surface, expected, atol=1e-9)


def test_the_features_that_tell_most_are_chosen_whatever_their_order_and_units() -> None:
    values = np.random.default_rng(2).normal(size=(500, 4))
    model = model_of_function(lambda cells: 3 * cells[:, 3] + cells[:, 1], list("abcd"))
    found = explain(model, Rows.of(values, list("abcd")), PrimOptions(grid=3)).map
    assert (found.x.name, found.y.name) == ("d", "b")
    assert telling(values[:, 3], values[:, 3]) == pytest.approx(telling(1000 * values[:, 3], values[:, 3]))
    assert explain(model, Rows.of(values, list("abcd")), PrimOptions(y="d", grid=3)).map.x.name == "b"
    assert telling(np.full(5, 1.0), np.arange(5.0)) == 0.0
    assert telling(np.full(5, np.nan), np.arange(5.0)) == 0.0


def test_one_feature_and_a_constant_one_make_a_map_without_an_error() -> None:
    found = explain(model_of_function(lambda cells: cells[:, 0], ["a"]), Rows.of(np.ones((5, 1)), ["a"])).map
    assert found.counts.sum() == 5
    assert (found.x.name, found.y.name) == ("a", "a")


def test_categories_are_cells_and_so_are_those_that_are_missing() -> None:
    features = (Feature(name="sex", kind="category", values=("Female", "Male")), Feature(name="age", unit="years"))
    values = np.array([[0.0, 50], [1, 60], [np.nan, 55], [1, 70]])
    model = model_of_function(lambda cells: np.nan_to_num(cells[:, 0]) / 2, features, ("no", "yes"))
    found = explain(model, Rows(features, values), PrimOptions(x="sex", y="age", grid=2)).map
    np.testing.assert_array_equal(found.counts, [[1, 0, 1], [0, 2, 0]])
    np.testing.assert_allclose(found.surface, [[0, 0.5, 0]] * 2)
    turned = explain(model, Rows(features, values[:, ::-1][:, ::-1]), PrimOptions(x="age", y="sex", grid=2)).map
    np.testing.assert_array_equal(turned.counts, found.counts.T)
    assert "sex is Male and age is 60 to 70 years (50 % over 2 rows)" in found.describe()[0]
    found.to_svg()
    assert found.to_columns()["sex"][1] == "sex is Male"


def test_a_map_is_the_same_for_the_same_seed_in_any_chunks_and_comes_back_from_json() -> None:
    options = PrimOptions(x="age", y="thalch", grid=6)
    first = explain(heart(), wards(), options, Work(seed=4)).map
    assert explain(heart(), wards(), options, Work(seed=4, workers=2, memory_bytes=1 << 20)).map == first
    assert explain(heart(), wards(), options, Work(seed=5)).map != first
    assert BandMap.from_json(first.to_json()) == first
    assert first.counts.sum() == len(first.points) < 920


def test_more_rows_than_a_browser_takes_are_cells() -> None:
    values = np.random.default_rng(0).random((6000, 2))
    model = model_of_function(lambda cells: cells[:, 0], ["a", "b"], ("no", "yes"))
    found = explain(model, Rows.of(values, ["a", "b"]), PrimOptions(grid=4)).map
    assert len(found.points) == 0
    assert found.counts.sum() == 6000
    assert found.picture().numbers() < 200


def test_a_cell_of_one_row_is_not_told_as_the_highest_where_others_hold_more() -> None:
    values = np.array([[0.0, 0.0]] * 5 + [[1.0, 0.0]] * 6 + [[1.0, 1.0]])
    model = model_of_function(lambda cells: (cells[:, 0] / 2 + cells[:, 1] / 2).clip(0, 1), ["a", "b"], ("no", "yes"))
    said = explain(model, Rows.of(values, ["a", "b"]), PrimOptions(x="a", y="b", grid=2)).map.describe()
    assert "(50 % over 6 rows) and lowest" in said[0]
    one = explain(model, Rows.of(values[-1:], ["a", "b"]), PrimOptions(x="a", y="b", grid=2)).map.describe()
    assert "(100 % over 1 row)" in one[0]


def test_a_number_of_each_patient_is_put_on_no_map_unasked() -> None:
    names = tuple(f"p{place}" for place in range(300))
    features = (Feature(name="patient", kind="category", values=names), Feature(name="age"))
    rows = Rows(features, np.stack([np.arange(300.0), np.arange(300.0) % 7], axis=1))
    assert telling_pair(rows, np.arange(300.0)) == (1, 1)
    assert telling_pair(rows, np.arange(300.0), x="patient") == (0, 1)
    assert telling_pair(Rows(features[:1], rows.values[:, :1]), np.arange(300.0)) == (0, 0)


def test_dots_are_rounded_and_keep_their_band_unless_rows_are_asked_for() -> None:
    values = np.random.default_rng(1).random((300, 2))
    model = model_of_function(lambda cells: cells[:, 0], ["a", "b"], ("no", "yes"))
    rows, options = Rows.of(values, ["a", "b"]), PrimOptions(x="a", y="b", grid=4)
    found, exact = (
        explain(model, rows, options).map,
        explain(model, rows, msgspec.structs.replace(options, with_rows=True)).map,
    )
    assert set(map(tuple, exact.points[:, :2])) == set(map(tuple, values))
    assert not set(found.points.ravel().tolist()) & set(values.ravel().tolist())
    assert len(np.unique(found.points[:, 0])) <= 60
    bands = [np.bincount(np.searchsorted(one.thresholds, one.points[:, 2], side="right")) for one in (found, exact)]
    np.testing.assert_array_equal(bands[0], bands[1])
    assert "300 single rows stand in it, rounded" in " ".join(found.warnings())
    assert found.rows_held == 300
    assert "<svg" in found.to_svg()
