"""The two ways to compare with: each hospital by itself, and all rows in one place; same code, same budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from aimass.client.shards import Shard, open_shard, resolve
from aimass.proto.manifest import read_shard_manifest
from aimass.proto.plan import Cohort, Plan
from aimass.proto.rows import Batch
from aimass.proto.storage import FileBlobs
from aimass.proto.task import Task, first_model
from aimass.server.simulate import Simulated, simulate


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """AUC of the last model over the held-out rows: by partner, and weighted by rows; undefined ones left out."""

    weighted: float
    by_partner: dict[str, float]
    curve: tuple[float, ...]


def read_shards(
    folder: Path, partners: Sequence[str], task: Task, *, data_set: str = "heart", budgeted: bool = False
) -> list[Shard]:
    """The partners' own shards, through the partners' own reader and split; with a budget it is made row by row."""
    shards = []
    for partner in partners:
        place = folder / partner / "data"
        manifest = read_shard_manifest((place / f"{data_set}.toml").read_text(), "the demo's data set")
        if budgeted:
            manifest = msgspec.structs.replace(manifest, split="independent")
        files = [path.open("rb") for path in resolve(manifest, place)]
        shards.append(open_shard(task.schema, manifest, files)[0])
        for file in files:
            file.close()
    return shards


def weighted(auc: Mapping[str, float], rows: Mapping[str, int]) -> float:
    """Mean weighted by held-out rows, over the partners where it is defined."""
    return sum(auc[name] * rows[name] for name in auc) / sum(rows[name] for name in auc)


def held_out_rows(shards: Sequence[Shard]) -> dict[str, int]:
    """Held-out rows by participant."""
    return {shard.participant: len(shard.held_out.labels) for shard in shards}


def alone(plan: Plan, task: Task, shards: Sequence[Shard], blobs: FileBlobs) -> Way:
    """Each hospital trains its own model on its own rows."""
    runs = {shard.participant: _run(plan, task, [shard], blobs) for shard in shards}
    return _way(runs, held_out_rows(shards))


def together(plan: Plan, task: Task, shards: Sequence[Shard], blobs: FileBlobs) -> Way:
    """All hospitals in one process: the model of a federated run of the same plan."""
    made = _run(plan, task, shards, blobs)
    return _way({shard.participant: made for shard in shards}, held_out_rows(shards))


def pooled(plan: Plan, task: Task, shards: Sequence[Shard], blobs: FileBlobs) -> Way:
    """One model on all rows; evaluated on each hospital's held-out rows."""
    one = Shard("pooled", _joined([shard.train for shard in shards]), shards[0].held_out)
    runs = {}
    for shard in shards:
        runs[shard.participant] = _run(plan, task, [dataclasses.replace(one, held_out=shard.held_out)], blobs)
    return _way(runs, held_out_rows(shards))


def _run(plan: Plan, task: Task, shards: Sequence[Shard], blobs: FileBlobs) -> Simulated:
    blobs.put([first_model(task, plan.seed)])
    solo = msgspec.structs.replace(plan, cohort=Cohort(quorum=1), secure=None)
    return simulate(solo, task, shards, blobs)


def _way(runs: Mapping[str, Simulated], rows: Mapping[str, int]) -> Way:
    rounds = len(next(iter(runs.values())).evaluations)
    by_round = [
        {
            name: figures["auc"]
            for name, run in runs.items()
            for whose, figures in run.evaluations[position].figures.items()
            if "auc" in figures and whose in (name, "pooled")
        }
        for position in range(rounds)
    ]
    curve = tuple(weighted(auc, rows) for auc in by_round)
    return Way(curve[-1], by_round[-1], curve)


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.numbers for batch in batches]),
        np.concatenate([batch.categories for batch in batches]),
        None,
        np.concatenate([batch.labels for batch in batches]),
    )
