"""`aimass client app` and `aimass server app`: Flower apps installed, listed and removed, the same on both sides."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.console import Handler, emit

if TYPE_CHECKING:
    from aimass.proto.apps import App

__all__ = ["add_app_commands"]

Command = Callable[[str, str, Handler], argparse.ArgumentParser]
Spare = Callable[[Path, str, str], None]
"""Raises where an app of a folder, by name and digest ("": all of the app), is needed."""


def add_app_commands(command: Command, after: str, spare: Spare = lambda *_: None) -> None:
    """Add `install`, `list`, `remove`: `command` makes one whose arguments have `dir`; `after` says what comes next,
    and `spare` what is not to be removed."""
    install = command("install", "copy an app's folder here, as it is now; runs nothing of it", _install)
    install.add_argument("path", type=Path, help="the folder with its pyproject.toml")
    install.set_defaults(after=after)
    command("list", "apps that are installed here, with their digests", _list)
    remove = command("remove", "delete an installed app", _remove)
    remove.add_argument("name")
    remove.add_argument("--digest", default="", help="of one version (default: all of the app)")
    remove.set_defaults(spare=spare)


def _install(args: argparse.Namespace) -> int:
    from aimass.proto.apps import install, read_app

    app = install(read_app(args.path), args.dir)
    emit(args, {**_told(app), "folder": str(app.folder), "next": args.after.format(name=app.name, dir=args.dir)})
    return 0


def _list(args: argparse.Namespace) -> int:
    from aimass.proto.apps import installed

    emit(args, [_told(app) for app in installed(args.dir)] or ([] if args.json else "no app is installed here"))
    return 0


def _remove(args: argparse.Namespace) -> int:
    from aimass.proto.apps import remove

    args.spare(args.dir, args.name, args.digest)
    emit(args, {"removed": args.name, "digests": list(remove(args.dir, args.name, args.digest))})
    return 0


def _told(app: App) -> dict[str, str]:
    return {
        "name": app.name,
        "version": app.version,
        "digest": app.digest,
        "client_app": app.client_app or "none",
        "server_app": app.server_app or "none",
    }
