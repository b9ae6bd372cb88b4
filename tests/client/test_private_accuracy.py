"""What private training learns, against Opacus used directly on the same rows: noise, clip, rate and steps alike."""

from __future__ import annotations

import statistics
import warnings

import pytest
from scripts.benches.dp_accuracy import Setting, mnist_shard, opacus, ours

from aimass.client.tasks.mnist import task
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob

SETTING = Setting(rows=6_000, batch=60, epochs=1)


@pytest.mark.slow
@pytest.mark.npm
@pytest.mark.timeout(1800)
def test_one_private_epoch_over_mnist_learns_what_opacus_used_directly_does_within_two_points() -> None:
    rows = mnist_shard(SETTING.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus's own, about hooks and its generator
        found = [
            (ours(rows, start, SETTING), opacus(rows, start, seed, SETTING))
            for seed in (1, 2, 3)
            for start in [Blob(first_model(task, seed))]
        ]
    mine, theirs = (100 * statistics.fmean(each) for each in zip(*found, strict=True))
    assert mine > 50, found  # chance is 10: it learns at all
    assert abs(mine - theirs) < 2, found
