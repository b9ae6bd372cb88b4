"""Robust rules under attack: handwritten digits dealt to twenty partners, of whom up to 40 % lie, each rule up to the
share that it states. Paired over seeds: rows, first model and order are the same for all rules. Points are kept, so a
run that was broken off goes on where it was."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from aimass.client.data_get import cache_folder, get
from aimass.client.shards import Shard
from aimass.client.tasks.digits import task
from aimass.client.trainer import evaluate
from aimass.proto.contribution import Contribution, Group
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import BadInput
from aimass.proto.plan import EvaluateSettings, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.robust import withstands
from aimass.proto.rows import encode, read_table, require
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.proto.values import Scalar
from aimass.server.aggregation.robust import RobustSums, Singles
from aimass.server.simulate import simulate
from scripts.benches.attacks import ATTACKS, flipped
from scripts.benches.robust_picture import draw
from scripts.benches.row import Row

__all__ = ["Point", "measure"]

RULES: Final = ("mean", "median", "trimmed", "krum", "geometric-median")
_PARTNERS: Final = 20
_ROUNDS: Final = 12
_TEST: Final = 597
_TRAIN: Final = TrainSettings(batch_size=24, learning_rate=0.5, momentum=0.5, epochs=2)
_GARBAGE: Final = "gaussian"
_COST: Final = 1.0
_ELEMENTS: Final = 1_000_000
_KEPT: Final = Path("bench-output") / "robust.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One training: a rule, an attack, how many of the twenty lie, a seed."""

    rule: str
    attack: str
    liars: int
    seed: int

    @property
    def key(self) -> str:
        """What it is kept under: other settings are another point."""
        attack = ATTACKS[self.attack].title if self.liars else "nobody lies"
        return f"{self.rule}, {attack}, {self.liars}, seed {self.seed}, {_ROUNDS} rounds, {_TRAIN.learning_rate:g}"

    @property
    def options(self) -> dict[str, Scalar]:
        """Of the averaging stage. A plan cannot know how many will lie, so one for nobody guards against two."""
        robust: dict[str, Scalar] = {} if self.rule == "mean" else {"rule": self.rule, "tolerated": max(2, self.liars)}
        return {"rounds": _ROUNDS, **robust}


def measure(*, quick: bool, full: bool = False) -> list[Row]:
    """Accuracy in percent of three seeds, six minutes of two free cores; `full`: nine seeds, 30 % too, half an hour."""
    seeds = (1,) if quick else tuple(range(1, 10)) if full else (1, 2, 3)
    shares = (0, 2, 4, 6, 8) if full else (0, 2, 4, 8)
    wanted = [
        Point(rule, attack, liars, seed)
        for seed in seeds
        for liars in shares
        for attack in ATTACKS
        for rule in RULES
        if rule == "mean" or liars <= withstands(rule, _PARTNERS)
    ]
    kept = _trained(wanted)
    found: dict[tuple[str, str, int], list[float]] = {}
    for point in wanted:
        found.setdefault((point.attack, point.rule, point.liars), []).append(kept[point.key])
    picture = Path("docs" if full else "bench-output") / "robust-rules.png"
    draw(found, ATTACKS, RULES, _PARTNERS, picture)
    sys.stderr.write(f"picture: {picture}\n")
    return _gates(found) + _accuracies(found) + _speeds()


def _accuracies(found: Mapping[tuple[str, str, int], Sequence[float]]) -> list[Row]:
    named = {
        f"{attack if liars else 'nobody lies'} {100 * liars // _PARTNERS} %: {rule}": values
        for (attack, rule, liars), values in found.items()
    }
    return [Row.of(name, values, "%", None, "higher") for name, values in sorted(named.items())]


