"""Histograms that no rows could have are refused: one partner's would be the trees of all."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.client.trees import grounded, summed
from aimass.proto.boosting import SUMS, UNIT, Boosting, BoostingOptions
from aimass.proto.errors import BadInput
from aimass.proto.histograms import RowBounds, check_histograms, row_bounds
from aimass.proto.manifest import Number, Schema
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.trees import Ensemble, Objective, Tree, encode
from tests.support.boosting import SCHEMA, Grove, chance

BOOSTING = Boosting(schema=SCHEMA, options=BoostingOptions(rounds=1, depth=3, bins=5, grid=10))
ROWS = chance(120, 3)


def _grown(objective: Objective, outputs: int = 1) -> Ensemble:
    """A tree of an age of 60 for the last output, whose leaves lie far apart."""
    tree = Tree(
        feature=np.array([0, -1, -1], np.int32),
        threshold=np.array([60.0, 0.0, 0.0], np.float32),
        default_left=np.zeros(3, bool),
        value=np.array([9.0, -3.5, 2.25], np.float32),
        gain=np.array([1, 0, 0], np.float32),
        cover=np.ones(3, np.float32),
        output=outputs - 1,
    )
    return Ensemble(objective, np.full(outputs, 0.1, np.float32), Grove().empty().sizes, (tree,))


def _histograms(ensemble: Ensemble) -> dict[str, np.ndarray]:
    edges = Blob(encode_numpy({"edges": np.ascontiguousarray(BOOSTING.grid()[:, ::2])}))
    labels = ROWS if ensemble.objective is not Objective.LOGISTIC else chance(120, 3, labels=2)
    return dict(
        summed(grounded(BOOSTING, labels, (Blob(encode(ensemble)), edges)), (), bytes(16)).groups["trees"].tensors
    )


@pytest.mark.parametrize("objective", list(Objective))
def test_those_of_rows_are_within_the_bounds_of_their_loss_and_those_of_a_liar_are_not(objective: Objective) -> None:
    ensemble = _grown(objective, 3 if objective is Objective.SOFTMAX else 1)
    sums, bounds = _histograms(ensemble), row_bounds(ensemble, SCHEMA)
    check_histograms(BOOSTING, sums, bounds)
    for name in ("gradients", "hessians"):
        for way, bound in zip((-1.0, 1.0), getattr(bounds, name), strict=True):
            lied = sums[name].copy()
            for at in BOOSTING.columns:  # by the same in each column, as a liar would who wants to be believed
                place = at.start + int(sums["rows"][0, at].argmax())
                lied[0, place] = bound * sums["rows"][0, place] + way * UNIT
            with pytest.raises(BadInput, match="rows could have") as error:
                check_histograms(BOOSTING, {**sums, name: lied}, bounds)
            assert error.value.code == "contribution.histogram"


def test_a_squared_error_is_bounded_by_the_furthest_leaf_of_each_tree_and_by_the_labels() -> None:
    ensemble = _grown(Objective.SQUARED_ERROR)
    bounds = row_bounds(ensemble, SCHEMA)
    assert bounds.gradients == pytest.approx((0.1 - 3.5 - 2, 0.1 + 2.25), abs=1e-5)
    assert bounds.hessians == (1.0, 1.0)
    days = Schema(name="stay/1", columns=SCHEMA.columns, label=Number(name="days", minimum=-5, maximum=60))
    assert row_bounds(ensemble, days).gradients == pytest.approx((0.1 - 3.5 - 60, 0.1 + 2.25 + 5), abs=1e-5)


@pytest.mark.parametrize(("name", "by"), [("rows", 0.5), ("rows", -1.0), ("hessians", 1e9), ("hessians", -1.0)])
def test_whatever_the_loss_cells_are_of_whole_rows_with_hessians_up_to_one(name: str, by: float) -> None:
    sums = _histograms(_grown(Objective.SOFTMAX, 3))
    check_histograms(BOOSTING, sums)
    with pytest.raises(BadInput, match="rows could have"):
        check_histograms(BOOSTING, {**sums, name: sums[name] * by})


def test_there_is_no_gradient_where_there_is_no_row() -> None:
    sums = {name: np.zeros((1, BOOSTING.offsets[-1])) for name in SUMS}
    sums["gradients"][0, [at.start for at in BOOSTING.columns]] = 1e-6
    for bounds in (RowBounds((-1.0, 1.0), (0.0, 0.25)), RowBounds((-9.0, 9.0), (1.0, 1.0))):
        with pytest.raises(BadInput, match="rows could have"):
            check_histograms(BOOSTING, sums, bounds)
