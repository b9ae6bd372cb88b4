"""`aimass data split | register | describe | export`: data sets on object storage, made, looked at, taken out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, say

if TYPE_CHECKING:
    from aimass.proto.data_sets import DataSetManifest, SplitRule
    from aimass.proto.errors import AimassError
    from aimass.proto.manifest import Schema
    from aimass.proto.objects import ObjectStore
    from aimass.server.datasets.catalogue import Catalogue
    from aimass.server.datasets.split import Made

__all__ = ["add_verbs"]

_SPLITTING = """Makes the next version of a data set: reads the files as a stream, checks every row against the schema,
cuts the rows into shards, stores these by their SHA-256, and commits a manifest that names them. Readers see the whole
version or nothing of it. Cut off, the same command goes on with what stands.

"""

_EVERY_S: Final = 3.0
_DATA: Final = "files, folders of images and URLs, in order, or the name of a set that `aimass data get` fetched"


def add_verbs(commands: Any) -> None:
    """Add the verbs that make and show data sets to the sub-commands of `aimass data`."""
    from aimass.proto.data_sets import RULES

    split = commands.add_parser(
        "split",
        help="cut files into the shards of a data set on object storage",
        description=_SPLITTING + RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what(split)
    split.add_argument("--split", required=True, metavar="RULE", help="see above")
    _bounds(split)
    common(split, _split)
    register = commands.add_parser(
        "register",
        help="make each file a shard of a data set on object storage",
        description=_SPLITTING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _what(register)
    _bounds(register)
    register.set_defaults(split="files")
    common(register, _split)
    describe = commands.add_parser("describe", help="which data sets there are, and what stands in one")
    describe.add_argument("name", nargs="?", help="NAME, or NAME@3 for a version (default: a list of all)")
    _stores(describe)
    describe.add_argument("--shards", action="store_true", help="list the shards too")
    common(describe, _describe)
    export = commands.add_parser("export", help="write shards as partners' folders, as `partition` makes them")
    export.add_argument("name", help="NAME, or NAME@3 for a version")
    export.add_argument("shards", help="all, or numbers and ranges: 1-4,7")
    export.add_argument("folder", type=Path, help="folder to write to")
    _stores(export)
    common(export, _export)


def _stores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", action="append", required=True, metavar="URL", help="where it stands; repeat, the first that answers"
    )


def _bounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="another seed deals and holds out otherwise (0)")
    parser.add_argument("--most-rows", type=int, help="of a shard (500000)")
    parser.add_argument("--most-bytes", metavar="SIZE", help="of a shard, as a trainer holds it (64MiB)")


def _what(parser: argparse.ArgumentParser) -> None:
    """What comes in, and what is asked of it."""
    parser.add_argument("name", help="the data set's name; a new version where there is one already")
    parser.add_argument(
        "data",
        nargs="+",
        help="files, folders of images or URLs, in order, or the name of a set that `aimass data get` fetched",
    )
    parser.add_argument("--store", required=True, metavar="URL", help="where it goes: file:///folder, s3://bucket/path")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--task", help="whose schema the rows have (default: that of the version before)")
    rows.add_argument("--schema", type=Path, metavar="FILE", help="the schema as JSON, in place of a task's")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of each shard never trained on (0.2)")
    parser.add_argument(
        "--held-out-by",
        choices=("stratified", "independent"),
        default="stratified",
        help="keep the share of every label, or decide row by row, as privacy asks for (stratified)",
    )
    parser.add_argument("--person", metavar="COLUMN", help="column that says whose each row is")
    parser.add_argument("--licence", help="of the data (default: that of the version before, or of the fetched set)")
    limits = parser.add_argument_group("limits, as shares of the rows; what breaks one is not committed")
    limits.add_argument("--drop", type=float, default=0.0, help="rows that do not fit, and are left out (0)")
    limits.add_argument("--most-duplicates", type=float, help="rows equal to an earlier one")
    limits.add_argument("--most-leaked", type=float, help="rows held out while an equal one is trained on")
    limits.add_argument("--most-missing", type=float, help="missing cells of any column")
    limits.add_argument("--least-label", type=float, help="rows of the rarest label")
    parser.add_argument("--scratch", type=Path, help="folder for what memory does not hold (default: the cache folder)")
    parser.add_argument("--cache", type=Path, help="where fetched sets are")


def _split(args: argparse.Namespace) -> int:
    from aimass.proto.clock import SystemClock
    from aimass.proto.objects import commits, open_objects
    from aimass.server.datasets.catalogue import Catalogue
    from aimass.server.datasets.intake import Limits
    from aimass.server.datasets.sources import open_sources
    from aimass.server.datasets.split import Wanted, split

    store = open_objects(args.store)
    rule, name = _rule(args), _name(args.name)
    files, licence = _files(args)
    wanted = Wanted(
        name=name,
        schema=_schema(args, name, Catalogue(store)),
        rule=rule,
        held_out=args.held_out,
        held_out_by=args.held_out_by,
        person=args.person,
        licence=args.licence or licence,
    )
    limits = Limits(
        dropped=args.drop,
        duplicates=args.most_duplicates,
        leaked=args.most_leaked,
        missing=args.most_missing,
        rarest=args.least_label,
    )
    commits(store)
    say(args, "reading the files for their digests")
    sources = open_sources(files)
    with _scratch(args) as scratch:
        made = split(store, wanted, sources, scratch, SystemClock(), limits=limits, progress=_shown(args))
    emit(args, _told(args, made))
    return 0


def _rule(args: argparse.Namespace) -> SplitRule:
    from aimass.proto.data_sets import read_rule, read_size

    most_bytes = None if args.most_bytes is None else read_size(args.most_bytes)
    return read_rule(args.split, args.seed, args.most_rows, most_bytes)


def _name(text: str) -> str:
    from aimass.proto.data_sets import read_name
    from aimass.proto.errors import BadInput

    name = read_name(text)
    if name.version is not None:
        raise BadInput(
            "a version's number is not chosen",
            code="dataset.version",
            value=text,
            cure="Leave it out: the next version is made.",
        )
    return name.name


def _files(args: argparse.Namespace) -> tuple[tuple[str | Path, ...], str | None]:
    """The files and URLs that were named, or the files of a fetched set with its licence."""
    from aimass.proto.cache import cache_folder
    from aimass.proto.errors import NotFound
    from aimass.proto.fetched import cached

    cache, first = args.cache or cache_folder(), args.data[0]
    if len(args.data) == 1 and not Path(first).exists() and (record := cached(first, cache)) is not None:
        return tuple(cache / "data" / record.name / name for name in sorted(record.files)), record.licence
    for name in args.data:
        if "://" not in name and not Path(name).exists():
            raise NotFound(
                "there is no such data file, nor a fetched set of this name",
                code="dataset.source",
                value=name,
                cure="Check the path; a public set is fetched by `aimass data get NAME` first.",
            )
    return tuple(args.data), None


def _schema(args: argparse.Namespace, name: str, catalogue: Catalogue) -> Schema:
    from aimass.proto.data_sets import DataSetName
    from aimass.proto.errors import BadInput, NotFound
    from aimass.proto.manifest import Schema
    from aimass.proto.task import load, locate
    from aimass.proto.values import decode_json

    if args.schema is not None:
        return decode_json(Schema, args.schema.read_bytes(), str(args.schema))
    if args.task is not None:
        return load(locate(args.task)).schema
    try:
        return catalogue.open(DataSetName(name=name)).data_schema
    except NotFound as error:
        raise BadInput(
            "what schema do the rows have?",
            code="dataset.schema",
            cure="Name a task that has it: --task adult, or give it as a file: --schema schema.json.",
        ) from error


@contextmanager
def _scratch(args: argparse.Namespace) -> Iterator[Path]:
    """An empty folder that goes with the command."""
    import tempfile

    from aimass.proto.cache import cache_folder
    from aimass.proto.durable import make_folder

    parent = make_folder(args.scratch or cache_folder() / "scratch")
    with tempfile.TemporaryDirectory(prefix="split-", dir=parent) as folder:
        yield Path(folder)


def _shown(args: argparse.Namespace) -> Callable[[int, int], None]:
    """A line every few seconds."""
    import time

    last = time.monotonic()

    def show(shards: int, rows: int) -> None:
        nonlocal last
        if time.monotonic() - last > _EVERY_S:
            last = time.monotonic()
            say(args, f"{rows} rows read, {shards} shards stored")

    return show


def _told(args: argparse.Namespace, made: Made) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "data_set": f"{manifest.name}@{manifest.version}",
        "made": "now" if made.fresh else "before, by the same command",
        "store": args.store,
        **_summary(manifest),
        "quality": manifest.quality,
    }


def _summary(manifest: DataSetManifest) -> dict[str, Any]:
    rows = sorted(shard.rows for shard in manifest.shards)
    return {
        "split": str(manifest.split),
        "shards": len(rows),
        "rows": manifest.rows,
        "rows_a_shard": f"{rows[0]} to {rows[-1]}, median {rows[len(rows) // 2]}",
        "bytes": manifest.size,
        "labels": manifest.labels,
        "licence": manifest.licence,
    }


def _opened(args: argparse.Namespace) -> tuple[DataSetManifest, tuple[ObjectStore, ...], str | None]:
    """The version that was named, all stores that may hold its shards, and a warning where it may not be the newest."""
    import time

    from aimass.proto.data_sets import read_name
    from aimass.proto.objects import open_objects
    from aimass.server.datasets.versions import opened

    doubts: list[AimassError] = []
    stores = [open_objects(url) for url in args.store]
    data_set, urls = opened(read_name(args.name), stores, time.time(), doubts.append)
    warning = doubts[0].sentence() if doubts else None
    if warning is not None:
        sys.stderr.write(f"warning: {warning}\n")
    return data_set, tuple(map(open_objects, urls)), warning


def _listed(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each data set of the first store."""
    from aimass.proto.data_sets import DataSetName
    from aimass.proto.objects import open_objects
    from aimass.server.datasets.catalogue import Catalogue

    catalogue = Catalogue(open_objects(args.store[0]))
    newest = [catalogue.open(DataSetName(name=name)) for name in catalogue.names()]
    return [
        {
            "name": each.name,
            "newest": each.version,
            "schema": each.data_schema.name,
            "shards": len(each.shards),
            "rows": each.rows,
            "bytes": each.size,
            "created_at": each.created_at,
        }
        for each in newest
    ]