def _gates(found: Mapping[tuple[str, str, int], Sequence[float]]) -> list[Row]:
    """What a tenth of partners that send garbage costs, seed by seed against the plain mean that nobody lies to."""
    clean = found[_GARBAGE, "mean", 0]
    rows = []
    for rule in RULES:
        attacked = found[_GARBAGE, rule, _PARTNERS // 10]
        costs = [one - other for one, other in zip(clean, attacked, strict=True)]
        own = [one - other for one, other in zip(found[_GARBAGE, rule, 0], attacked, strict=True)]
        target = None if rule in ("mean", "krum") else _COST
        rows.append(Row.of(f"10 % garbage costs, against the honest mean: {rule}", costs, "points", target, "lower"))
        rows.append(Row.of(f"10 % garbage costs, against the rule itself: {rule}", own, "points", None, "lower"))
    return rows


# ------------------------------------------------------------------- training


def _trained(points: Sequence[Point]) -> dict[str, float]:
    """All points' accuracies by key; what is not kept yet is trained, a process for each core."""
    kept: dict[str, float] = json.loads(_KEPT.read_text()) if _KEPT.is_file() else {}
    missing = {point.key: point for point in points if point.key not in kept}
    began, said = time.monotonic(), 0.0
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        running = {pool.submit(accuracy, point): key for key, point in missing.items()}
        for done, future in enumerate(concurrent.futures.as_completed(running), 1):
            kept[running[future]] = future.result()
            _KEPT.parent.mkdir(exist_ok=True)
            _KEPT.write_text(json.dumps(kept, indent=1))
            if (taken := time.monotonic() - began) > said + 10 or done == len(missing):
                said = taken
                left = taken * (len(missing) / done - 1)
                sys.stderr.write(f"robust: {done} of {len(missing)} trainings, about {left / 60:.1f} minutes left\n")
    return kept


def accuracy(point: Point) -> float:
    """In percent of the rows that nobody trains on; what a model that is no number any more knows is nothing."""
    shards, test = _dealt(point.seed)
    liars = [shard.participant for shard in shards[_PARTNERS - point.liars :]]
    attack = ATTACKS[point.attack]
    if attack.lie is None:
        shards = [flipped(shard, 10) if shard.participant in liars else shard for shard in shards]
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder), UNINTERRUPTED)
        plan = Plan(
            name="robust", task=TaskRef(name="digits", digest="0" * 64), data_schema="digits/1", seed=point.seed,
            model=blobs.put([first_model(task, point.seed)]), train=_TRAIN, evaluate=EvaluateSettings(every=0),
            stages=(Stage(driver="averaging", options=point.options),),
        )  # fmt: skip
        try:
            made = simulate(plan, task, shards, blobs, protect=attack.protect(liars, point.seed)).model
            measured = evaluate(task, test, Blob(blobs.open(made)), EvaluateSettings()).metrics["accuracy"]
        except BadInput as error:
            if error.code not in ("trainer.diverged", "model.not_finite"):
                raise
            return 0.0
    return 100 * measured.total / measured.weight


@functools.cache
def _dealt(seed: int) -> tuple[list[Shard], Shard]:
    """The partners' shards, in equal parts, and the rows that the model is measured on."""
    with (get("digits", cache_folder())[0] / "digits.parquet").open("rb") as file:
        table = require(read_table(task.schema, [file], "parquet"))
    order = np.random.default_rng(seed).permutation(table.rows)

    def batch(rows: np.ndarray) -> object:
        return encode(table.take(np.isin(np.arange(table.rows), rows)))

    nobody = batch(order[:0])
    parts = np.array_split(order[_TEST:], _PARTNERS)
    shards = [Shard(f"p{place:02}", batch(part), nobody) for place, part in enumerate(parts)]  # type: ignore[arg-type]
    return shards, Shard("test", nobody, batch(order[:_TEST]))  # type: ignore[arg-type]


# ------------------------------------------------------------------- speed


def _speeds() -> list[Row]:
    """Seconds in which a rule's value of twenty updates of a million elements is there, all of them in memory."""
    chance = np.random.default_rng(1)
    made = [
        Contribution({"update": Group(1.0, {"w": chance.normal(size=_ELEMENTS).astype(np.float32)})}, {}, {})
        for _ in range(_PARTNERS)
    ]
    rows = []
    for rule in (*RULES[1:], "multi-krum", "clipped"):
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            RobustSums(Singles(made), rule, 2).total("update", "w")
            taken.append(time.perf_counter() - began)
        rows.append(Row.of(f"20 x 1 M: {rule}", taken, "s", None, "lower"))
    return rows
