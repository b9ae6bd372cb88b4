"""What federation costs and brings on heart disease: four hospitals together, pooled and alone, over twenty splits."""

from __future__ import annotations

import hashlib
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scipy.stats import t as student

from aimass.client.data_get import cache_folder, get
from aimass.client.shards import Shard, open_shard
from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import PlanDraft, read_plan_draft
from aimass.proto.storage import FileBlobs
from aimass.proto.task import Task, first_model, load, locate
from scripts.benches.row import Row
from scripts.demos import ways
from scripts.demos.plans import PLANS

__all__ = ["difference", "measure"]

_HOSPITALS: Final = ("cleveland", "hungarian", "long-beach", "switzerland")
_SEEDS: Final = 20
_ROUNDS: Final = 20


def measure() -> list[Row]:
    """AUC on held-out rows, weighted by rows, in points: paired differences with their 95 % intervals."""
    task = load(locate("heart"))
    found = [_three_ways(task, seed) for seed in range(1, _SEEDS + 1)]
    sys.stderr.write(f"convergence: heart disease, {_SEEDS} splits done\n")
    together, pooled, alone = zip(*found, strict=True)
    return [
        Row.of("heart, federated: AUC", together, "points", None, "higher"),
        difference("heart, federated minus pooled: AUC", together, pooled),
        difference("heart, federated minus alone: AUC", together, alone),
    ]


def difference(title: str, above: Sequence[float], below: Sequence[float]) -> Row:
    """The mean of paired differences, and Student's 95 % interval of it."""
    paired = [one - other for one, other in zip(above, below, strict=True)]
    mean = statistics.fmean(paired)
    half = float(student.ppf(0.975, len(paired) - 1)) * statistics.stdev(paired) / math.sqrt(len(paired))
    return Row(f"{title} (mean, 95 %)", mean, "points", (mean - half, mean + half), None, None, "higher")


def _three_ways(task: Task, seed: int) -> tuple[float, float, float]:
    """Of one split: the same code, rounds and steps three times, the demo's plan without secrecy."""
    draft: PlanDraft = read_plan_draft(PLANS["none"].format(seed=seed, rounds=_ROUNDS))
    shards = [_shard(task, name, seed) for name in _HOSPITALS]
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder), UNINTERRUPTED)
        plan = draft.complete("0" * 64, blobs.put([first_model(task, seed)]))
        made = [way(plan, task, shards, blobs) for way in (ways.together, ways.pooled, ways.alone)]
    return 100 * made[0].weighted, 100 * made[1].weighted, 100 * made[2].weighted


def _shard(task: Task, name: str, seed: int) -> Shard:
    path = get("heart", cache_folder())[0] / f"{name}.parquet"
    manifest = ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant=name,
        salt=hashlib.sha256(f"{seed} {name}".encode()).hexdigest(), held_out=0.3,
    )  # fmt: skip
    with path.open("rb") as file:
        return open_shard(task.schema, manifest, [file])[0]
