"""Shards leave their store as partners' folders, so that real partners train on the very same rows.

A folder is what `aimass data partition` makes: a simulation reads it as a whole, and a partner declares its own part
under the participant and salt of its manifest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from aimass.proto.data_sets import DataSetManifest, ShardEntry, shard_manifest
from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.hashing import file_digest
from aimass.proto.manifest import shard_manifest_text
from aimass.proto.sharding import RECORD, ShardRecord, Shards, Split
from aimass.proto.values import canonical_json
from aimass.server.datasets.replicas import Replicas

__all__ = ["chosen", "export"]

_RANGE = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")


def chosen(data_set: DataSetManifest, text: str) -> tuple[ShardEntry, ...]:
    """The shards that a person named: `all`, or numbers and ranges as in `1-4,7`; raises `BadInput`."""
    if text == "all":
        return data_set.shards
    numbers: set[int] = set()
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= first <= last <= len(data_set.shards):
            raise BadInput(
                "no such shards",
                code="dataset.shards",
                value=part,
                limit=f"all, or of 1 to {len(data_set.shards)} as in 1-4,7",
            )
        numbers.update(range(first, last + 1))
    return tuple(data_set.shards[number - 1] for number in sorted(numbers))


def export(
    replicas: Replicas,
    data_set: DataSetManifest,
    shards: Sequence[ShardEntry],
    folder: Path,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Shards:
    """Write shards as `PARTICIPANT/NAME.parquet`, each with its manifest; what stands there already is left.

    Raises `Conflict` for a folder that holds others, and what the last store does that has no true copy of a shard.
    """
    wanted = Shards(
        data_schema=data_set.data_schema.name,
        split=Split(rule="natural", seed=data_set.split.seed),
        held_out=data_set.held_out,
        person=data_set.person,
        sources=tuple(shard.sha256 for shard in shards),
        shards=tuple(_record(shard) for shard in shards),
    )
    record = make_folder(folder) / RECORD
    if record.exists() and record.read_bytes() != canonical_json(wanted):
        raise Conflict(
            "other shards stand in this folder", code="dataset.exported", value=folder, cure="Name another folder."
        )
    done, of = 0, sum(shard.size for shard in shards)
    for shard in shards:
        _export(replicas, data_set, shard, make_folder(folder / shard.participant))
        done += shard.size
        progress(done, of)
    write_file(record, canonical_json(wanted), UNINTERRUPTED, "export.record", 0o644)
    return wanted


def _export(replicas: Replicas, data_set: DataSetManifest, shard: ShardEntry, folder: Path) -> None:
    path = folder / f"{data_set.name}.parquet"
    if not (path.is_file() and file_digest(path) == shard.sha256):
        replicas.fetch(shard, path)
    fields = msgspec.structs.asdict(shard_manifest(data_set, shard, path.name))
    text = shard_manifest_text(fields, "the shard's manifest")
    write_file(path.with_suffix(".toml"), text.encode(), UNINTERRUPTED, "export.manifest", 0o644)


def _record(shard: ShardEntry) -> ShardRecord:
    return ShardRecord(
        partner=shard.participant,
        participant=shard.participant,
        salt=shard.salt,
        rows=shard.rows,
        labels=shard.labels,
        sha256=shard.sha256,
    )
