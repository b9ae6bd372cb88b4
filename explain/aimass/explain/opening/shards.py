"""Rows that partners hold out of their shards, by the shards' manifests: never one that was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aimass.explain.opening.tables import NamedFile, check_cells
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema, ShardManifest, read_shard_manifest
from aimass.proto.rows import Table, held_out_mask, read_table

__all__ = ["HeldFile", "shards_in", "table_of"]


@dataclasses.dataclass(frozen=True)
class HeldFile(NamedFile):
    """A file of a shard, which says what of it is held out; the name is that of its participant."""

    shard: ShardManifest


def shards_in(named: Sequence[str]) -> list[HeldFile]:
    """The files of a folder of shards, as `aimass data partition` and `aimass simulate` write them; of others none.

    Raises `BadInput` where more is named beside: what is held out and what may not be would be told as one.
    """
    manifests = [manifest for one in named for manifest in sorted(Path(one).glob("*/*.toml"))]
    if manifests and len(named) > 1:
        raise BadInput("shards are named alone", code="explain.rows", value=", ".join(named))
    found = []
    for manifest in manifests:
        shard = read_shard_manifest(manifest.read_text("utf-8"), manifest.name)
        found += [HeldFile(shard.participant, manifest.parent / uri, shard) for uri in shard.uris]
    return found


def table_of(schema: Schema, file: NamedFile) -> tuple[Table, npt.NDArray[np.bool_]]:
    """A file's cells, and bool [rows] which rows count: of a shard those that are held out, else all.

    Raises `BadInput` for cells that do not fit the schema, by row and column.
    """
    shard = file.shard if isinstance(file, HeldFile) else None
    person = None if shard is None else shard.person
    with file.path.open("rb") as source:
        table = read_table(schema, [source], file.format, person, unlabelled=shard is None)
    check_cells(table, file)
    if shard is None:
        return table, np.ones(table.rows, bool)
    independent = shard.split == "independent"
    return table, held_out_mask(table, bytes.fromhex(shard.salt), shard.held_out, independent=independent)
