"""What the server makes of histograms and counts that have noise."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.proto.boosting import boosting_of
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Number, Schema
from aimass.server.drivers.tree_bins import chosen_edges
from aimass.server.drivers.tree_noise import agreed
from aimass.server.drivers.trees import driver
from tests.support.boosting import SCHEMA, Grove, plan_of

PLAN = plan_of(Grove(), rounds=1, depth=2, bins=8, grid=200, noise_multiplier=5.0)
BOOSTING = boosting_of(PLAN)


def test_noised_columns_are_made_to_agree_by_the_smallest_change() -> None:
    rng = np.random.default_rng(1)
    noised = rng.normal(3, 2, (4, BOOSTING.offsets[-1], 2))
    found = agreed(BOOSTING, noised)
    sums = np.stack([found[:, cells].sum(axis=1) for cells in BOOSTING.columns])
    np.testing.assert_allclose(sums, np.broadcast_to(sums[:1], sums.shape))
    # Of all that agree, by least squares: equal sums are equations, whose space the change is orthogonal to.
    own = np.zeros((len(BOOSTING.columns), BOOSTING.offsets[-1]))
    for row, cells in zip(own, BOOSTING.columns, strict=True):
        row[cells] = 1.0
    equations = own[1:] - own[0]
    closest = noised[0, :, 0] - np.linalg.pinv(equations) @ (equations @ noised[0, :, 0])
    np.testing.assert_allclose(found[0, :, 0], closest)
    np.testing.assert_allclose(agreed(BOOSTING, found), found)


def test_noise_moves_the_edges_of_bins_by_little() -> None:
    rng = np.random.default_rng(2)
    counts = np.stack(
        [np.bincount(np.clip(rng.normal(at, 15, 20_000), 0, 199).astype(int), minlength=200) for at in (80, 120)]
    )
    grid = BOOSTING.grid()
    exact, noised = (
        chosen_edges(BOOSTING, each) for each in (counts.astype(float), counts + rng.normal(0, 20, counts.shape))
    )
    for row in range(2):
        part = grid[row, 1] - grid[row, 0]
        assert np.abs(exact[row] - noised[row])[1:-1].max() <= 4 * part


def test_noise_is_refused_where_the_label_is_a_number() -> None:
    days = Schema(name="stay/1", columns=SCHEMA.columns, label=Number(name="days", minimum=0, maximum=60))
    plan = plan_of(Grove(days), rounds=1, noise_multiplier=5.0)
    with pytest.raises(BadInput, match="category") as error:
        driver.check(plan, plan.stages[0])
    assert "noise_multiplier" in error.value.cure
