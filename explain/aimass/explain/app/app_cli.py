"""`aimass explain app`: the explainer in a browser."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, lines, say
from aimass.proto.errors import NotInstalled
from aimass.proto.registry.places import add_registry

if TYPE_CHECKING:
    from aimass.explain.app.settings import AppSettings

__all__ = ["add_verbs", "settings_of"]

_SAYS: Final = """The app reads the services as the person whose folder --as names, and shows what that role may
see. With nothing else it opens on what `aimass up` or the demo made here. Rows that it offers are named with --rows;
what a viewer uploads stays in their session."""
_PREFIX: Final = "AIMASS_APP_"


def add_verbs(commands: Any) -> None:
    """Add `app`."""
    verb = commands.add_parser("app", help="the explainer in a browser", description=_SAYS)
    verb.add_argument("--settings", type=Path, metavar="FILE", help="TOML; AIMASS_APP_* stand over it")
    verb.add_argument("--as", dest="home", metavar="FOLDER", help="a person's folder at the training server")
    verb.add_argument("--data", metavar="HOST:PORT", help="the data set service")
    verb.add_argument("--serving", action="append", default=[], metavar="URL", help="a prediction server; repeated")
    verb.add_argument("--studies", metavar="FOLDER", help="where `aimass tune` writes")
    verb.add_argument(
        "--rows",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="rows to ask about; one NAME may have several, told apart as NAME=WHOSE=FILE",
    )
    verb.add_argument(
        "--rows-for",
        action="append",
        default=[],
        choices=("operator", "scientist", "analyst"),
        help="who may ask about --rows; repeated. Else everybody; of people who log in operators and scientists",
    )
    known = verb.add_mutually_exclusive_group()
    known.add_argument("--held-out", dest="held_out", action="store_const", const=True, help="no model saw --rows")
    known.add_argument("--trained-on", dest="held_out", action="store_const", const=False, help="models saw --rows")
    verb.add_argument("--task", default="", help="whose schema --rows fit")
    verb.add_argument("--login", metavar="FILE", help="where people log in (OpenID Connect): docs/operator.md")
    verb.add_argument("--open", action="store_true", help="no login, and other machines may come: everybody may look")
    verb.add_argument("--listen", metavar="HOST:PORT", help="where it is shown (127.0.0.1:8501)")
    add_registry(verb)
    common(verb, functools.partial(_app))


def _app(args: argparse.Namespace) -> int:
    from aimass.explain.app.found import nothing_named, told_found

    meant = _meant(args)
    settings = _with_what_is_here(meant)
    if nothing_named(meant):
        for line in told_found(Path.cwd(), settings):
            say(args, line)
    try:
        from aimass.explain.app.serving_app import serve
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"the app needs the package {error.name}", code="app.extra", cure="Type: pip install 'aimass[explain]'"
        ) from error

    def ready(address: str) -> None:
        if args.json:
            emit(args, {"state": "ready", "address": address})
        else:
            lines([f"ready {address}"])
        sys.stdout.flush()

    serve(settings, ready)
    return 0


def settings_of(args: argparse.Namespace) -> AppSettings:
    """The file, the environment over it, options over both; where these name nothing, what was made here."""
    return _with_what_is_here(_meant(args))


def _with_what_is_here(meant: AppSettings) -> AppSettings:
    import msgspec

    from aimass.explain.app.found import found_here, nothing_named
    from aimass.explain.app.settings import AppSettings

    if not nothing_named(meant):
        return meant
    usual = AppSettings()
    here = found_here(Path.cwd())
    fields = {name: value for name, value in here.items() if getattr(meant, name) == getattr(usual, name)}
    return msgspec.structs.replace(meant, **fields)


def _meant(args: argparse.Namespace) -> AppSettings:
    """What the file, the environment and the options say."""
    import msgspec

    from aimass.explain.app.settings import AppSettings
    from aimass.proto.settings import read_settings
    from aimass.proto.wire import split_address

    text = "" if args.settings is None else args.settings.read_text("utf-8")
    found = read_settings(AppSettings, text, str(args.settings or "settings"), _PREFIX, os.environ)
    said: dict[str, Any] = {
        "home": args.home or found.home or os.environ.get("AIMASS_HOME", ""),
        "registry": args.registry or found.registry,
        "trust": found.trust if args.trust is None else str(args.trust),
        "data": args.data or found.data,
        "serving": tuple(args.serving) or found.serving,
        "studies": args.studies or found.studies,
        "login": args.login or found.login,
        "open": args.open or found.open,
        "rows": (*found.rows, *_rows(args)),
    }
    if args.listen:
        said["host"], said["port"] = split_address(args.listen)
    return msgspec.structs.replace(found, **said)


def _rows(args: argparse.Namespace) -> list[Any]:
    """`NAME=FILE`, or `NAME=WHOSE=FILE`, by name, in the order of their first mention."""
    from aimass.explain.app.settings import RowsSetting

    files: dict[str, list[str]] = {}
    for one in args.rows:
        name, _, path = one.partition("=")
        files.setdefault(name if path else Path(one).stem, []).append(path or one)
    return [
        RowsSetting(name=name, files=tuple(paths), task=args.task, held_out=args.held_out, roles=tuple(args.rows_for))
        for name, paths in files.items()
    ]
