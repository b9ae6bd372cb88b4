"""A data set cut into partners' own: a folder each with rows and manifest, which simulated and real partners read.

What both read is equal bytes under equal participants and salts, so both train and hold out the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np

from aimass.proto import partition
from aimass.proto.data_sets import salt_of
from aimass.proto.durable import UNINTERRUPTED, make_folder, write_file
from aimass.proto.errors import BadInput, Conflict, NotFound
from aimass.proto.hashing import file_digest
from aimass.proto.manifest import Schema, ShardManifest, read_shard_manifest, shard_manifest_text
from aimass.proto.names import Digest, Name, SchemaName
from aimass.proto.rows import read_table, require, rows_by_label
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = [
    "RECORD",
    "RULES",
    "ShardRecord",
    "Shards",
    "Split",
    "load_shards",
    "manifest_of",
    "read_split",
    "write_shards",
]

RECORD: Final = "partition.json"
RULES: Final = """how rows are dealt:
  iid            at random, equally many (default)
  dirichlet:A    each label by a Dirichlet distribution; 0.1 is very uneven, 100 nearly even
  labels:K       K labels for each partner, no more
  shards:K       sorted by label, cut up, K pieces each (the FedAvg paper's split of MNIST, with 2)
  sizes:A,B,...  at random, by shares of the rows; as many partners as shares
  column:NAME    rows of one value of a column stay together; a partner for each value, or --partners
  natural        a partner for each file"""
_FORMS: Final = {
    "iid": "",
    "natural": "",
    "dirichlet": r"[0-9.e+-]+",
    "labels": r"[0-9]{1,6}",
    "shards": r"[0-9]{1,6}",
    "sizes": r"[0-9.]+(,[0-9.]+)*",
    "column": r".+",
}
Rule = Literal["iid", "natural", "dirichlet", "labels", "shards", "sizes", "column"]


class Split(Value, frozen=True):
    """How rows are dealt: a rule with its argument, `partners` (None: as many as the rule gives), and the seed.

    `smallest` is the least number of rows that `dirichlet` leaves anybody.
    """

    rule: Rule
    argument: str = ""
    partners: int | None = None
    seed: int = 0
    smallest: int = 2

    def __str__(self) -> str:
        return f"{self.rule}:{self.argument}" if self.argument else self.rule


class ShardRecord(Value, frozen=True):
    """One partner's part; `labels` counts its rows by label."""

    partner: Name
    participant: Name
    salt: Digest
    rows: int
    labels: dict[str, int]
    sha256: Digest


class Shards(Value, frozen=True):
    """What stands in a folder of shards. It is written last: a folder without it is not whole.

    `sources` are the digests of the files that were dealt, in order.
    """

    data_schema: SchemaName
    split: Split
    held_out: float
    person: str | None
    sources: tuple[Digest, ...]
    shards: tuple[ShardRecord, ...]

    @property
    def partners(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted(shard.partner for shard in self.shards))


def read_split(text: str, partners: int | None = None, seed: int = 0, smallest: int = 2) -> Split:
    """The split that a person wrote as `rule` or `rule:argument`; raises `BadInput` that lists all rules."""
    name, _, argument = text.partition(":")
    form = _FORMS.get(name)
    if form is None or not re.fullmatch(form, argument):
        raise BadInput("no such split", code="partition.split", value=text, limit="\n" + RULES)
    split = Split(rule=name, argument=argument, partners=partners, seed=seed, smallest=smallest)  # type: ignore[arg-type]
    if name in ("sizes", "natural") and partners is not None:
        raise BadInput(
            "this split says itself how many partners there are",
            code="partition.partners",
            value=partners,
            cure="Leave --partners out.",
        )
    if name not in ("sizes", "natural", "column") and partners is None:
        raise BadInput(
            "how many partners?", code="partition.partners", value=text, cure="Give their number: --partners 100."
        )
    return split


def write_shards(
    schema: Schema,
    sources: Sequence[Path],
    split: Split,
    folder: Path,
    *,
    held_out: float = 0.2,
    person: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Shards:
    """Deal the rows of `sources`, one table in this order, into `folder`: `PARTNER/NAME.parquet` and its manifest.

    The same again is left as it is. Raises `Conflict` for a folder that holds others, `BadInput` for rows that do not
    fit the schema or cannot be dealt so.
    """
    digests = tuple(file_digest(path) for path in sources)
    wanted = Shards(data_schema=schema.name, split=split, held_out=held_out, person=person, sources=digests, shards=())
    if (folder / RECORD).is_file():
        return _held(folder, wanted)
    arrow = [_arrow(path, lines=bool(schema.texts)) for path in sources]
    labels = _labels(schema, sources, person)
    parts = _deal(split, labels, arrow)
    names = _names(split, sources, len(parts))
    table = _together(arrow)
    made = []
    for name, rows in zip(names, parts, strict=True):
        made.append(_write(folder, wanted, schema, name, table.take(rows), labels[rows]))
        progress(len(made), len(parts))
    whole = msgspec.structs.replace(wanted, shards=tuple(made))
    write_file(folder / RECORD, canonical_json(whole), UNINTERRUPTED, "partition.record", 0o644)
    return whole


def load_shards(folder: Path) -> Shards:
    """What stands in a folder of shards; raises `NotFound` where it is none, or not whole."""
    path = folder / RECORD
    if not path.is_file():
        raise NotFound(
            "no shards stand here, or not all of them",
            code="partition.absent",
            value=folder,
            cure="aimass data partition writes them.",
        )
    return decode_json(Shards, path.read_bytes(), str(path))


def manifest_of(folder: Path, partner: str) -> ShardManifest:
    """A partner's manifest; its files stand beside it."""
    path = next(iter(sorted((folder / partner).glob("*.toml"))), None)
    if path is None:
        raise NotFound("a partner's shard is gone", code="partition.shard", value=folder / partner)
    return read_shard_manifest(path.read_text("utf-8"), str(path))


def _held(folder: Path, wanted: Shards) -> Shards:
    held = load_shards(folder)
    if msgspec.structs.replace(held, shards=()) != wanted:
        raise Conflict(
            "other shards stand in this folder",
            code="partition.exists",
            value=f"{held.split} of {len(held.shards)} partners, seed {held.split.seed}",
            cure="Name another folder.",
        )
    return held


def _arrow(path: Path, *, lines: bool) -> Any:
    """A file as it is; cells of CSV stay text, as the reader of rows takes them, and go over several `lines` there."""
    import pyarrow as pa  # noqa: PLC0415  (as in `rows`)
    from pyarrow import csv, parquet  # noqa: PLC0415

    try:
        if _format(path) == "parquet":
            return parquet.read_table(path, use_threads=False)
        reading = csv.ReadOptions(use_threads=False)
        parsing = csv.ParseOptions(newlines_in_values=lines)
        with csv.open_csv(path, reading, parsing) as opened:
            names = opened.schema.names
        options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
        return csv.read_csv(path, reading, parsing, options)
    except (pa.ArrowException, OSError) as error:
        raise BadInput("a data file is not readable", code="rows.unreadable", value=path) from error


def _format(path: Path) -> Literal["csv", "parquet"]:
    match path.suffix.lower():
        case ".csv":
            return "csv"
        case ".parquet":
            return "parquet"
        case other:
            raise BadInput("not a data file by its ending", code="partition.file", value=other, limit=".csv, .parquet")


def _together(arrow: Sequence[Any]) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    try:
        return pa.concat_tables(arrow, promote_options="permissive").combine_chunks()
    except pa.ArrowException as error:
        raise BadInput(
            "the files of a data set cannot be read together: a column has another type in each", code="rows.types"
        ) from error


def _labels(schema: Schema, sources: Sequence[Path], person: str | None) -> partition.Labels:
    """Each row's label by its place in the schema; raises `BadInput` where rows do not fit."""
    found = []
    for path in sources:
        with path.open("rb") as file:
            found.append(require(read_table(schema, [file], _format(path), person)).columns[schema.label.name])
    return np.concatenate(found)


def _deal(split: Split, labels: partition.Labels, arrow: Sequence[Any]) -> partition.Parts:
    argument, seed, partners = split.argument, split.seed, split.partners or 0
    if split.rule in ("dirichlet", "labels") and labels.dtype.kind == "f":
        raise BadInput(
            "rows cannot be dealt by a label that is a number",
            code="partition.split",
            value=split.rule,
            cure="Choose another rule: `shards` deals rows in the order of such a label.",
        )
    if split.rule in ("dirichlet", "labels", "shards") and labels.ndim > 1:
        raise BadInput(
            "rows cannot be dealt by a label of pixels",
            code="partition.split",
            value=split.rule,
            cure="Choose another rule: `column:NAME` deals by a column that stands beside the masks.",
        )
    match split.rule:
        case "iid":
            return partition.iid(len(labels), partners, seed)
        case "natural":
            return partition.by_value(np.repeat(np.arange(len(arrow)), [len(table) for table in arrow]))
        case "dirichlet":
            return partition.dirichlet(labels, partners, _number(argument), seed, split.smallest)
        case "labels":
            return partition.by_label(labels, partners, int(argument), seed)
        case "shards":
            return partition.sorted_shards(labels, partners, int(argument), seed)
        case "sizes":
            return partition.in_shares(len(labels), [_number(share) for share in argument.split(",")], seed)
        case "column":
            return partition.by_value(_column(argument, arrow), split.partners)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput("not a number in a split", code="partition.split", value=text) from None


def _column(name: str, arrow: Sequence[Any]) -> partition.Labels:
    """Each row's value of a column as a number, in the order of the values' texts; a missing one is a value too."""
    known = sorted({column for table in arrow for column in table.column_names})
    if any(name not in table.column_names for table in arrow):
        raise BadInput("there is no such column", code="partition.column", value=name, limit=", ".join(known))
    texts = ["" if cell is None else str(cell) for table in arrow for cell in table.column(name).to_pylist()]
    return np.unique(np.array(texts, dtype=object), return_inverse=True)[1].astype(np.int64)


def _names(split: Split, sources: Sequence[Path], count: int) -> list[str]:
    """Files name their partners; others are p0001 and so on."""
    if split.rule != "natural":
        width = max(4, len(str(count)))
        return [f"p{place:0{width}}" for place in range(1, count + 1)]
    names = [re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:63] for path in sources]
    if len(set(names)) != len(names) or not all(names):
        raise BadInput("the files' names do not tell partners apart", code="partition.names", value=", ".join(names))
    return names


def _write(
    folder: Path, wanted: Shards, schema: Schema, name: str, table: Any, labels: partition.Labels
) -> ShardRecord:
    from pyarrow import parquet  # noqa: PLC0415

    stem, place = schema.name.partition("/")[0], make_folder(folder / name)
    path = place / f"{stem}.parquet"
    parquet.write_table(table, path)
    salt = salt_of(wanted.split.seed, name)
    text = shard_manifest_text(
        {
            "name": stem,
            "data_schema": schema.name,
            "uris": (path.name,),
            "format": "parquet",
            "participant": name,
            "salt": salt,
            "held_out": wanted.held_out,
            "person": wanted.person,
        },
        "the shard's manifest",
    )
    read_shard_manifest(text, "the shard's manifest")
    write_file(place / f"{stem}.toml", text.encode(), UNINTERRUPTED, "partition.manifest", 0o644)
    counts = rows_by_label(schema, labels)
    return ShardRecord(
        partner=name,
        participant=name,
        salt=salt,
        rows=len(labels),
        labels={value: count for value, count in counts.items() if count},
        sha256=file_digest(path),
    )
