"""Files of any size as batches of rows, in bounded memory and always in the same order, for whoever cuts them up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
from pyarrow import csv, parquet

from aimass.proto.data_sets import Source
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.hashing import file_digest
from aimass.proto.manifest import Schema
from aimass.proto.rows import check_columns, column_names, unreadable

__all__ = ["Opened", "Reading", "open_sources"]

_BLOCK_BYTES: Final = 4 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """How much is read at once. What comes of the rows does not depend on it."""

    batch_rows: int = 16_384
    block_bytes: int = _BLOCK_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A source as it was when it was hashed: `stamp` changes when somebody writes to it."""

    path: Path
    source: Source
    stamp: tuple[int, int, int]

    def batches(self, schema: Schema, person: str | None, reading: Reading, also: Sequence[str] = ()) -> Iterator[Any]:
        """Its rows as Arrow batches with the schema's columns, that of persons, and others; CSV's cells are texts.

        Raises `BadInput` for a file that cannot be read or lacks a column, and `Conflict`, at the end, for one that
        was written to meanwhile.
        """
        names = list(dict.fromkeys([*column_names(schema, person), *also]))
        read = _FORMATS[self.path.suffix.lower()]
        try:
            yield from read(self.path, names, schema, reading)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self.path.name, error) from error
        if _stamp(self.path) != self.stamp:
            raise Conflict(
                "a source was written to while it was read",
                code="dataset.source_changed",
                value=self.path,
                cure="Nothing is committed. Run the command again when the file is whole.",
            )


def open_sources(paths: Sequence[Path]) -> tuple[Opened, ...]:
    """Files by their endings, hashed; raises `BadInput` for an ending that no reader is for."""
    for path in paths:
        if path.suffix.lower() not in _FORMATS:
            raise BadInput(
                "not a data file by its ending",
                code="dataset.format",
                value=path.name,
                limit=", ".join(_FORMATS),
                cure="Convert the file, or correct its name.",
            )
    return tuple(_open(path) for path in paths)


def _open(path: Path) -> Opened:
    stamp = _stamp(path)
    return Opened(path, Source(name=path.name, size=stamp[1], sha256=file_digest(path)), stamp)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _csv(path: Path, names: Sequence[str], schema: Schema, reading: Reading) -> Iterator[Any]:
    # Threads of its readers may outlive them, and abort a process that ends at once.
    blocks = csv.ReadOptions(use_threads=False, block_size=reading.block_bytes)
    lines = csv.ParseOptions(newlines_in_values=bool(schema.texts))
    with csv.open_csv(path, blocks, lines) as opened:
        check_columns(opened.schema.names, names)
    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=list(names),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    with csv.open_csv(path, blocks, lines, texts) as opened:
        yield from opened


def _parquet(path: Path, names: Sequence[str], _schema: Schema, reading: Reading) -> Iterator[Any]:
    with path.open("rb") as file, _without_readahead(file) as opened:
        check_columns(opened.schema_arrow.names, names)
        yield from opened.iter_batches(reading.batch_rows, columns=list(names), use_threads=False)


def _without_readahead(file: IO[bytes]) -> Any:
    """A Parquet file read column by column as its batches are asked for, and not a whole row group ahead."""
    return parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


_FORMATS: Final = {".csv": _csv, ".parquet": _parquet}
