"""An analyst's texts: CSV, Parquet or lines of JSON by a task's schema."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aimass.explain.opening.tables import PARTNER, check_cells, named_files
from aimass.explain.texts import Texts, texts_of_table
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.rows import read_table

__all__ = ["open_texts"]


def open_texts(named: Sequence[str], schema: Schema | None, *, held_out: bool | None = None) -> Texts:
    """Texts of files that are named as `PATH`, `NAME=PATH`, a folder, or a set that `aimass data get` has fetched.

    Raises `BadInput` for cells that do not fit the schema, by row and column, never by what stands there.
    """
    if schema is None:
        raise BadInput("nobody says what these texts are", code="explain.text_schema", cure="Give --task NAME.")
    files = [file for one in named for file in named_files(one)]
    if not files:
        raise BadInput("no file of texts is named", code="explain.rows", cure="Give --rows FILE, or --rows NAME=FILE.")
    parts = []
    for file in files:
        with file.path.open("rb") as source:
            table = read_table(schema, [source], file.format, unlabelled=True)
        check_cells(table, file)
        parts.append(texts_of_table(table, file.name))
    labels = [part.labels for part in parts if part.labels is not None]
    names = list(dict.fromkeys(part.name for part in parts))
    return Texts(
        tuple(text for part in parts for text in part.texts),
        schema.classes,
        np.concatenate(labels) if len(labels) == len(parts) else None,
        " + ".join(names) if len(names) < 4 else f"{len(names)} files",
        held_out,
        {PARTNER: np.array([part.name for part in parts for _ in part.texts], object)},
    )
