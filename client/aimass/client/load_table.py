"""A table of any size from a real one: for load, not for quality.

A row is one of the source's, drawn with replacement, with a little of its own: numbers move by up to one per cent of
their column's standard deviation, within the source's range; pixels by their lowest bit. Categories, texts, small
integers, masks (bytes of few values) and gaps stay. So columns keep their ranges, and almost no two rows are equal; but
whatever is learnt from the table was in its source, and figures of a model's quality say nothing.

Rows are drawn in blocks, each from a stream of its own, so that a larger table begins with the rows of a smaller one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file, write_parts
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.hashing import file_digest
from aimass.proto.values import Value, canonical_json, convert, decode_json

__all__ = ["BLOCK", "Made", "Source", "block", "grow", "made_of", "read_source"]

BLOCK: Final = 16_384
"""Rows that are in memory at once, and a row group of the files."""
_FILE_BLOCKS: Final = 64
_MOST_ROWS: Final = 10**11
_JITTER: Final = 0.01
_FEW_VALUES: Final = 12
"""Bytes of no more are places of something, and no brightness."""
_RECORD: Final = "generated.json"


class Made(Value, frozen=True):
    """What decides the bytes of a table that was generated; with it the same table is made again."""

    sources: tuple[str, ...]
    rows: Annotated[int, msgspec.Meta(ge=1, le=_MOST_ROWS)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0

    @property
    def files(self) -> int:
        """How many files it is written to."""
        return math.ceil(self.rows / (BLOCK * _FILE_BLOCKS))


@dataclasses.dataclass(frozen=True, slots=True)
class _Move:
    """How far a number may move, and between what it stays."""

    step: float
    least: float
    most: float


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The real rows, an Arrow table, and how far the numbers of its columns move."""

    table: Any
    moves: Mapping[str, _Move]

    def rows_of(self, size: int) -> int:
        """So many rows that a table like it holds at least `size` bytes in memory, as Arrow holds it."""
        return max(1, math.ceil(size * int(self.table.num_rows) / int(self.table.nbytes)))


def read_source(paths: Sequence[Path]) -> Source:
    """The real rows; raises `BadInput` where there are none, or the files do not fit together."""
    import pyarrow as pa  # noqa: PLC0415  (a hundred milliseconds that only who reads rows pays)
    from pyarrow import csv, parquet  # noqa: PLC0415

    try:
        parts = [
            parquet.read_table(path, use_threads=False)
            if path.suffix.lower() == ".parquet"
            else csv.read_csv(path, csv.ReadOptions(use_threads=False))
            for path in paths
        ]
        table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise BadInput(
            "the source cannot be read as one table",
            code="generate.source",
            value=", ".join(path.name for path in paths),
            cure="Name CSV or Parquet files with equal columns.",
        ) from error
    if table.num_rows == 0 or table.num_columns == 0:
        raise BadInput("the source has no rows", code="generate.empty", value=", ".join(path.name for path in paths))
    moves = {name: move for name in table.column_names if (move := _moves(table.column(name))) is not None}
    return Source(table, moves)


def block(source: Source, seed: int, number: int, rows: int = BLOCK) -> Any:
    """The first `rows` of block `number` of the table that `seed` makes of `source`, as an Arrow table."""
    import pyarrow as pa  # noqa: PLC0415  (as in `read_source`)

    rng = np.random.Generator(np.random.PCG64([seed, number]))
    drawn = source.table.take(pa.array(rng.integers(0, source.table.num_rows, BLOCK)))
    columns = {name: _moved(drawn.column(name), source.moves.get(name), rng) for name in drawn.column_names}
    return pa.table(columns).slice(0, rows)


