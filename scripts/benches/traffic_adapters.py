"""Adapters against all of the encoder on the reviews: bytes up, and what is learnt from the same rows.

Four partners, a domain each, some of its rows alone, by which two ways to train one encoder are compared in minutes.
All of an encoder wants a learning rate that is far smaller than adapters want.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import torch

from aimass.client.data_get import cache_folder, get
from aimass.client.shards import Shard
from aimass.client.tasks.reviews import Classifier, Reviews
from aimass.proto.bases import BaseFolder
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.encoder import SentenceEncoder
from aimass.proto.methods import UPDATE, training_groups
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings
from aimass.proto.rows import Table, encode, read_table, require
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob, Layout, TensorSpec
from aimass.server.simulate import simulate
from scripts.benches.row import Row

__all__ = ["measure"]

_DOMAINS: Final = ("editorials", "films", "products", "tweets")
_TRAIN: Final = 128
_HELD_OUT: Final = 200
_ROUNDS: Final = 2
_SEEDS: Final = (1, 2)
_TIMES_FEWER: Final = 50


class Whole(Reviews):
    """The same model, and all of it is trained and sent."""

    def build(self) -> torch.nn.Module:
        encoder = SentenceEncoder(self.sizes)
        base = self.base_blob()
        encoder.load_state_dict({name: base.torch(name) for name in base.layout.by_name})
        return Classifier(encoder, self.sizes.width)


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A task with its learning rate, and what it came to over the seeds."""

    task: Reviews
    rate: float

    def bytes_up(self) -> int:
        """Of one partner's update."""
        shapes = training_groups("plain", Blob(first_model(self.task, 1)).layout)[UPDATE]
        return Layout.of(TensorSpec(name, dtype, shape) for name, (dtype, shape) in shapes.items()).total_bytes

    def auc(self, seed: int) -> float:
        """Of the last model, over all held-out rows, in points."""
        with tempfile.TemporaryDirectory() as folder:
            blobs = FileBlobs(Path(folder), UNINTERRUPTED)
            plan = Plan(
                name="reviews",
                task=TaskRef(name="reviews", digest="0" * 64),
                data_schema=self.task.schema.name,
                seed=seed,
                model=blobs.put([first_model(self.task, seed)]),
                train=TrainSettings(batch_size=16, learning_rate=self.rate, optimizer="adam", epochs=1),
                evaluate=EvaluateSettings(every=_ROUNDS),
                cohort=Cohort(quorum=len(_DOMAINS)),
                stages=(Stage(driver="averaging", options={"rounds": _ROUNDS}),),
            )
            done = simulate(plan, self.task, [_shard(self.task, domain, seed) for domain in _DOMAINS], blobs)
        metric = done.evaluations[-1].metrics["auc"]
        return 100 * metric.total / metric.weight


def measure(*, quick: bool) -> list[Row]:
    """Megabytes up of one partner's update, how many times fewer, and the AUC that each way comes to."""
    seeds = _SEEDS[:1] if quick else _SEEDS
    with tempfile.TemporaryDirectory() as folder:
        bases = BaseFolder(Path(folder))
        bases.add("minilm", get("encoder", cache_folder())[0] / "minilm.safetensors")
        adapted, whole = Way(Reviews().on(bases), 5e-3), Way(Whole().on(bases), 1e-4)
        sent, all_sent = adapted.bytes_up(), whole.bytes_up()
        found = []
        for seed in seeds:
            found.append((adapted.auc(seed), whole.auc(seed)))
            sys.stderr.write(f"traffic: reviews, seed {seed}: adapters {found[-1][0]:.1f}, all {found[-1][1]:.1f}\n")
    few, many = zip(*found, strict=True)
    lost = [other - one for one, other in found]
    return [
        Row.of("reviews, all of the encoder: up", [all_sent / 1e6], "MB", None, "lower"),
        Row.of("reviews, adapters: up", [sent / 1e6], "MB", None, "lower"),
        Row.ratio("reviews, all / adapters: bytes up", [all_sent], [sent], _TIMES_FEWER, "higher"),
        Row.of("reviews, all of the encoder: AUC", many, "points", None, "higher"),
        Row.of("reviews, adapters: AUC", few, "points", None, "higher"),
        Row.of("reviews, adapters: AUC lost", lost, "points", 1.0, "lower"),
    ]


def _shard(task: Reviews, domain: str, seed: int) -> Shard:
    """Rows of one domain by chance."""
    table = _rows(task, domain)
    order = np.random.default_rng(seed).permutation(table.rows)
    train, held = order[:_TRAIN], order[_TRAIN : _TRAIN + _HELD_OUT]
    return Shard(domain, encode(table.take(train)), encode(table.take(held)))


def _rows(task: Reviews, domain: str) -> Table:
    with (get("reviews", cache_folder())[0] / f"{domain}.parquet").open("rb") as file:
        return require(read_table(task.schema, [file], "parquet"))
