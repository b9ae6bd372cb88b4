"""`aimass model`: models at a training server and in a registry, under one name, with what tells which is which."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.proto.console import Bar, common, emit, group, plain, table, write_output
from aimass.proto.errors import BadInput
from aimass.proto.registry.places import add_registry, registry_url
from aimass.proto.run_cli import MOST, add_home, count
from aimass.proto.statistics import Statistics
from aimass.proto.statistics_text import heading, table_of

if TYPE_CHECKING:
    from aimass.proto.api import Federation

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass model list --as scientist                    at a training server
  aimass model export last model.safetensors --as scientist
  aimass model export last model.json --format xgboost --as scientist
  aimass model manifest last --as scientist
  aimass model merge model.safetensors whole.safetensors --task reviews

  aimass model trust add olga --from olga             from the server into a registry
  aimass model publish last --name heart --as olga --registry s3://models/prod
  aimass model rules set heart rules.toml --as olga --registry s3://models/prod
  aimass model promote heart@4 --as olga --registry s3://models/prod

  aimass model list --registry s3://models/prod       in the registry
  aimass model show heart@champion --registry s3://models/prod
  aimass model diff heart@3 heart@4 --registry s3://models/prod
  aimass model export heart@4 heart.onnx --format onnx --registry s3://models/prod
  aimass model rollback heart --as olga --registry s3://models/prod
  aimass model verify heart --registry s3://models/prod

Models stand in two places. A training server holds each round's model of its runs, by digest: ask it with
--as YOUR_FOLDER. A registry holds the versions that somebody published for others to rely on, as NAME@NUMBER or
NAME@ALIAS, signed: ask it with --registry URL, or set AIMASS_REGISTRY. `list`, `show` and `export` know both.
"""
_ANY_MODEL = "safetensors"
_FOLDER = "folder"
_OF_VERSIONS = (_FOLDER, "onnx", "torch")
_FORMATS = (_ANY_MODEL, "xgboost", "text", "json", *_OF_VERSIONS)
_DIGEST = "its SHA-256, the first digits of it, or `last`"
_EITHER = f"at a server {_DIGEST}; in a registry NAME, NAME@ALIAS or NAME@NUMBER"
_READING = "aimass.server.registry.reading_cli"
_VERBS = (
    "aimass.server.registry.writing_cli",
    _READING,
    "aimass.server.registry.rules_cli",
    "aimass.server.registry.trust_cli",
)
"""Modules with `add_verbs(commands)`: what a registry has beside, loaded by name as commands are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass model`."""
    commands = group(parser, _EXAMPLE)
    _add_shared(commands)
    merge = commands.add_parser("merge", help="a model and the base that it is on as one, its adapters added in")
    merge.add_argument("model", type=Path, help="the model's file, as `export` wrote it")
    merge.add_argument("path", type=Path, help="file to write; with --peft a new folder")
    merge.add_argument("--task", required=True, help="the task that it is of; its base is looked for in your own")
    merge.add_argument(
        "--part", default="", metavar="MODULE", help="this part of it alone, by the names inside: encoder"
    )
    merge.add_argument("--peft", action="store_true", help="write the adapters alone, as peft loads them")
    common(merge, _merge)
    manifest = commands.add_parser("manifest", help="server: where a run's last model comes from, how its data looked")
    manifest.add_argument("of", help="a run (its id, the first digits of it, or `last`), or the model's SHA-256")
    manifest.add_argument("--out", type=Path, help="write it to this file, in the bytes whose SHA-256 names it")
    add_home(manifest)
    common(manifest, _manifest)
    for module in _VERBS:
        importlib.import_module(module).add_verbs(commands)


def _add_shared(commands: Any) -> None:
    """The verbs that a server and a registry both know."""
    listing = commands.add_parser("list", help="models, newest first")
    listing.add_argument("name", nargs="?", default="", help="in a registry: of this name alone")
    listing.add_argument("--run", default="", help="at a server: of one run")
    listing.add_argument("--limit", type=count, default=50, help=f"how many, to {MOST:,}")
    _either(listing)
    common(listing, lambda args: _reading().list_models(args) if _in_registry(args) else _list(args))
    show = commands.add_parser("show", help="one model")
    show.add_argument("digest", metavar="MODEL", help=_EITHER)
    _either(show)
    common(show, lambda args: _reading().show_model(args) if _in_registry(args) else _show(args))
    export = commands.add_parser("export", help="fetch a model")
    export.add_argument("digest", metavar="MODEL", help=_EITHER)
    export.add_argument("path", type=Path, help="file, or new folder, to write")
    export.add_argument(
        "--format",
        choices=_FORMATS,
        help=f"at a server {_ANY_MODEL} (the default), or of trees a file for XGBoost, a text to read, the same as "
        f"JSON; in a registry {_FOLDER} (the default): the whole version, with its card and signature; onnx: a file; "
        "torch: a folder that loads with torch alone; or these",
    )
    _either(export)
    common(export, lambda args: _reading().export_model(args) if _in_registry(args) else _export(args))


def _either(parser: argparse.ArgumentParser) -> None:
    """The options that say where a model is looked for."""
    parser.add_argument("--as", dest="home", type=Path, help="at the server of your folder (or set AIMASS_HOME)")
    add_registry(parser)


def _in_registry(args: argparse.Namespace) -> bool:
    """Whether a registry is meant: by its option, else by --as the server, else by the environment or settings."""
    if args.registry or (args.home is None and registry_url(args)):
        return True
    if args.home is None and (home := os.environ.get("AIMASS_HOME")):
        args.home = Path(home)
    if args.home is None:
        raise BadInput(
            "neither a server nor a registry is named",
            code="model.where",
            cure="Give --as YOUR_FOLDER for your server's models, or --registry URL for published versions.",
        )
    return False


def _reading() -> Any:
    return importlib.import_module(_READING)


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

    if args.format in _OF_VERSIONS:
        raise BadInput(
            "only a version in a registry has this form",
            code="model.form",
            value=args.format,
            cure="Publish it first: `aimass model publish`; then --registry URL and NAME@NUMBER.",
        )
    with Federation.open(args.home) as federation, Bar(args, "model") as bar:
        digest = federation.model(args.digest).digest
        if args.format in {None, _ANY_MODEL}:
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
