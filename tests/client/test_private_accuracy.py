"""What private training learns, against Opacus used directly on the same rows: noise, clip, rate and steps alike."""

from __future__ import annotations

import math
import statistics
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from opacus import PrivacyEngine
from scripts.benches.dp_accuracy import Setting, opacus, ours
from scripts.benches.mnist import mnist_shard

from aimass.client.private_checks import synthetic_rows
from aimass.client.private_trainer import PrivateTrainer
from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.proto.plan import PrivacySettings, TrainSettings
from aimass.proto.task import first_model, load_parameters
from aimass.proto.tensors import Blob

SETTING = Setting(rows=6_000, batch=60, epochs=1)
ROWS, STEPS, RATE, NOISE = 96, 5, 0.25, 1e-4


def test_without_chance_the_steps_are_those_of_opacus() -> None:
    """All rows in every step, and hardly any noise: what is left is clipping, the divisor and the optimiser."""
    batch = synthetic_rows(task.schema, ROWS, 5)
    start = Blob(first_model(task, 1))
    private = PrivacySettings(noise_multiplier=NOISE, clip=1.0, sampling_rate=1.0, delta=1e-5, divisor=float(ROWS))
    train = TrainSettings(batch_size=64, learning_rate=RATE, steps=STEPS, weight="one")
    made = PrivateTrainer(task).train(Shard("a", batch, batch), start, b"", train, private).contribution
    model = task.build()
    load_parameters(model, start)
    data = torch.utils.data.TensorDataset(*task.inputs(batch), torch.from_numpy(batch.labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus's own, about hooks and its generator
        theirs: Any = PrivacyEngine().make_private(
            module=model, optimizer=torch.optim.SGD(model.parameters(), lr=RATE),
            data_loader=torch.utils.data.DataLoader(data, batch_size=ROWS), noise_multiplier=0.0, max_grad_norm=1.0,
            poisson_sampling=False,
        )  # fmt: skip
        network, optimizer, batches = theirs
        for _ in range(STEPS):
            for images, labels in batches:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    after = model.state_dict()
    moved = np.concatenate([(after[name].numpy() - start.numpy(name)).ravel() for name in start.layout.by_name])
    mine = np.concatenate([made.groups["update"].tensors[name].ravel() for name in start.layout.by_name])
    noise = NOISE * RATE * math.sqrt(STEPS * moved.size) / ROWS
    assert np.linalg.norm(mine - moved) < 2 * noise + 1e-3 * np.linalg.norm(moved)


@pytest.mark.slow
@pytest.mark.npm
@pytest.mark.timeout(1800)
def test_one_private_epoch_over_mnist_learns_what_opacus_used_directly_does_within_two_points() -> None:
    """Samples and noise move a single training's accuracy by some three points here, so what chance explains of a
    difference of means (four standard errors) is allowed beside the two points."""
    rows = mnist_shard(SETTING.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        found = [
            (ours(rows, start, SETTING), opacus(rows, start, seed, SETTING))
            for seed in (1, 2, 3)
            for start in [Blob(first_model(task, seed))]
        ]
    mine, theirs = ([100 * each for each in values] for values in zip(*found, strict=True))
    chance = 4 * math.sqrt((statistics.variance(mine) + statistics.variance(theirs)) / len(found))
    assert statistics.fmean(mine) > 50, found  # by guessing it were 10: it learns at all
    assert abs(statistics.fmean(mine) - statistics.fmean(theirs)) < 2 + chance, found
