"""`aimass model`: list, show and export committed models."""

from __future__ import annotations

import argparse
from pathlib import Path

from aimass.proto.console import Bar, common, emit, group
from aimass.proto.run_cli import MOST, add_home, count

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass model list --as scientist
  aimass model export last model.safetensors --as scientist
"""
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
    export = commands.add_parser("export", help="fetch a model as a safetensors file")
    export.add_argument("digest", help=_DIGEST)
    export.add_argument("path", type=Path, help="file to write")
    add_home(export)
    common(export, _export)


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

    with Federation.open(args.home) as federation:
        with Bar(args, "model") as bar:
            path = federation.export(args.digest, args.path, bar)
        digest = federation.model(args.digest).digest
    emit(args, {"written": str(path), "digest": digest, "bytes": path.stat().st_size})
    return 0
