"""The one module that opens training data: a partner's shard, checked against the task's schema and split once.

It runs in the training child, which is handed read-only descriptors, and in offline training and simulation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Schema, ShardManifest
from aimass.proto.rows import Batch, Report, Table, check, encode, held_out_mask, read_table, require

__all__ = ["Shard", "check_schema", "make_shard", "open_shard", "read_rows", "resolve"]


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Rows of one participant: `train` and `held_out` never share a row position, nor a person where those are known.

    `persons` [training rows] says whose each row is by a number from 0 on, without a gap; names end here.
    """

    participant: str
    train: Batch
    held_out: Batch
    persons: npt.NDArray[np.int64] | None = None

    @property
    def person_count(self) -> int:
        """How many persons there are to train on; 0 where the data set does not say whose its rows are."""
        return 0 if self.persons is None else int(self.persons.max()) + 1


def resolve(manifest: ShardManifest, folder: Path) -> tuple[Path, ...]:
    """The files of a manifest that stands in `folder`, and of one for apps its folders too; raises `NotFound` for one
    that is not there."""
    paths = tuple(folder / (unquote(urlsplit(uri).path) if uri.startswith("file://") else uri) for uri in manifest.uris)
    for path in paths:
        if not (path.is_file() or (manifest.format == "files" and path.is_dir())):
            cure = "Correct `--uri`, or `uris` in the data set's file."
            raise NotFound("a data file is not there", code="shard.file", value=path.name, cure=cure)
    return paths


def check_schema(manifest: ShardManifest, schema: Schema) -> None:
    """Raise `BadInput` where a data set was declared under another schema than the task's."""
    if manifest.data_schema != schema.name:
        raise BadInput(
            "the data set has another schema", code="shard.schema", value=manifest.data_schema, limit=schema.name
        )


def open_shard(schema: Schema, manifest: ShardManifest, files: Sequence[IO[bytes]]) -> tuple[Shard, Report]:
    """Read, check and split a shard; raises `BadInput` where a cell, a column or the schema does not fit."""
    check_schema(manifest, schema)
    table = read_rows(schema, manifest, files)
    report = check(table)
    return make_shard(require(table), manifest), report


def read_rows(schema: Schema, manifest: ShardManifest, files: Sequence[IO[bytes]]) -> Table:
    """A manifest's rows, as they are; raises `BadInput` where they cannot be read."""
    return read_table(schema, files, manifest.format, manifest.person)


def make_shard(table: Table, manifest: ShardManifest) -> Shard:
    """Split a checked table by the manifest's salt; raises `BadInput` where nothing is left to train on."""
    salt, independent = bytes.fromhex(manifest.salt), manifest.split == "independent"
    held = held_out_mask(table, salt, manifest.held_out, independent=independent)
    if held.all():
        raise BadInput("no rows are left to train on", code="shard.no_training_rows", value=table.rows)
    train = table.take(~held)
    persons = None if train.persons is None else np.unique(train.persons, return_inverse=True)[1].astype(np.int64)
    return Shard(manifest.participant, encode(train), encode(table.take(held)), persons)