def _moves(column: Any) -> _Move | None:
    """How far the numbers of a column move; integers only where that is one or more, and pixels by one."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import compute  # noqa: PLC0415

    if _is_bytes(column.type):
        return None if _is_mask(column) else _Move(1.0, 0.0, 255.0)
    whole = pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type)
    if not (whole or pa.types.is_float32(column.type) or pa.types.is_float64(column.type)):
        return None
    step = _JITTER * (compute.stddev(column).as_py() or 0.0)
    if not math.isfinite(step) or step == 0.0 or (whole and step < 1.0):
        return None
    ends = compute.min_max(column)
    return _Move(step, ends["min"].as_py(), ends["max"].as_py())


def _moved(drawn: Any, move: _Move | None, rng: np.random.Generator) -> Any:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import compute  # noqa: PLC0415

    kind = drawn.type
    if move is None:
        return drawn
    if _is_bytes(kind):
        return pa.array([_pixels(value, rng) for value in drawn.to_pylist()], kind)
    held, gaps = compute.fill_null(drawn, 0).to_numpy(), compute.is_null(drawn).to_numpy()
    way = rng.uniform(-move.step, move.step, len(held))
    near = held + way if held.dtype.kind == "f" else held.astype(np.int64) + np.rint(way).astype(np.int64)
    return pa.array(np.clip(near, move.least, move.most).astype(held.dtype), kind, mask=gaps)


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_mask(column: Any) -> bool:
    """Whether its bytes have few values: a mask's places, the numbers of instances."""
    seen: set[int] = set()
    for cell in column:
        seen |= set(cell.as_py() or b"")
        if len(seen) > _FEW_VALUES:
            return False
    return True


def _pixels(value: bytes | None, rng: np.random.Generator) -> bytes | None:
    if value is None:
        return None
    held = np.frombuffer(value, np.uint8)
    return bytes((held ^ rng.integers(0, 2, len(held), np.uint8)).data)


def made_of(paths: Sequence[Path], rows: int, seed: int = 0) -> Made:
    """What decides the table; raises `BadInput` for numbers out of range."""
    fields = {"sources": tuple(file_digest(path) for path in paths), "rows": rows, "seed": seed}
    return convert(Made, fields, "the table to generate")


def grow(
    source: Source, made: Made, folder: Path, progress: Callable[[int, int], None] = lambda _done, _of: None
) -> tuple[Path, ...]:
    """Write the table as Parquet files into `folder`, and go on with one that broke off; the files, in order.

    No more than a block is in memory beside the source; `progress` hears of rows. Raises `Conflict` where the folder
    holds another table.
    """
    make_folder(folder)
    _begin(folder, made)
    files = []
    for number in range(made.files):
        file = folder / f"part-{number:05}.parquet"
        if not file.is_file():
            write_parts(file, _file(source, made, number), UNINTERRUPTED, "generate.file", 0o644)
        files.append(file)
        progress(min(made.rows, (number + 1) * BLOCK * _FILE_BLOCKS), made.rows)
    return tuple(files)


def _begin(folder: Path, made: Made) -> None:
    record = folder / _RECORD
    if record.is_file():
        held = decode_json(Made, record.read_bytes(), str(record))
        if held != made:
            raise Conflict(
                "another table stands in this folder",
                code="generate.exists",
                value=f"{made.rows} rows, seed {made.seed}, of {_short(made)}",
                limit=f"{held.rows} rows, seed {held.seed}, of {_short(held)}",
                cure="Name another folder (--out).",
            )
        return
    if any(folder.iterdir()):
        raise Conflict("the folder holds other files", code="generate.exists", value=folder, cure="Name a new one.")
    write_file(record, canonical_json(made), UNINTERRUPTED, "generate.record", 0o644)


def _short(made: Made) -> str:
    return hashlib.sha256(canonical_json(made.sources)).hexdigest()[:12]


def _file(source: Source, made: Made, number: int) -> Iterator[bytes]:
    """The bytes of one file, a row group at a time."""
    from pyarrow import parquet  # noqa: PLC0415

    first, pieces = number * _FILE_BLOCKS, _Pieces()
    left = made.rows - first * BLOCK
    with parquet.ParquetWriter(pieces, block(source, made.seed, first, 0).schema) as writer:
        for index in range(min(_FILE_BLOCKS, math.ceil(left / BLOCK))):
            writer.write_table(block(source, made.seed, first + index, min(BLOCK, left - index * BLOCK)))
            yield from pieces.taken()
    yield from pieces.taken()


class _Pieces(io.RawIOBase):
    """Holds what was written until it is taken: a file that is streamed while it is made."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        self._held.append(bytes(data))
        self._at += len(data)
        return len(data)

    def taken(self) -> list[bytes]:
        taken, self._held = self._held, []
        return taken
