"""An analyst's images: Parquet files by a task's schema, or the held-out part of shards, with what stands beside them.

Some columns beside the schema's mean something: `source` (which photograph, or whose body, an image is a part of),
`instances` (bytes, the single things of an image from 1), `slice` (the place in one body, which makes images a volume)
with `slice_mm`, `row_mm` and `column_mm` (a voxel's size). All others are only carried along.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.images import SLICE, Images, images_of_table
from aimass.explain.opening.shards import shards_in, table_of
from aimass.explain.opening.tables import PARTNER, NamedFile, named_files
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.rows import unreadable

__all__ = ["open_images"]

Array = npt.NDArray[Any]
_INSTANCES: Final = "instances"
_SPACING: Final = ("slice_mm", "row_mm", "column_mm")


def open_images(named: Sequence[str], schema: Schema | None, *, held_out: bool | None = None) -> Images:
    """Images of files that are named as `PATH`, `NAME=PATH`, a folder, or a set that `aimass data get` has fetched.

    A folder of shards, as `aimass data partition` and `aimass simulate` write them, means the rows that each partner
    holds out: never one that was trained on. Raises `BadInput` for cells that do not fit the schema, by row and column.
    """
    if schema is None:
        raise BadInput("nobody says what these images are", code="explain.image_schema", cure="Give --task NAME.")
    if shards := shards_in(named):
        return _joined([_read(schema, file) for file in shards], Path(named[0]).name, held_out=True)
    files = [file for one in named for file in named_files(one)]
    if not files:
        raise BadInput("no file of images is named", code="explain.rows", cure="Give --rows FILE, or --rows NAME=FILE.")
    names = list(dict.fromkeys(file.name for file in files))
    parts = [_read(schema, file) for file in files]
    return _joined(parts, " + ".join(names) if len(names) < 4 else f"{len(names)} files", held_out)


def _read(schema: Schema, file: NamedFile) -> Images:
    table, counts = table_of(schema, file)
    images = images_of_table(table, file.name)
    beside = _beside(file, schema, images)
    instances = beside.pop(_INSTANCES, None)
    more = {**beside, PARTNER: np.full(len(images), file.name, object)}
    return dataclasses.replace(images, instances=instances, beside=more).take(counts)


def _beside(file: NamedFile, schema: Schema, images: Images) -> dict[str, Array]:
    """Columns beside the schema's by name; bytes are none, but for instances of as many pixels as the images have."""
    import pyarrow as pa  # noqa: PLC0415  (only who reads files pays)
    from pyarrow import csv, parquet  # noqa: PLC0415

    try:
        arrow = parquet.read_table(file.path) if file.format == "parquet" else csv.read_csv(file.path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file.format, error) from error
    known = {column.name for column in (*schema.columns, schema.label)}
    found: dict[str, Array] = {}
    for name in arrow.column_names:
        cells, kind = arrow.column(name), arrow.column(name).type
        if name == _INSTANCES:
            found[name] = _instances(cells.to_pylist(), images)
        elif name not in known and not pa.types.is_binary(kind) and not pa.types.is_nested(kind):
            found[name] = np.array(cells.to_pylist())
    return found


def _instances(cells: Sequence[object], images: Images) -> npt.NDArray[np.int32]:
    size = images.height * images.width
    if any(not isinstance(cell, bytes) or len(cell) != size for cell in cells):
        raise BadInput("instances are not a byte for each pixel", code="explain.images", limit=f"{size} bytes")
    whole = np.frombuffer(b"".join(cells), np.uint8)  # type: ignore[arg-type]
    return whole.reshape(len(cells), images.height, images.width).astype(np.int32)


def _joined(parts: Sequence[Images], name: str, held_out: bool | None) -> Images:
    """All images under one name, in the order of their slices where they are one volume's."""
    first = parts[0]
    shared = set.intersection(*(set(part.beside) for part in parts))
    beside = {
        column: np.concatenate([part.beside[column] for part in parts]) for column in first.beside if column in shared
    }
    images = dataclasses.replace(
        first,
        pixels=np.concatenate([part.pixels for part in parts]),
        labels=_all([part.labels for part in parts]),
        masks=_all([part.masks for part in parts]),
        instances=_all([part.instances for part in parts]),
        name=name,
        held_out=held_out,
        beside=beside,
    )
    if SLICE not in beside:
        return images
    return dataclasses.replace(images.take(np.argsort(beside[SLICE], kind="stable")), volume=True, **_voxel(beside))


def _all(parts: Sequence[Array | None]) -> Any:
    """One array of all, or none where one lacks it."""
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _voxel(beside: Mapping[str, Array]) -> dict[str, Any]:
    """A voxel's size in millimetres, where all slices have the same."""
    sizes = [np.unique(beside[axis]) for axis in _SPACING if axis in beside]
    if len(sizes) < len(_SPACING) or any(len(size) != 1 for size in sizes):
        return {}
    return {"spacing": tuple(float(size[0]) for size in sizes), "unit": "mm"}
