"""The simulations of `scripts/benches/explain_coverage.py`, a few of each, and that the box's tell honest from not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import truncnorm
from scripts.benches.explain_coverage import NAMES, WEIGHTS, box, coverages, linear, mean_between, simulated

from aimass.explain.prim.induction import induce
from aimass.explain.prim.options import PrimOptions
from aimass.explain.work import Work


@pytest.mark.parametrize("ends", [(-1.0, 0.5), (None, 0.3), (0.7, None), (None, None)])
def test_the_mean_of_a_truncated_normal_is_that_of_scipy(ends: tuple[float | None, float | None]) -> None:
    low, high = (-np.inf if ends[0] is None else ends[0]), (np.inf if ends[1] is None else ends[1])
    assert mean_between(*ends) == pytest.approx(float(truncnorm.mean(low, high)), abs=1e-12)


def test_intervals_hold_the_truth_nearly_always() -> None:
    """Of 40 where 38 are meant: fewer than 33 once in 200 times."""
    for name, percent in coverages(40, seed=3_000).items():
        assert percent >= 100 * 33 / 40, name


def test_the_rows_that_chose_a_box_would_flatter_it() -> None:
    flattered, options = 0, PrimOptions(target="label", boxes=1)
    for seed in range(20):
        model, rows = linear(), simulated(seed)
        for region in induce(model, rows, model.predict(rows.values), options, Work(seed=seed)).regions:
            ends = {one.feature.name: (one.low, one.high) for one in region.conditions}
            truth = WEIGHTS @ [mean_between(*ends.get(name, (None, None))) for name in NAMES]
            assert region.searched.mean is not None
            flattered += int(region.searched.mean > truth)
    assert flattered >= 15
    assert box(0)
