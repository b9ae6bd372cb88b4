"""Fewer bytes up, and what they cost: the MNIST CNN (McMahan et al. 2017, section 3) under each way to send an update.

Ten partners with 200 rows each all train one pass a round, in batches of 32; the test set's first rows are dealt to
them. What is lost is the best accuracy of the plain run less that of the compressed one, after as many rounds. Curves
that are done are kept: a bench that was broken off begins with the next.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.methods import training_groups
from aimass.proto.plan import Cohort, Compress, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, Layout, TensorSpec
from aimass.server.simulate import simulate
from scripts.benches.convergence import crossing
from scripts.benches.curves import compute, kept
from scripts.benches.mnist import mnist_batch
from scripts.benches.row import Row

__all__ = ["WAYS", "measure", "update_bytes"]

_PARTNERS: Final = 10
_ROWS: Final = 2_000
_TEST: Final = 1_000
_ROUNDS: Final = 20
_ACCURACY: Final = 0.92
_SEEDS: Final = (1, 2, 3)
_FEWER: Final = 8.0
_POINTS: Final = 1.0
_KEPT: Final = Path("bench-output") / "traffic-compression.json"

WAYS: Final[dict[str, Compress | None]] = {
    "plain": None,
    "int8": Compress(quantise="int8"),
    "mask 1 in 16": Compress(sparsify="random-mask", one_in=16),
    "mask 1 in 4, int8": Compress(sparsify="random-mask", one_in=4, quantise="int8"),
    "top-k 1 in 8, int8": Compress(sparsify="top-k", one_in=8, quantise="int8"),
    "top-k 1 in 32, int8": Compress(sparsify="top-k", one_in=32, quantise="int8"),
}
_QUICK: Final = ("plain", "top-k 1 in 8, int8")


@dataclasses.dataclass(frozen=True, slots=True)
class _Curve:
    way: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.way}, seed {self.seed}"


def update_bytes(compress: Compress | None) -> int:
    """Bytes of one partner's update, header and weights included."""
    groups = training_groups("plain", Blob(first_model(task, 1)).layout, compress=compress)
    specs = [
        TensorSpec(f"{group}/{name}", dtype, shape)
        for group, tensors in groups.items()
        for name, (dtype, shape) in tensors.items()
    ]
    return Layout.of([*specs, *(TensorSpec(f"weight/{group}", "F64", ()) for group in groups)]).total_bytes


def measure(*, quick: bool) -> list[Row]:
    """The median of three seeds for each way; `quick` is one seed of the plain way and one other."""
    ways, seeds = (_QUICK, _SEEDS[:1]) if quick else (tuple(WAYS), _SEEDS)
    compute(_KEPT, [_Curve(way, seed) for seed in seeds for way in ways], _accuracies, _told)
    curves = {way: [kept(_KEPT)[_Curve(way, seed).key] for seed in seeds] for way in ways}
    return [row for way in ways for row in _rows(way, curves[way], curves["plain"])]


def _rows(way: str, curves: Sequence[Sequence[float]], plain: Sequence[Sequence[float]]) -> list[Row]:
    size, title = update_bytes(WAYS[way]), f"MNIST CNN, {way}"
    # One that never gets there counts as more than all it was given.
    rounds = [crossing(curve, _ACCURACY) or 2.0 * _ROUNDS for curve in curves]
    up = [each * _PARTNERS * size / 1e6 for each in rounds]
    rows = [
        Row.of(f"{title}: rounds to {_ACCURACY:.0%}", rounds, "rounds", None, "lower"),
        Row.of(f"{title}: all bytes up to {_ACCURACY:.0%}", up, "MB", None, "lower"),
    ]
    if WAYS[way] is None:
        return rows
    lost = [100 * (max(one) - max(other)) for one, other in zip(plain, curves, strict=True)]
    fewer = update_bytes(None) / size
    return [
        Row.of(f"{title}: times fewer bytes up", [fewer], "x", _FEWER, "higher"),
        Row.of(f"{title}: lost after {_ROUNDS} rounds", lost, "points", _POINTS, "lower"),
        *rows,
    ]


def _told(curve: _Curve) -> None:
    sys.stderr.write(f"traffic: {curve.key}: done\n")


def _accuracies(curve: _Curve) -> list[float]:
    """Accuracy on the held-out rows after each round."""
    train, test = mnist_batch("train", _ROWS), mnist_batch("test", _TEST)
    order = np.random.default_rng(curve.seed).permutation(_ROWS)
    shards = [
        Shard(f"p{place:02}", train.take(mine), test.take(held))
        for place, (mine, held) in enumerate(
            zip(np.array_split(order, _PARTNERS), np.array_split(np.arange(_TEST), _PARTNERS), strict=True)
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder), UNINTERRUPTED)
        plan = Plan(
            name="traffic", task=TaskRef(name="mnist", digest="0" * 64), data_schema="mnist/1", seed=curve.seed,
            model=blobs.put([first_model(task, curve.seed)]),
            stages=(Stage(driver="averaging", options={"rounds": _ROUNDS}),),
            train=TrainSettings(batch_size=32, learning_rate=0.2, epochs=1),
            evaluate=EvaluateSettings(every=1), cohort=Cohort(quorum=_PARTNERS), compress=WAYS[curve.way],
        )  # fmt: skip
        done = simulate(plan, task, shards, blobs)
    return [round_.metrics["accuracy"].total / round_.metrics["accuracy"].weight for round_ in done.evaluations]
