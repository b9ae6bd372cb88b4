"""Accumulated local effects from sums: the very curve, and the very error, of the pooled rows over the same edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aimass.explain.federated import ale
from aimass.explain.federated.local_effects import of_category, of_number
from aimass.explain.federated.sums import Release, added
from aimass.explain.gap.ale import Curve, accumulated_local_effects, curve_of_steps
from aimass.explain.gap.effects import Effects
from aimass.explain.lineage import Lineage
from aimass.explain.means import student95
from aimass.explain.models import model_of_function
from aimass.explain.rows import Rows
from aimass.proto.errors import NotFound
from tests.explain.federated.hospitals import at, heart, hospitals, pooled
from tests.explain.federated.test_analyses import ask
from tests.explain.federated.together import together

QUESTION = ask({"steps": 8})
WEIGHTS = np.array([1.5, -1.0])


def told(release: Release | None = None) -> Effects:
    found = together(ale.analysis, QUESTION, at(hospitals()))
    return ale.analysis.read(QUESTION, found, Lineage(model="heart", partners=4), release or Release(partners=4))


def test_curves_of_numbers_are_those_of_the_pooled_rows() -> None:
    whole, model = pooled(hospitals()).rows, heart()
    numbers = [one for one in told().curves if one.feature.kind == "number"]
    assert len(numbers) == 6
    for one in numbers:
        column = whole.place(one.feature.name)
        if one.behind.min() == 0:
            continue
        same = accumulated_local_effects(model.predict, whole, column, 1, edges=one.at)
        np.testing.assert_allclose(one.value, same.value, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            one.high - one.low, 2 * student95(len(same.influence) - 1) * same.error, rtol=0, atol=1e-9
        )
        assert (one.change, one.change_high - one.change_low) == pytest.approx(
            (same.change, 2 * student95(len(same.influence) - 1) * same.change_error), abs=1e-9
        )
        np.testing.assert_array_equal(one.behind, same.behind)


def of_all_pairs(model_rows: Rows, column: int, order: npt.NDArray[np.float64]) -> Curve:
    """The pooled curve of a category whose values stand in the schema's order, as `gap.ale` has it."""
    known = model_rows.take(~np.isnan(model_rows.values[:, column])).values
    own = np.searchsorted(order, known[:, column])
    before, after = known.copy(), known.copy()
    before[:, column] = order[np.maximum(own - 1, 0)]
    after[:, column] = order[np.minimum(own + 1, len(order) - 1)]
    said = [heart().predict(values)[:, 1] for values in (before, known, after)]
    rise = np.stack([said[1] - said[0], said[2] - said[1]], axis=1)
    step = np.stack([own - 1, np.where(own + 1 < len(order), own, -1)], axis=1)
    return curve_of_steps(order, step, rise, own, np.zeros(len(own)))


def test_curves_of_categories_are_those_of_the_pooled_rows() -> None:
    whole = pooled(hospitals()).rows
    categories = [one for one in told().curves if one.feature.kind == "category"]
    assert len(categories) == 7
    for one in categories:
        same = of_all_pairs(whole, whole.place(one.feature.name), one.at)
        np.testing.assert_allclose(one.value, same.value, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            one.high - one.value, student95(len(same.influence) - 1) * same.error, rtol=0, atol=1e-9
        )
        assert one.change_high - one.change == pytest.approx(
            student95(len(same.influence) - 1) * same.change_error, abs=1e-9
        )


def test_the_slope_of_a_linear_model_is_its_weight() -> None:
    model = model_of_function(lambda values: values @ WEIGHTS, ["a", "b"])
    rng = np.random.default_rng(8)
    edges = np.stack([np.linspace(-4, 4, 9)] * 2)
    parts = [Rows.of(rng.normal(k - 1, 1, (400, 2)), ["a", "b"]) for k in range(3)]
    sums = added(ale.partial(model, part, edges, 0) for part in parts)
    for place, weight in enumerate(WEIGHTS):
        curve = of_number(edges[place], sums["cells"][place], sums["moments"][place])
        np.testing.assert_allclose(np.diff(curve.value) / np.diff(curve.at), weight, atol=1e-9)


def test_noise_moves_a_curve_no_more_often_than_its_error_says() -> None:
    """The steps' rises alone are noised, as often as the interval of 95 % is to hold what there is without noise."""
    rng, at_, noise = np.random.default_rng(5), np.arange(6.0), 3.0
    cells = np.array([40.0, 60.0, 50.0, 80.0, 70.0])
    moments = np.stack([cells * 0.1, cells * 0.5, cells * 0.01, cells * 0.25, cells * 0.05], axis=1)
    exact = of_number(at_, cells, moments)
    held, value = [], []
    for _ in range(400):
        shaken = moments.copy()
        shaken[:, 0] += rng.normal(0, noise, len(cells))
        noised = of_number(at_, cells, shaken, noise)
        alone = np.sqrt(np.maximum(noised.error**2 - of_number(at_, cells, moments).error ** 2, 0.0))
        held.append(np.abs(noised.value - exact.value) <= 1.96 * np.maximum(alone, 1e-12))
        value.append(noised.value)
    np.testing.assert_allclose(np.mean(value, axis=0), exact.value, atol=0.02)  # unbiased
    assert np.mean(held) > 0.9


def test_nothing_known_is_a_flat_curve_and_said() -> None:
    empty = of_category(np.arange(3.0), np.array([5.0, 0.0, 5.0]), np.zeros((3, 5)))
    assert np.isfinite(empty.error).all()
    assert (empty.value == 0).all()
    with pytest.raises(NotFound, match="no such output"):
        ale.analysis.check(ask({"output": "perhaps"}))


def test_the_picture_is_the_pooled_views_own() -> None:
    found = told(Release(partners=4, secure=True, quantum={"moments": 1e-9}))
    assert any("Secure aggregation rounded" in line for line in found.caveats)
    assert type(found).from_json(found.to_json()) == found
    assert found.to_chart().to_dict()
