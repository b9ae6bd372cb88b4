"""Rounds to 99 % on MNIST, against Table 2 of the FedAvg paper, and what federation costs on heart disease.

McMahan et al. 2017: the CNN of section 3, 100 partners, a tenth of them in a round, batches of ten. As there, the
learning rate is the best of a grid; a curve is made monotone, and crosses the target between two rounds on a line. The
test set is held out at ten of the partners, whose sum is its accuracy. A curve that is done is kept: a run that was
broken off begins with the next.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aimass.client.shards import Shard
from aimass.client.tasks.mnist import task
from aimass.proto import partition
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.partition import Parts
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.server.simulate import simulate
from scripts.benches import convergence_heart, curves
from scripts.benches.mnist import ALL, TEST, mnist_batch
from scripts.benches.row import Row

__all__ = ["Case", "crossing", "dealt", "measure"]

_PARTNERS: Final = 100
_SAMPLE: Final = 10
_TARGET: Final = 0.99
_SLACK: Final = 1.15
_RATES: Final = (0.05, 0.1, 0.2)
_SEEDS: Final = (1, 2, 3)
_KEPT: Final = Path("bench-output") / "convergence.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A cell of Table 2: passes over a partner's rows, how rows are dealt, the paper's rounds, and when to give up.

    A run is given up a round after what the target allows: what would come later misses it by any count.
    """

    epochs: int
    iid: bool
    published: int
    rounds: int

    @property
    def title(self) -> str:
        return f"MNIST CNN, {'IID' if self.iid else 'non-IID'}, E = {self.epochs}"


CASES: Final = (Case(1, iid=True, published=34, rounds=40), Case(5, iid=True, published=20, rounds=24))
FULL: Final = (*CASES, Case(5, iid=False, published=229, rounds=264))


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """One run: a case at a learning rate, from a seed."""

    case: Case
    rate: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.case.title}, rate {self.rate:g}, seed {self.seed}"

    def plan(self, model: str) -> Plan:
        return Plan(
            name="convergence", task=TaskRef(name="mnist", digest="0" * 64), data_schema="mnist/1", seed=self.seed,
            model=model, stages=(Stage(driver="averaging", options={"rounds": self.case.rounds}),),
            train=TrainSettings(batch_size=10, learning_rate=self.rate, epochs=self.case.epochs),
            evaluate=EvaluateSettings(every=1), cohort=Cohort(quorum=_SAMPLE, sample=_SAMPLE),
        )  # fmt: skip


def crossing(accuracies: Sequence[float], target: float) -> float | None:
    """Rounds until the best so far reaches `target`, between two rounds on a line; None where it never does."""
    best = np.maximum.accumulate([0.0, *accuracies])
    reached = int(np.argmax(best >= target))
    if best[reached] < target:
        return None
    before = best[reached - 1]
    return float(reached - 1 + (target - before) / (best[reached] - before))


def measure(*, quick: bool, full: bool = False) -> list[Row]:
    """Rounds of the median of three seeds at the best rate; `quick` is heart disease alone, which takes a minute."""
    rows = convergence_heart.measure()
    for case in () if quick else FULL if full else CASES:
        rows += _table2(case)
    return rows


def _table2(case: Case) -> list[Row]:
    first = {rate: Curve(case, rate, _SEEDS[0]) for rate in _RATES}
    curves.compute(_KEPT, list(first.values()), _accuracies)
    best = min(_RATES, key=lambda rate: _rounds(first[rate]))
    chosen = [Curve(case, best, seed) for seed in _SEEDS]
    curves.compute(_KEPT, chosen, _accuracies)
    title = f"{case.title}, rate {best:g}: rounds to {_TARGET:.0%}"
    return [Row.of(title, [_rounds(curve) for curve in chosen], "rounds", _SLACK * case.published, "lower")]


def _rounds(curve: Curve) -> float:
    """One that never gets there counts as more than all it was given."""
    found = crossing(curves.kept(_KEPT)[curve.key], _TARGET)
    return found if found is not None else 2.0 * curve.case.rounds


def _accuracies(curve: Curve) -> list[float]:
    """Accuracy on the test set after each round."""
    began, rounds = time.monotonic(), curve.case.rounds
    shards = _shards(curve)

    def told(round_: int) -> None:
        left = (time.monotonic() - began) / max(1, round_ - 1) * (rounds - round_ + 1) / 60
        sys.stderr.write(f"convergence: {curve.key}: round {round_} of {rounds}, about {left:.0f} minutes left\n")

    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder), UNINTERRUPTED)
        model = blobs.put([first_model(task, curve.seed)])
        plan = curve.plan(model)
        done = simulate(plan, task, shards, blobs, lambda step: told(step.round) if step.kind == "train" else None)
    return [round_.metrics["accuracy"].total / round_.metrics["accuracy"].weight for round_ in done.evaluations]


def dealt(labels: np.ndarray, seed: int, *, iid: bool) -> Parts:
    """Row positions of each partner, as the paper deals them: at random, or two shards of the rows sorted by label."""
    if iid:
        return partition.iid(len(labels), _PARTNERS, seed)
    return partition.sorted_shards(labels, _PARTNERS, 2, seed)


def _shards(curve: Curve) -> list[Shard]:
    train, test = mnist_batch("train", ALL), mnist_batch("test", TEST)
    rows = dealt(train.labels, curve.seed, iid=curve.case.iid)
    held = [*np.array_split(np.arange(len(test.labels)), _SAMPLE), *[np.arange(0)] * (_PARTNERS - _SAMPLE)]
    return [
        Shard(f"p{place:03}", train.take(mine), test.take(out))
        for place, (mine, out) in enumerate(zip(rows, held, strict=True))
    ]
