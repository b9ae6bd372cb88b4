"""A step of DP-SGD against Opacus used directly and against the same step without privacy, and how fast noise is drawn.

Each is a training of so many steps over the same rows of chance on one thread, from building the model to the last
step; a batch is 64 rows on average. Opacus as its guide uses it (`make_private`: Poisson sampling, gradients of every
row kept, noise from torch's generator) and with ghost clipping. They take turns.
Times are the processor's: on one thread those of the clock, where nothing else runs.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from opacus import PrivacyEngine
from opacus.layers import DPMultiheadAttention

from aimass.client import trainer
from aimass.client.private_trainer import PrivateTrainer, fresh_noise
from aimass.client.shards import Shard
from aimass.client.tasks.mnist import Mnist
from aimass.privacy.dp.private_terms import grid_noise
from aimass.proto.plan import PrivacySettings, TrainSettings
from aimass.proto.synthetic import synthetic_rows
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob
from scripts.benches import dp_accuracy, dp_curve
from scripts.benches.row import Row

_ROWS: Final = 6_400
_BATCH: Final = 64
_CNN_ELEMENTS: Final = 1_663_370
_PRIVACY: Final = PrivacySettings(
    noise_multiplier=1.0, clip=1.0, sampling_rate=_BATCH / _ROWS, delta=1e-5, divisor=float(_BATCH)
)
_RATE: Final = 0.05


class TransformerLayer(torch.nn.Module):
    """An image as 28 words of 28 pixels through one layer: width 128, four heads, 512 inside."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Linear(28, 128)
        self.attention = DPMultiheadAttention(128, 4, batch_first=True)
        self.first, self.second = torch.nn.LayerNorm(128), torch.nn.LayerNorm(128)
        self.wide, self.narrow = torch.nn.Linear(128, 512), torch.nn.Linear(512, 128)
        self.output = torch.nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.words(images.float().reshape(-1, 28, 28) / 255)
        x = self.first(x + self.attention(x, x, x, need_weights=False)[0])
        x = self.second(x + self.narrow(torch.relu(self.wide(x))))
        logits: torch.Tensor = self.output(x.mean(1))
        return logits


class Transformer(Mnist):
    def build(self) -> torch.nn.Module:
        return TransformerLayer()


def measure(*, quick: bool, curve: bool = False, full: bool = False) -> list[Row]:
    """Milliseconds a step, and ours as a multiple of the others', turn by turn; or what private training learns:
    `curve` against epsilon, `full` against Opacus."""
    if curve:
        return dp_curve.curve(seeds=(1,) if quick else (1, 2, 3))
    if full:
        return dp_accuracy.full()
    steps, turns = (8, 3) if quick else (40, 7)
    warnings.simplefilter("ignore")  # Opacus's own, about hooks and its generator
    rows: list[Row] = []
    for name, task in (("CNN", Mnist()), ("transformer layer", Transformer())):
        rows += _steps(name, task, steps, turns)
    return rows + _noise(3 if quick else 9)


def _steps(name: str, task: Task, steps: int, turns: int) -> list[Row]:
    batch = synthetic_rows(task.schema, _ROWS, 1)
    shard = Shard("a", batch, batch)
    start = Blob(first_model(task, 1))
    private = PrivateTrainer(task)
    settings = TrainSettings(batch_size=2 * _BATCH, learning_rate=_RATE, steps=steps, weight="one")
    plain = TrainSettings(batch_size=_BATCH, learning_rate=_RATE, steps=steps)
    kinds: dict[str, Callable[[], object]] = {
        "ours": lambda: private.train(shard, start, b"", settings, _PRIVACY),
        "Opacus": lambda: _opacus(task, shard, steps, "hooks"),
        "Opacus, ghost": lambda: _opacus(task, shard, steps, "ghost"),
        "no privacy": lambda: trainer.train(task, shard, start, b"", bytes(32), plain),
    }
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(turns + 1):
        for kind, work in kinds.items():
            started = time.process_time()
            work()
            if turn:  # the first loads and looks
                taken[kind].append(1_000 * (time.process_time() - started) / steps)
        sys.stderr.write(f"dp: {name}, turn {turn} of {turns}\n")
    ours = taken["ours"]
    found = [Row.of(f"{name}: {kind}", values, "ms", None, "lower") for kind, values in taken.items()]
    # Sums in float64 and exact noise cost more than the time that is saved where layers are small.
    for kind, target in (("Opacus", 1.0 if name == "CNN" else None), ("Opacus, ghost", None), ("no privacy", None)):
        shares = [mine / theirs for mine, theirs in zip(ours, taken[kind], strict=True)]
        found.append(Row.of(f"{name}: ours / {kind}", shares, "x", target, "lower"))
    return found


def _opacus(task: Task, shard: Shard, steps: int, mode: str) -> None:
    """As its guide has it, over the same rows."""
    trainer.on_one_thread(deterministic=False)
    model = task.build()
    data = torch.utils.data.TensorDataset(*task.inputs(shard.train), torch.from_numpy(shard.train.labels))
    loader = torch.utils.data.DataLoader(data, batch_size=_BATCH)
    made: Any = PrivacyEngine(accountant="rdp").make_private(
        module=model, optimizer=torch.optim.SGD(model.parameters(), lr=_RATE), data_loader=loader,
        criterion=torch.nn.CrossEntropyLoss(), noise_multiplier=_PRIVACY.noise_multiplier,
        max_grad_norm=_PRIVACY.clip, poisson_sampling=True, grad_sample_mode=mode,
    )  # fmt: skip
    private, optimizer, *criterion, batches = made
    loss_of = criterion[0] if criterion else torch.nn.functional.cross_entropy
    private.train()
    for done, (images, labels) in enumerate(batches, 1):
        optimizer.zero_grad()
        loss_of(private(images), labels).backward()
        optimizer.step()
        if done == steps:
            return


def _noise(turns: int) -> list[Row]:
    """Millions of coordinates a second, for a sum as long as the CNN's."""
    add = fresh_noise(grid_noise(_PRIVACY, _CNN_ELEMENTS))
    values = np.zeros(_CNN_ELEMENTS)
    add(values)
    ours, torchs = [], []
    for _ in range(turns):
        started = time.process_time()
        add(values)
        ours.append(_CNN_ELEMENTS / (time.process_time() - started) / 1e6)
        started = time.process_time()
        torch.normal(0.0, 1.0, (_CNN_ELEMENTS,))
        torchs.append(_CNN_ELEMENTS / (time.process_time() - started) / 1e6)
    return [
        Row.of("noise: exact, secret", ours, "M/s", None, "higher"),
        Row.of("noise: torch's generator", torchs, "M/s", None, "higher"),
        Row.of("noise of one CNN step", [_CNN_ELEMENTS / 1e3 / statistics.median(ours)], "ms", None, "lower"),
    ]
