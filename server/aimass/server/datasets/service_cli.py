"""`aimass data init | serve | status | watch | owner | admit`: the data set service, and what it says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, plain, write_output

if TYPE_CHECKING:
    from aimass.proto.data_views import DataSetList, DataSetView

__all__ = ["add_verbs", "at_a_service"]

_SERVING: Final = """Serves the data sets of its stores: registers versions, says what there is, lends shards to
workers, and verifies and repairs in the background at a bounded rate. Of several on one store one does the work in the
background, and when it falls silent another does.
"""


def add_verbs(commands: Any) -> None:
    """Add the service's verbs to the sub-commands of `aimass data`."""
    init = commands.add_parser("init", help="make a data set service of an enrolled service's folder")
    init.add_argument("dir", type=Path, help="the folder of `aimass client enroll`, of role service, with a host")
    init.add_argument("--store", action="append", required=True, metavar="URL", help="repeat; the first is the home")
    init.add_argument("--listen", default="127.0.0.1:8445", help="HOST:PORT (127.0.0.1:8445)")
    common(init, _init)
    serve = commands.add_parser(
        "serve",
        help="run the data set service until SIGTERM or Ctrl-C",
        description=_SERVING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--dir", type=Path, default=Path(), help="its folder (the working folder)")
    common(serve, _serve)
    status = commands.add_parser("status", help="all data sets of a service, and how their copies are")
    at_a_service(status, required=True)
    common(status, _status)
    watch = commands.add_parser("watch", help="the same at each change, until Ctrl-C")
    at_a_service(watch, required=True)
    common(watch, _watch)
    owner = commands.add_parser("owner", help="whose a data set is, and to make it somebody else's")
    owner.add_argument("name", help="the data set")
    owner.add_argument("--to", default="", metavar="PERSON", help="the new owner, by the name of the certificate")
    at_a_service(owner, required=True)
    common(owner, _owner)
    admit = commands.add_parser("admit", help="install a bundle that the root holder signed in a running service")
    admit.add_argument("bundle", type=Path)
    at_a_service(admit, required=True)
    common(admit, _admit)


def at_a_service(parser: Any, *, required: bool) -> None:
    """The options that say which service is asked, and as whom."""
    parser.add_argument("--as", dest="home", type=Path, required=required, metavar="DIR", help="your own folder")
    parser.add_argument("--service", default="", metavar="HOST:PORT", help="(default: `data` of your client.toml)")


def _init(args: argparse.Namespace) -> int:
    from aimass.proto.errors import Conflict
    from aimass.proto.objects import open_objects
    from aimass.proto.wire import split_address
    from aimass.server.datasets.main import own_name
    from aimass.server.datasets.settings import FILE, template

    name = own_name(args.dir)
    if (args.dir / FILE).exists():
        raise Conflict("a data set service is here already", code="dataset.service_exists", value=args.dir)
    split_address(args.listen)
    stores = [open_objects(url).url for url in args.store]
    write_output(args.dir / FILE, template(args.listen, stores).encode())
    emit(args, {"service": name, "settings": str(args.dir / FILE), "next": f"aimass data serve --dir {args.dir}"})
    return 0


def _serve(args: argparse.Namespace) -> int:
    from aimass.proto.logs import configure_logs
    from aimass.server.datasets.main import Started, serve
    from aimass.server.datasets.settings import load_settings
    from aimass.server.running import run_until_told

    configure_logs(load_settings(args.dir).log, quiet=args.quiet)

    def ready(started: Started) -> None:
        sys.stdout.write(f"ready: port {started.port}\n")
        sys.stdout.flush()

    run_until_told(lambda stop: serve(args.dir, stop, ready))
    return 0


def _status(args: argparse.Namespace) -> int:
    from aimass.proto.data_api import DataSets

    with DataSets.open(args.home, args.service) as service:
        _show(args, service.all())
    return 0


def _watch(args: argparse.Namespace) -> int:
    from aimass.proto.data_api import DataSets

    with DataSets.open(args.home, args.service) as service:
        for found in service.watch():
            _show(args, found)
            sys.stdout.flush()
    return 0


def _owner(args: argparse.Namespace) -> int:
    from aimass.proto.data_api import DataSets

    with DataSets.open(args.home, args.service) as service:
        found = service.owner(args.name, args.to)
    told = {"data_set": found.name, "owner": found.owner or "nobody", "handed_on_by": found.by or None}
    emit(args, found if args.json else told)
    return 0


def _admit(args: argparse.Namespace) -> int:
    from aimass.proto.data_api import DataSets

    with DataSets.open(args.home, args.service) as service:
        emit(args, service.install_trust(args.bundle.read_bytes()))
    return 0


def _show(args: argparse.Namespace, found: DataSetList) -> None:
    if args.json:
        emit(args, found)
        return
    emit(args, [_line(view) for view in found.data_sets] or "no data sets")
    if found.faults:
        emit(args, {"cannot be shown": plain(found.faults)})


def _line(view: DataSetView) -> dict[str, Any]:
    health = view.health
    return {
        "name": f"{view.name}@{view.version}",
        "rows": view.rows,
        "shards": view.shards,
        "copies": view.copies,
        "stores": len(view.stores),
        "whole": None if health is None else health.whole,
        "too_few": None if health is None else health.under_replicated,
        "lost": None if health is None else len(health.lost),
        "home_away": view.home_away or None,
        "looked_at": None if health is None else health.looked_at,
    }
