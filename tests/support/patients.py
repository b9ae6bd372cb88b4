"""Patients of chance with several visits each: rows of the heart task that say whose they are."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.heart import task
from aimass.proto.manifest import ShardManifest

__all__ = ["manifest", "shard_of", "visits"]

HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease,patient"


def visits(counts: Sequence[int], seed: int = 1) -> str:
    """CSV: so many rows of each patient, those of patient `p003` the same whoever else is there."""
    lines = [HEADER]
    for person, count in enumerate(counts):
        chance = np.random.default_rng([seed, person])
        lines += [
            f"{chance.integers(30, 80)},Male,asymptomatic,{chance.integers(90, 180)},{chance.integers(150, 350)},false,"
            f"normal,{chance.integers(90, 180)},true,{chance.random():.2f},flat,0,normal,"
            f"{chance.choice(['no', 'yes'])},p{person:03}"
            for _ in range(count)
        ]
    return "\n".join([*lines, ""])


def manifest(held_out: float = 0.0, person: str | None = "patient") -> ShardManifest:
    """Of the file `rows.csv`."""
    return ShardManifest(
        name="heart", data_schema="heart/1", uris=("rows.csv",), format="csv", participant="a", salt="00" * 32,
        held_out=held_out, person=person,
    )  # fmt: skip


def shard_of(counts: Sequence[int], held_out: float = 0.0, seed: int = 1) -> Shard:
    """A shard of such patients."""
    rows = io.BytesIO(visits(counts, seed).encode())
    return open_shard(task.schema, manifest(held_out), [rows])[0]
