"""Files of any size as batches of rows, in bounded memory and always in the same order, for whoever cuts them up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import pyarrow as pa
from pyarrow import csv, parquet

from aimass.proto.data_sets import Source
from aimass.proto.errors import BadInput, Conflict
from aimass.proto.manifest import Schema
from aimass.proto.rows import check_columns, column_names, unreadable
from aimass.server.datasets.image_folders import ImageFolder
from aimass.server.datasets.source_files import LocalFile, SourceFile, stored_files
from aimass.server.datasets.tensor_files import read_tensors

__all__ = ["Opened", "Reading", "open_sources"]

_BLOCK_BYTES: Final = 1 << 20  # Arrow reads 32 blocks ahead
_LETTER_BYTES: Final = 4
_Reader = Callable[[SourceFile, Sequence[str], Schema, "Reading"], Iterator[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """How much is read at once, and how many bytes of rows wait in memory for their shards. What comes of the rows
    does not depend on it."""

    batch_rows: int = 16_384
    block_bytes: int = _BLOCK_BYTES
    waiting_bytes: int = 32 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A source as it was when it was hashed, under the `stamp` that it had then."""

    file: SourceFile | ImageFolder
    source: Source
    stamp: tuple[Any, ...]

    def batches(self, schema: Schema, person: str | None, reading: Reading, also: Sequence[str] = ()) -> Iterator[Any]:
        """Its rows as Arrow batches with the schema's columns, that of persons, and others; CSV's cells are texts.

        Raises `BadInput` for a file that cannot be read or lacks a column, and `Conflict`, at the end, for one that
        was written to meanwhile.
        """
        names = list(dict.fromkeys([*column_names(schema, person), *also]))
        try:
            if isinstance(self.file, ImageFolder):
                yield from self.file.batches(names, schema, _rows_at_once(schema, reading))
            else:
                yield from _reader(self.file.name)(self.file, names, schema, reading)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self.source.name, error) from error
        if self.file.stamp() != self.stamp:
            raise Conflict(
                "a source was written to while it was read",
                code="dataset.source_changed",
                value=self.source.name,
                cure="Nothing is committed. Run the command again when the source is whole.",
            )


def open_sources(named: Sequence[str | Path]) -> tuple[Opened, ...]:
    """Files by their endings, folders of images, and URLs of files in stores, hashed.

    Raises `BadInput` for an ending that no reader is for, `NotFound` for what is not there.
    """
    files = [file for each in named for file in _files(each)]
    for file in files:
        if not isinstance(file, ImageFolder):
            _reader(file.name)
    return tuple(map(_open, files))


def _files(named: str | Path) -> Sequence[SourceFile | ImageFolder]:
    if "://" in str(named):
        return stored_files(str(named), tuple(_FORMATS))
    path = Path(named)
    return [ImageFolder(path) if path.is_dir() else LocalFile(path)]


def _open(file: SourceFile | ImageFolder) -> Opened:
    stamp = file.stamp()
    return Opened(file, Source(name=file.name, size=stamp[0], sha256=file.digest()), stamp)


def _reader(name: str) -> _Reader:
    ending = PurePosixPath(name).suffix.lower()
    if ending not in _FORMATS:
        raise BadInput(
            "not a data file by its ending",
            code="dataset.format",
            value=name,
            limit=f"{', '.join(_FORMATS)}, or a folder of images",
            cure="Convert the file, or correct its name.",
        )
    return _FORMATS[ending]


def _rows_at_once(schema: Schema, reading: Reading) -> int:
    """As many rows as a block holds of images, and no more than a batch has."""
    pixels = sum(math.prod(column.shape) for column in schema.images)
    return min(reading.batch_rows, max(1, reading.block_bytes // max(1, pixels)))


def _tensors(file: SourceFile, names: Sequence[str], schema: Schema, reading: Reading) -> Iterator[Any]:
    with file.open() as opened:
        yield from read_tensors(opened, names, schema, _rows_at_once(schema, reading))


def _csv(file: SourceFile, names: Sequence[str], schema: Schema, reading: Reading) -> Iterator[Any]:
    # Threads of its readers may outlive them, and abort a process that ends at once.
    row = 2 * _LETTER_BYTES * sum(text.longest for text in schema.texts)  # a block holds a row at least
    blocks = csv.ReadOptions(use_threads=False, block_size=max(reading.block_bytes, row))
    lines = csv.ParseOptions(newlines_in_values=bool(schema.texts))
    with file.open() as head, csv.open_csv(head, blocks, lines) as opened:
        check_columns(opened.schema.names, names)
    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=list(names),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    with file.open() as rows, csv.open_csv(rows, blocks, lines, texts) as opened:
        yield from opened


def _parquet(file: SourceFile, names: Sequence[str], schema: Schema, reading: Reading) -> Iterator[Any]:
    with file.open() as bytes_, _without_readahead(bytes_) as opened:
        check_columns(opened.schema_arrow.names, names)
        yield from opened.iter_batches(_rows_at_once(schema, reading), columns=list(names), use_threads=False)


def _without_readahead(file: IO[bytes]) -> Any:
    """A Parquet file read column by column as its batches are asked for, and not a whole row group ahead."""
    return parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


_FORMATS: Final[Mapping[str, _Reader]] = {".csv": _csv, ".parquet": _parquet, ".safetensors": _tensors}
