"""Partial dependence from sums: the pooled curves on the same grid, and rows that fan out as their own curves do."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.federated import pdp
from aimass.explain.federated.sums import Release
from aimass.explain.gap.dependence import individual_curves
from aimass.explain.gap.dependences import Dependences
from aimass.explain.lineage import Lineage
from aimass.explain.means import student95
from aimass.explain.models import model_of_function
from aimass.explain.rows import Rows
from tests.explain.federated.hospitals import at, heart, hospitals, pooled
from tests.explain.federated.test_analyses import ask
from tests.explain.federated.together import together

QUESTION = ask({"points": 7})
BIN = 2 / pdp.MOVES


def told() -> Dependences:
    found = together(pdp.analysis, QUESTION, at(hospitals()))
    return pdp.analysis.read(QUESTION, found, Lineage(model="heart", partners=4), Release(partners=4))


def test_curves_are_those_of_the_pooled_rows_on_the_same_grid() -> None:
    whole, found = pooled(hospitals()).rows, told()
    assert (len(found.curves), found.used) == (13, 920)
    for one in found.curves:
        column = whole.place(one.feature.name)
        same = individual_curves(heart().predict, whole.values, column, one.at, 1)
        np.testing.assert_allclose(one.mean, same.mean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(one.high - one.mean, student95(919) * same.error, rtol=0, atol=1e-9)
        np.testing.assert_allclose(one.centred, same.centred.mean(axis=0), rtol=0, atol=1e-9)
        below, above = np.quantile(same.centred, [0.1, 0.9], axis=0)
        np.testing.assert_allclose(one.below[1:], below[1:], rtol=0, atol=BIN)
        np.testing.assert_allclose(one.above[1:], above[1:], rtol=0, atol=BIN)
        against = (same.centred[:, -1] * np.sign(one.centred[-1]) < 0).mean()
        assert one.against == pytest.approx(against, abs=1e-9)


def test_no_rows_own_curve_leaves() -> None:
    assert all(one.lines.shape[0] == 0 for one in told().curves)
    assert any("never left" in line for line in told().caveats)


def test_a_move_is_counted_from_where_the_curve_begins() -> None:
    model = model_of_function(lambda values: 0.5 + 0.25 * values[:, 0] * values[:, 1], ["a", "b"])
    rows = Rows.of([[0.0, 1.0], [0.0, -1.0], [0.0, -1.0]], ["a", "b"])
    grid = np.array([[0.0, 1.0], [0.0, np.nan]])
    found = pdp.partial(model, rows, grid, 0, 0.5, 1.0)
    assert found["moved"][0].tolist() == [0.0, -0.25]
    assert found["moves"][0, 1].nonzero()[0].tolist() == [24, 40]  # two a quarter down, one a quarter up
    assert found["said"][1].tolist() == [0.0, 0.0]


def test_the_picture_is_the_pooled_views_own() -> None:
    found = told()
    assert Dependences.from_json(found.to_json()) == found
    assert found.to_chart().to_dict()
