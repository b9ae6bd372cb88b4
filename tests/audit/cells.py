"""A task whose rows are canaries as strong as the trainer allows: each has a coordinate of the gradient to itself.

A row sits in a cell, and its gradient in the two numbers that the model keeps for the cell ("Dirac canaries": Nasr et
al. 2023, section 5), along (-1, 1) times 0.7 of the row's size. Sizes are far above the clip, so that clipping matters,
and the model hardly moves, so that they stay so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from aimass.client.private_trainer import Noise, PrivateTrainer, fresh_noise
from aimass.client.shards import Shard
from aimass.privacy.dp import private_terms
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.events import Relation, Terms, Unit
from aimass.privacy.dp.gaussian import GridNoise
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import PrivacySettings, TrainSettings
from aimass.proto.rows import Batch
from aimass.proto.task import Task, first_model
from aimass.proto.tensors import Blob

__all__ = ["Laboratory", "settings"]

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
_SIZE: Final = 100.0
_LARGE: Final = 1e4
_MOST_CELLS: Final = 1 << 24
"""Whole numbers that float32 holds."""
_LEARNING_RATE: Final = 1e-6


class _Model(torch.nn.Module):
    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = torch.nn.Embedding(cells, 2)
        torch.nn.init.zeros_(self.cells.weight)

    def forward(self, numbers: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        cells = numbers[:, 0].long() % self.cells.num_embeddings
        logits: torch.Tensor = self.cells(cells) * numbers[:, 1:]
        return logits


class _Cells(Task):
    """Two numbers for each of so many cells, zero at first."""

    schema = Schema(
        name="cells/1",
        columns=(
            Number(name="cell", minimum=0, maximum=_MOST_CELLS - 1, required=True),
            Number(name="size", minimum=-_LARGE, maximum=_LARGE, required=True),
        ),
        label=Category(name="side", values=("left", "right")),
    )

    def __init__(self, cells: int) -> None:
        self._cells = cells

    def build(self) -> torch.nn.Module:
        return _Model(self._cells)


def settings(noise: float, rate: float, delta: float = 1e-5) -> PrivacySettings:
    """Clip and divisor are one."""
    return PrivacySettings(noise_multiplier=noise, clip=1.0, sampling_rate=rate, delta=delta, divisor=1.0)


class Laboratory:
    """The real trainer over so many cells, heard where its noised sums come out.

    Trainers look once whether a model can be trained privately, so one serves many trainings.
    """

    def __init__(self, cells: int, steps: int, privacy: PrivacySettings) -> None:
        task = _Cells(cells)
        self.cells, self.privacy = cells, privacy
        self._start = Blob(first_model(task, 1))
        self._settings = TrainSettings(batch_size=1 << 17, learning_rate=_LEARNING_RATE, steps=steps, weight="one")
        self._hear: Callable[[Floats, Floats], None] = lambda *_: None
        self._trainer = PrivateTrainer(task, noise=self._heard)

    def stated(self, rows: int) -> float:
        """Epsilon as a ledger states it for one row, add or remove one."""
        event = private_terms.training_event(self.privacy, self._settings.steps or 0, 2 * self.cells, rows)
        terms = Terms(unit=Unit.EXAMPLE, relation=Relation.ADD_OR_REMOVE_ONE, delta=self.privacy.delta)
        return Accountant().figure(terms, [event]).epsilon

    def update(self, cells: Places, sizes: Floats | float = _SIZE, persons: Places | None = None) -> Floats:
        """[2 cells]: what leaves, in the unit of a noised sum, of a training over one row in each of `cells`."""
        numbers = np.column_stack([cells, np.broadcast_to(sizes, cells.shape)]).astype(np.float32)
        rows = Batch(numbers, np.zeros((len(cells), 0), np.int64), None, np.zeros(len(cells), np.int64))
        none = Batch(numbers[:0], rows.categories[:0], None, rows.labels[:0])
        shard = Shard("a", rows, none, persons)
        trained = self._trainer.train(shard, self._start, b"", self._settings, self.privacy)
        moved = trained.contribution.groups["update"].tensors["cells.weight"].reshape(-1)
        return np.asarray(moved.astype(np.float64) * (-self.privacy.divisor / _LEARNING_RATE))

    def sums(
        self, cells: Places, sizes: Floats | float = _SIZE, persons: Places | None = None
    ) -> list[tuple[Floats, Floats]]:
        """[cells], [cells] for each step: its clipped sum before the noise and after, along a row's gradient, in clips."""
        found: list[tuple[Floats, Floats]] = []
        self._hear = lambda exact, noisy: found.append((self._along(exact), self._along(noisy)))
        self.update(cells, sizes, persons)
        return found

    def evidence(self, cells: Places) -> Floats:
        """[cells]: log likelihood ratio of a row in each cell against none, given every step's noised sum."""
        q, variance = self.privacy.sampling_rate, self.privacy.noise_multiplier**2
        total = np.zeros(self.cells)

        def hear(_: Floats, noisy: Floats) -> None:
            ratio = (2 * self._along(noisy) - 1) / (2 * variance)
            total[:] += ratio if q == 1 else np.logaddexp(math.log1p(-q), math.log(q) + ratio)

        self._hear = hear
        self.update(cells)
        return total

    def _along(self, values: Floats) -> Floats:
        left, right = values.reshape(-1, 2).T
        return np.asarray((right - left) / (math.sqrt(2) * self.privacy.clip))

    def _heard(self, noise: GridNoise) -> Noise:
        inner = fresh_noise(noise)

        def add(values: Floats) -> Floats:
            noisy = inner(values)
            self._hear(values, noisy)
            return noisy

        return add
