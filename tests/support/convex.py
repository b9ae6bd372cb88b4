"""Partners with a convex problem, logistic regression in float64, and its gradients in numpy: what algorithms are held to.

The oracles use nothing of ours but the seeds of the batches' order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aimass.client.capacity import Capacity
from aimass.client.shards import Shard
from aimass.client.trainee import Trainee
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, SecureSettings, Stage, TaskRef, TrainSettings
from aimass.proto.rng import stream_seed
from aimass.proto.rows import Batch
from aimass.proto.storage import FileBlobs
from aimass.proto.task import Task
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.simulate import simulate

__all__ = ["FEATURES", "Model", "Partner", "Problem", "logistic", "partners", "plan", "simulated", "slow"]

FEATURES = 3
SEED = 7
Floats = npt.NDArray[np.float64]


class Logistic(Task):
    """Two labels from three numbers."""

    schema = Schema(
        name="convex/1",
        columns=tuple(Number(name=f"x{i}", minimum=-9, maximum=9) for i in range(FEATURES)),
        label=Category(name="y", values=("no", "yes"), required=True),
    )

    def build(self) -> torch.nn.Module:
        return _Linear(FEATURES, 2, dtype=torch.float64)


class _Linear(torch.nn.Linear):
    def forward(self, numbers: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(numbers.double())


logistic = Logistic()


@dataclasses.dataclass(frozen=True)
class Model:
    """Weights [labels, features] and biases [labels]: a vector that oracles compute with."""

    weight: Floats
    bias: Floats

    @staticmethod
    def zero() -> Model:
        return Model(np.zeros((2, FEATURES)), np.zeros(2))

    @staticmethod
    def read(blob: Blob) -> Model:
        return Model(blob.numpy("weight").copy(), blob.numpy("bias").copy())

    def __add__(self, other: Model) -> Model:
        return Model(self.weight + other.weight, self.bias + other.bias)

    def __sub__(self, other: Model) -> Model:
        return self + -1.0 * other

    def __rmul__(self, by: float) -> Model:
        return Model(by * self.weight, by * self.bias)

    def distance(self, other: Model) -> float:
        return float(max(np.abs(self.weight - other.weight).max(), np.abs(self.bias - other.bias).max()))


@dataclasses.dataclass(frozen=True)
class Partner:
    """A participant's rows."""

    name: str
    x: Floats
    y: npt.NDArray[np.int64]

    @property
    def shard(self) -> Shard:
        none = np.zeros((len(self.y), 0), np.int64)
        train = Batch(self.x.astype(np.float32), none, None, self.y)
        return Shard(self.name, train, train.take(slice(0, 0)))

    def gradient(self, at: Model, rows: Any = slice(None)) -> Model:
        """Of the mean cross-entropy over `rows`."""
        x, y = self.x[rows], self.y[rows]
        logits = x @ at.weight.T + at.bias
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        off = (chances - np.eye(2)[y]) / len(y)
        return Model(off.T @ x, off.sum(axis=0))

    def batches(self, round_: int, size: int, epochs: int | None, steps: int | None) -> Iterator[Any]:
        """Rows of the steps of a round, as the trainer draws them."""
        seed = stream_seed(SEED, self.name, "train:", round_)
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(seed[8:], "big")))
        done, passes = 0, 0
        while epochs is None or passes < epochs:
            order = generator.permutation(len(self.y))
            for start in range(0, len(order), size):
                if done == steps:
                    return
                yield order[start : start + size]
                done += 1
            passes += 1


def partners(sizes: Sequence[int], spread: float, seed: int = 3) -> list[Partner]:
    """Partners of so many rows; with more `spread` their rows and labels differ more from one to the other."""
    rng = np.random.default_rng(seed)
    made = []
    for number, size in enumerate(sizes):
        truth, centre = rng.normal(size=FEATURES) * spread + 1.0, rng.normal(size=FEATURES) * spread
        x = (rng.normal(size=(size, FEATURES)) + centre).astype(np.float32).astype(np.float64)
        chance = 1 / (1 + np.exp(-(x @ truth)))
        made.append(Partner(f"p{number}", x, (rng.random(size) < chance).astype(np.int64)))
    return made


@dataclasses.dataclass(frozen=True)
class Problem:
    """The whole: the weighted mean of the partners' losses, with weight decay."""

    partners: Sequence[Partner]
    decay: float
    weights: Sequence[float]

    def gradient(self, at: Model) -> Model:
        total = Model.zero()
        for weight, partner in zip(self.weights, self.partners, strict=True):
            total = total + weight / sum(self.weights) * partner.gradient(at)
        return total + self.decay * at

    @property
    def optimum(self) -> Model:
        at = Model.zero()
        for _ in range(3_000):
            at = at - 0.1 * self.gradient(at)
        return at


def plan(driver: str, train: TrainSettings, rounds: int, blobs: FileBlobs, **options: Any) -> Plan:
    """A plan of one training stage, without evaluation."""
    chosen: Mapping[str, Any] = {"cohort": Cohort(), "secure": None} | options.pop("fields", {})
    cohort: Cohort = chosen["cohort"]
    secure: SecureSettings | None = chosen["secure"]
    return Plan(
        name="convex", task=TaskRef(name="convex", digest="1" * 64), data_schema="convex/1", seed=SEED,
        model=blobs.put([encode_numpy(dataclasses.asdict(Model.zero()))]),
        stages=(Stage(driver=driver, options={"rounds": rounds, **options}),),
        train=train, evaluate=EvaluateSettings(every=0), cohort=cohort, secure=secure,
    )  # fmt: skip


def simulated(plan: Plan, of: Sequence[Partner], blobs: FileBlobs, **options: Any) -> Model:
    """The model that a simulation ends in."""
    shards = [each.shard for each in of]
    return Model.read(Blob(blobs.open(simulate(plan, logistic, shards, blobs, **options).model)))


def slow(most_steps: Mapping[str, int], task: Task = logistic) -> dict[str, Trainee]:
    """Who does so many steps at most."""
    return {name: Trainee(task, Capacity(most_steps=count)) for name, count in most_steps.items()}
