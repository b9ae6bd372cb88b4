"""`aimass client base add | list | remove`: the frozen models that tasks build on, a partner's or one's own."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.proto.console import Handler, common, emit

if TYPE_CHECKING:
    from aimass.proto.bases import BaseFolder

__all__ = ["add_arguments"]

_DIR = "the partner's folder (default: your own bases, for submitting, simulating and predicting)"


def add_arguments(commands: Any) -> None:
    """Add `base` with its commands."""
    inner = commands.add_parser("base", help="frozen models that tasks build on").add_subparsers(required=True)
    _command(inner, "list", "what is here, by name and digest", _list)
    add = _command(inner, "add", "take a safetensors file; it is stored in the one form that its digest is of", _add)
    add.add_argument("file", type=Path)
    add.add_argument("--name", help="what people call it (default: the file's name)")
    remove = _command(inner, "remove", "delete one; a run that needs it fetches it again", _remove)
    remove.add_argument("base", help="its name, or the first digits of its digest")


def _command(commands: Any, name: str, text: str, handler: Handler) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--dir", type=Path, help=_DIR)
    common(parser, handler)
    return parser


def _folder(args: argparse.Namespace) -> BaseFolder:
    from aimass.proto.bases import BaseFolder, own_bases
    from aimass.proto.home import load_home

    if args.dir is None:
        return own_bases()
    load_home(args.dir)
    return BaseFolder(args.dir / "bases")


def _list(args: argparse.Namespace) -> int:
    emit(args, list(_folder(args).all()))
    return 0


def _add(args: argparse.Namespace) -> int:
    name = args.name or re.sub("[^a-z0-9]+", "-", args.file.stem.lower()).strip("-")
    emit(args, _folder(args).add(name, args.file))
    return 0


def _remove(args: argparse.Namespace) -> int:
    folder = _folder(args)
    base = folder.find(args.base)
    folder.remove(base)
    emit(args, {"removed": base.digest, "name": base.name, "bytes": base.bytes})
    return 0