def _describe(args: argparse.Namespace) -> int:
    from aimass.proto.console import plain
    from aimass.server.datasets.versions import numbers

    if args.name is None:
        emit(args, _listed(args))
        return 0
    manifest, stores, warning = _opened(args)
    if args.json:
        emit(args, manifest)
        return 0
    emit(
        args,
        {
            "data_set": f"{manifest.name}@{manifest.version}",
            "warning": warning,
            "versions": numbers(manifest.name, stores),
            "stores": [store.url for store in stores],
            "created_at": manifest.created_at,
            "schema": manifest.data_schema.name,
            **_summary(manifest),
            "held_out": f"{manifest.held_out:g}, {manifest.held_out_by}",
            "quality": plain(manifest.quality),
            "made_by": manifest.lineage.tool,
            "after_version": manifest.lineage.parent,
            "sources": [plain(source) for source in manifest.lineage.sources],
            "columns": [_column(plain(column)) for column in manifest.statistics],
            "each_shard": [plain(shard) for shard in manifest.shards] if args.shards else "--shards lists them",
        },
    )
    return 0


def _export(args: argparse.Namespace) -> int:
    import time

    from aimass.proto.console import Bar
    from aimass.server.datasets.export import chosen, export
    from aimass.server.datasets.replicas import Replicas

    data_set, stores, warning = _opened(args)
    shards = chosen(data_set, args.shards)
    with Bar(args, "exporting") as bar:
        made = export(Replicas(data_set.name, stores, time.monotonic), data_set, shards, args.folder, bar)
    emit(
        args,
        {
            "folder": str(args.folder),
            "data_set": f"{data_set.name}@{data_set.version}",
            "partners": len(made.shards),
            "rows": sum(shard.rows for shard in made.shards),
            "warning": warning,
        },
    )
    return 0


def _column(fields: dict[str, Any]) -> dict[str, Any]:
    """One line of a column's statistics."""
    told = {name: fields.get(name) for name in ("column", "kind", "present", "missing")}
    match fields["kind"]:
        case "number":
            told["values"] = f"{fields['minimum']} to {fields['maximum']}, mean {fields['mean']:.6g}"
        case "category":
            most = sorted(fields["counts"].items(), key=lambda item: -item[1])[:4]
            told["values"] = ", ".join(f"{value} {count}" for value, count in most)
        case "text":
            told["values"] = f"{fields['shortest']} to {fields['longest']} characters"
        case "image":
            told["values"] = f"mean pixel {fields['total'] / max(1, fields['pixels']):.1f}"
        case "mask":
            pixels = max(1, sum(fields["pixels"].values()))
            told["values"] = ", ".join(f"{value} {count / pixels:.1%}" for value, count in fields["pixels"].items())
    return told
