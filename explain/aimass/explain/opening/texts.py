"""An analyst's texts: CSV or Parquet by a task's schema, or what shards hold out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aimass.explain.opening.shards import shards_in, table_of
from aimass.explain.opening.tables import PARTNER, NamedFile, named_files
from aimass.explain.texts import Texts, texts_of_table
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema

__all__ = ["open_texts"]


def open_texts(named: Sequence[str], schema: Schema | None, *, held_out: bool | None = None) -> Texts:
    """Texts of files that are named as `PATH`, `NAME=PATH`, a folder, or a set that `aimass data get` has fetched.

    A folder of shards, as `aimass data partition` and `aimass simulate` write them, means the texts that each partner
    holds out: never one that was trained on. Raises `BadInput` for cells that do not fit the schema, by row and column,
    never by what stands there.
    """
    if schema is None:
        raise BadInput("nobody says what these texts are", code="explain.text_schema", cure="Give --task NAME.")
    if shards := shards_in(named):
        return _joined([_read(schema, file) for file in shards], Path(named[0]).name, held_out=True)
    files = [file for one in named for file in named_files(one)]
    if not files:
        raise BadInput("no file of texts is named", code="explain.rows", cure="Give --rows FILE, or --rows NAME=FILE.")
    parts = [_read(schema, file) for file in files]
    names = list(dict.fromkeys(part.name for part in parts))
    return _joined(parts, " + ".join(names) if len(names) < 4 else f"{len(names)} files", held_out)


def _read(schema: Schema, file: NamedFile) -> Texts:
    table, counts = table_of(schema, file)
    return texts_of_table(table, file.name).take(counts)


def _joined(parts: Sequence[Texts], name: str, held_out: bool | None) -> Texts:
    """All texts under one name; labels where all parts have them."""
    labels = [part.labels for part in parts if part.labels is not None]
    return Texts(
        tuple(text for part in parts for text in part.texts),
        parts[0].classes,
        np.concatenate(labels) if len(labels) == len(parts) else None,
        name,
        held_out,
        {PARTNER: np.array([part.name for part in parts for _ in part.texts], object)},
    )
