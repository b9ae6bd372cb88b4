"""What private training on MNIST learns, ours and Opacus used directly: equal rows, first models, noise, clip, rate,
steps. `bench dp --full` takes the whole set and ten epochs; a test takes a little of it, and looks at what moved."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from opacus import PrivacyEngine

from aimass.client.private_trainer import PrivateTrainer
from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.client.trainer import evaluate
from aimass.proto.plan import EvaluateSettings, PrivacySettings, TrainSettings
from aimass.proto.task import first_model, load_parameters
from aimass.proto.tensors import Blob, encode_numpy, encode_torch
from scripts.benches.mnist import mnist_shard
from scripts.benches.row import Row

__all__ = ["WHOLE", "Setting", "accuracy", "full", "opacus", "ours"]

_ALL = 60_000
_SEEDS = (1, 2, 3)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """Rows of the training set, the mean size of a batch, epochs."""

    rows: int
    batch: int
    epochs: int
    rate: float = 0.25

    @property
    def privacy(self) -> PrivacySettings:
        return PrivacySettings(
            noise_multiplier=1.0, clip=1.0, sampling_rate=self.batch / self.rows, delta=1e-5, divisor=float(self.batch)
        )

    @property
    def train(self) -> TrainSettings:
        steps = self.epochs * (self.rows // self.batch)
        return TrainSettings(batch_size=64, learning_rate=self.rate, steps=steps, weight="one")


WHOLE = Setting(rows=_ALL, batch=240, epochs=10)
"""240 divides the rows: Opacus samples at one over its number of batches."""


def ours(shard: Shard, start: Blob, setting: Setting) -> Blob:
    """What our trainer makes of the first model."""
    trained = PrivateTrainer(task).train(shard, start, b"", setting.train, setting.privacy)
    made = trained.contribution.groups["update"].tensors
    return Blob(encode_numpy({name: start.numpy(name) + made[name] for name in start.layout.by_name}))


def opacus(shard: Shard, start: Blob, seed: int, setting: Setting) -> Blob:
    """The same by Opacus as its guide has it."""
    torch.manual_seed(seed)
    model = task.build()
    load_parameters(model, start)
    data = torch.utils.data.TensorDataset(*task.inputs(shard.train), torch.from_numpy(shard.train.labels))
    made: Any = PrivacyEngine(accountant="rdp").make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), lr=setting.rate),
        data_loader=torch.utils.data.DataLoader(data, batch_size=setting.batch),
        noise_multiplier=setting.privacy.noise_multiplier, max_grad_norm=setting.privacy.clip, poisson_sampling=True,
    )  # fmt: skip
    private, optimizer, batches = made
    for _ in range(setting.epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(private(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return Blob(encode_torch(model.state_dict()))


def accuracy(shard: Shard, parameters: Blob) -> float:
    """On the test set."""
    measured = evaluate(task, shard, parameters, EvaluateSettings()).metrics["accuracy"]
    return measured.total / measured.weight


def full(setting: Setting = WHOLE) -> list[Row]:
    """Accuracies in points over three seeds, and how far their means are apart: hours on two cores."""
    warnings.simplefilter("ignore")  # Opacus's own, about hooks and its generator
    shard = mnist_shard(setting.rows)
    mine, theirs = [], []
    for seed in _SEEDS:
        start = Blob(first_model(task, seed))
        mine.append(100 * _told(f"seed {seed}, ours", shard, setting, partial(ours, shard, start, setting)))
        theirs.append(100 * _told(f"seed {seed}, Opacus", shard, setting, partial(opacus, shard, start, seed, setting)))
    apart = abs(statistics.fmean(mine) - statistics.fmean(theirs))
    return [
        Row.of(f"MNIST, {setting.epochs} epochs: ours", mine, "%", None, "higher"),
        Row.of(f"MNIST, {setting.epochs} epochs: Opacus", theirs, "%", None, "higher"),
        Row.of("ours and Opacus apart", [apart], "points", 1.0, "lower"),
    ]


def _told(name: str, shard: Shard, setting: Setting, learn: Callable[[], Blob]) -> float:
    steps = setting.train.steps or 0
    sys.stderr.write(f"dp: {name}: {steps:,} steps of {setting.batch} rows ...\n")
    began = time.monotonic()
    found = accuracy(shard, learn())
    sys.stderr.write(f"dp: {name}: {found:.2%} after {(time.monotonic() - began) / 60:.1f} minutes\n")
    return found
