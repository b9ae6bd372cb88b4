"""Data sets on object storage for tests, made of the shards of `aimass data partition` without the splitter."""

from __future__ import annotations

from pathlib import Path

from aimass.proto.data_sets import (
    DataSetManifest,
    Lineage,
    Quality,
    ShardEntry,
    SplitRule,
    labels_of,
    shard_key,
    version_key,
)
from aimass.proto.objects import ObjectStore
from aimass.proto.sharding import load_shards
from aimass.proto.task import load, locate
from aimass.proto.values import canonical_json

__all__ = ["registered"]


def registered(store: ObjectStore, task: str, shards: Path, version: int = 1) -> DataSetManifest:
    """A version of the data set named as its task, over a folder of shards: the same rows, keys and salts."""
    held = load_shards(shards)
    entries = []
    for number, shard in enumerate(held.shards, start=1):
        (path,) = (shards / shard.partner).glob("*.parquet")
        data = path.read_bytes()
        store.put(shard_key(task, shard.sha256), data)
        entries.append(
            ShardEntry(
                number=number,
                participant=shard.participant,
                salt=shard.salt,
                rows=shard.rows,
                size=len(data),
                sha256=shard.sha256,
                labels=shard.labels,
            )
        )
    rows = sum(shard.rows for shard in held.shards)
    manifest = DataSetManifest(
        name=task,
        version=version,
        data_schema=load(locate(task)).schema,
        split=SplitRule(rule="files"),
        held_out=held.held_out,
        shards=tuple(entries),
        rows=rows,
        labels=labels_of(entries),
        statistics=(),
        quality=Quality(rows_read=rows, dropped=0, findings={}, duplicates=0, leaked=0),
        lineage=Lineage(sources=(), job="0" * 64, tool="tests"),
        licence="",
        created_at=0.0,
    )
    store.create(version_key(task, version), canonical_json(manifest))
    return manifest
