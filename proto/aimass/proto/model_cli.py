"""`aimass model`: list, show and export committed models, and their manifests."""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.console import Bar, common, emit, group, plain, table, write_output
from aimass.proto.run_cli import MOST, add_home, count
from aimass.proto.statistics import Statistics
from aimass.proto.statistics_text import heading, table_of

if TYPE_CHECKING:
    from aimass.proto.api import Federation

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass model list --as scientist
  aimass model export last model.safetensors --as scientist
  aimass model export last model.json --format xgboost --as scientist
  aimass model merge model.safetensors whole.safetensors --task reviews
  aimass model manifest last --as scientist
  aimass model manifest 3f2a --out model.json --as scientist
"""
_ANY_MODEL = "safetensors"
_DIGEST = "its SHA-256, the first digits of it, or `last`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass model`."""
    commands = group(parser, _EXAMPLE)
    listing = commands.add_parser("list", help="models, newest first")
    listing.add_argument("--run", default="", help="of one run")
    listing.add_argument("--limit", type=count, default=50, help=f"how many, to {MOST:,}")
    add_home(listing)
    common(listing, _list)
    show = commands.add_parser("show", help="one model")
    show.add_argument("digest", help=_DIGEST)
    add_home(show)
    common(show, _show)
    export = commands.add_parser("export", help="fetch a model as a file")
    export.add_argument("digest", help=_DIGEST)
    export.add_argument("path", type=Path, help="file to write")
    export.add_argument(
        "--format",
        choices=(_ANY_MODEL, "xgboost", "text", "json"),
        default=_ANY_MODEL,
        help=f"of trees: a file for XGBoost, a text to read, or the same as JSON ({_ANY_MODEL})",
    )
    add_home(export)
    common(export, _export)
    merge = commands.add_parser("merge", help="a model and the base that it is on as one, its adapters added in")
    merge.add_argument("model", type=Path, help="the model's file, as `export` wrote it")
    merge.add_argument("path", type=Path, help="file to write; with --peft a new folder")
    merge.add_argument("--task", required=True, help="the task that it is of; its base is looked for in your own")
    merge.add_argument(
        "--part", default="", metavar="MODULE", help="this part of it alone, by the names inside: encoder"
    )
    merge.add_argument("--peft", action="store_true", help="write the adapters alone, as peft loads them")
    common(merge, _merge)
    manifest = commands.add_parser("manifest", help="where a run's last model comes from, and how its data looked")
    manifest.add_argument("of", help="a run (its id, the first digits of it, or `last`), or the model's SHA-256")
    manifest.add_argument("--out", type=Path, help="write it to this file, in the bytes whose SHA-256 names it")
    add_home(manifest)
    common(manifest, _manifest)


def _list(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        run_id = federation.run(args.run).id if args.run else ""
        models = federation.models(run_id, args.limit)
    if args.json:
        emit(args, models)
    else:
        emit(
            args,
            [
                {
                    "digest": m.digest,
                    "run": m.run_id[:8],
                    "round": m.round,
                    "bytes": m.bytes,
                    "kept": m.kept,
                    "metrics": {name: round(metric.mean, 4) for name, metric in m.metrics.items()},
                }
                for m in models
            ],
        )
    return 0


def _show(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        emit(args, federation.model(args.digest))
    return 0


def _export(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation, Bar(args, "model") as bar:
        digest = federation.model(args.digest).digest
        if args.format == _ANY_MODEL:
            federation.export(digest, args.path, bar)
        else:
            _export_trees(federation, digest, args, bar)
    emit(args, {"written": str(args.path), "digest": digest, "bytes": args.path.stat().st_size})
    return 0


def _export_trees(federation: Federation, digest: str, args: argparse.Namespace, bar: Bar) -> None:
    from aimass.proto.model_forms import schema_of, tree_in_form
    from aimass.proto.tensors import Blob

    schema = schema_of(federation.run(federation.model(digest).run_id).view.plan)
    with tempfile.TemporaryDirectory() as folder:
        fetched = federation.export(digest, Path(folder) / "model.safetensors", bar)
        write_output(args.path, tree_in_form(args.format, Blob(fetched.read_bytes()), schema))


def _merge(args: argparse.Namespace) -> int:
    """It runs the task's code here, which builds the model."""
    from aimass.proto.merging import merged_file, peft_files
    from aimass.proto.storage import map_file
    from aimass.proto.task import load, locate
    from aimass.proto.tensors import Blob

    task, parameters = load(locate(args.task)), Blob(map_file(args.model))
    if args.peft:
        files = peft_files(task, parameters)
        args.path.mkdir()
        for name, data in files.items():
            write_output(args.path / name, data)
        emit(args, {"written": str(args.path), "files": sorted(files)})
    else:
        data = merged_file(task, parameters, args.part)
        write_output(args.path, data)
        emit(args, {"written": str(args.path), "digest": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
    return 0


def _manifest(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation
    from aimass.proto.model_manifest import decode_manifest

    with Federation.open(args.home) as federation:
        written = federation.manifest(args.of)
    manifest = decode_manifest(written)
    if args.out is not None:
        write_output(args.out, written)
        digest = hashlib.sha256(written).hexdigest()
        emit(args, {"written": str(args.out), "digest": digest, "bytes": len(written)})
    elif args.json:
        emit(args, manifest)
    else:
        reference = manifest.reference
        told = Statistics(
            survey="histogram",
            partners=reference.partners,
            noise=reference.noise,
            found=reference.histogram,
            reason=reference.reason,
        )
        emit(args, plain(manifest) | {"reference": heading(told)})
        if reference.histogram is not None:
            table(table_of(reference.histogram))
    return 0
