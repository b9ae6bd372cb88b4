"""`aimass data replicate | verify | repair | gc`: data sets kept whole over several stores."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit, say

if TYPE_CHECKING:
    from aimass.server.datasets.care import House, Report
    from aimass.server.datasets.copies import Spend

__all__ = ["add_verbs"]

_NOT_WHOLE: Final = 8
"""Exit code where something is left to mend: that of a broken integrity."""

_REPLICATING: Final = """Says in how many of which stores each shard belongs, and copies what lacks. The first store is
the data set's home: versions are committed there, and these small documents are copied to every store. Broken off, the
same command goes on.
"""
_VERIFYING: Final = """Looks at every copy where it belongs: its bytes are read and hashed; with --quick its size says.
Exit code 8 where something is to be mended.
"""
_REPAIRING: Final = """Makes good what `verify` finds: documents from a store that has them, shards from a true copy.
What stood in a bad copy's place is kept under NAME/quarantine. Broken off, the same command does what is left.
"""
_COLLECTING: Final = """Deletes what no version refers to, in two runs: the first notes it, and one that comes a grace
period later deletes it. Nothing is deleted while a split is in progress or may be resumed, and never a version. What
killed writers left half written anywhere in its stores of files or HDFS is removed too, a day after the last write; in
a bucket a rule of its lifecycle does that.
"""


def add_verbs(commands: Any) -> None:
    """Add the verbs that keep data sets available to the sub-commands of `aimass data`."""
    replicate = _verb(commands, "replicate", "copies of a data set in several stores", _REPLICATING)
    replicate.add_argument("--to", action="append", default=[], metavar="URL", help="another store (repeat)")
    replicate.add_argument("--copies", type=int, metavar="N", help="of each shard (default: one in every store)")
    _rate(replicate)
    common(replicate, _replicate)
    verify = _verb(commands, "verify", "look at every copy of a data set's shards", _VERIFYING)
    verify.add_argument("--quick", action="store_true", help="do not read the shards")
    _rate(verify)
    common(verify, _verify)
    repair = _verb(commands, "repair", "make missing and false copies good", _REPAIRING)
    repair.add_argument("--quick", action="store_true", help="do not read shards that are there in the right size")
    _rate(repair)
    common(repair, _repair)
    gc = _verb(commands, "gc", "delete what no version of a data set refers to", _COLLECTING)
    gc.add_argument("--grace-hours", type=float, default=24.0, metavar="H", help="between the two runs (24)")
    gc.add_argument("--quarantine-days", type=float, default=30.0, metavar="D", help="bad shards are kept so long (30)")
    gc.add_argument("--dry-run", action="store_true", help="say what would be deleted now, and write nothing")
    common(gc, _gc)


def _verb(commands: Any, name: str, text: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="the data set" if name in {"replicate", "gc"} else "NAME, or NAME@3 for a version")
    place: Any = parser
    if name == "repair":
        place = parser.add_mutually_exclusive_group(required=True)
        place.add_argument("--as", dest="home", type=Path, metavar="DIR", help="your own folder: a service does it")
        parser.add_argument("--service", default="", metavar="HOST:PORT", help="(default: `data` of your client.toml)")
    place.add_argument(
        "--store",
        action="append",
        required=name != "repair",
        metavar="URL",
        help="where it stands; repeat, and the first that answers is asked",
    )
    return parser


def _rate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", metavar="SIZE", help="bytes a second to read and copy at most, such as 50MB")


def _replicate(args: argparse.Namespace) -> int:
    from aimass.proto.errors import BadInput
    from aimass.proto.objects import open_objects
    from aimass.server.datasets.care import open_house
    from aimass.server.datasets.placement import changed, place

    name, version = _named(args)
    if version is not None:
        raise BadInput("all versions of a data set are replicated", code="dataset.version", value=args.name)
    house = open_house(name, args.store, time.time())
    wanted = changed(house.placement, [open_objects(url).url for url in args.to], args.copies, time.time())
    if wanted is not None:
        place(house.home, name, wanted)
        house = open_house(name, [house.home.url], time.time())
    return _told(args, _repaired(args, house, None, deep=False))


def _verify(args: argparse.Namespace) -> int:
    from aimass.server.datasets.care import open_house, verify

    name, version = _named(args)
    house = open_house(name, args.store, time.time())
    spend = None if args.quick else _spend(args)
    return _told(args, verify(house, time.time(), spend, version, _shown(args)))


def _repair(args: argparse.Namespace) -> int:
    from aimass.server.datasets.care import open_house

    if args.home is not None:
        return _repair_there(args)
    name, version = _named(args)
    house = open_house(name, args.store, time.time())
    return _told(args, _repaired(args, house, version, deep=not args.quick))


def _repair_there(args: argparse.Namespace) -> int:
    """At a service, all versions and at its own rate."""
    from aimass.proto.data_api import DataSets

    with DataSets.open(args.home, args.service) as service:
        health = service.repair(args.name, deep=not args.quick)
    emit(args, health)
    return 0 if health.whole else _NOT_WHOLE


def _repaired(args: argparse.Namespace, house: House, version: int | None, *, deep: bool) -> Report:
    from aimass.server.datasets.care import repair

    return repair(
        house,
        time.time(),
        _spend(args),
        deep=deep,
        version=version,
        heard=_shown(args),
        mended=lambda one: say(args, f"{one.outcome}: shard {one.sha256[:12]} at {one.store} {one.code}".rstrip()),
    )


def _gc(args: argparse.Namespace) -> int:
    from aimass.proto.errors import BadInput
    from aimass.server.datasets.care import open_house
    from aimass.server.datasets.collecting import Grace, collect

    name, version = _named(args)
    if version is not None or args.grace_hours < 0 or args.quarantine_days < 0:
        raise BadInput("gc takes a data set's name, and no negative times", code="dataset.gc", value=args.name)
    house = open_house(name, args.store, time.time())
    grace = Grace(args.grace_hours * 3_600, args.quarantine_days * 86_400)
    found = collect(name, house.home, house.stores, time.time, grace, dry_run=args.dry_run)
    emit(
        args,
        {
            "would_delete" if args.dry_run else "deleted": found.deleted,
            "bytes": found.bytes,
            "waiting": found.waiting,
            "half_written": found.parts,
            "stopped": found.stopped or None,
        },
    )
    return 0


def _named(args: argparse.Namespace) -> tuple[str, int | None]:
    from aimass.proto.data_sets import read_name

    named = read_name(args.name)
    return named.name, named.version


def _spend(args: argparse.Namespace) -> Spend:
    from aimass.proto.data_sets import read_size
    from aimass.proto.pace import Throttle, check_rate

    rate = 0 if args.rate is None else read_size(args.rate)
    check_rate(rate, "--rate")
    return Throttle(rate, time.monotonic, time.sleep).spend


def _shown(args: argparse.Namespace) -> Any:
    """A line for every tenth of the copies."""
    last = -1

    def show(done: int, of: int) -> None:
        nonlocal last
        tenth = 10 * done // of if of else 10
        if tenth != last:
            last = tenth
            say(args, f"{done} of {of} copies looked at")

    return show


def _told(args: argparse.Namespace, report: Report) -> int:
    if args.json:
        emit(args, report)
    else:
        left, documents = report.left, report.documents
        emit(
            args,
            {
                "data_set": left.data_set,
                "whole": report.whole,
                "shards": left.shards,
                "copies": f"{left.good} good of {left.shards * left.wanted}",
                "missing": left.missing,
                "false": left.false,
                "stores_away": left.away,
                "under_replicated": len(left.under_replicated),
                "unknown": left.unknown,
                "lost": left.lost,
                "mended": sum(one.outcome == "copied" for one in report.mended),
                "not_mended": [one for one in report.mended if one.outcome != "copied"],
                "documents": documents.number,
                "documents_mended": documents.mirrored,
                "documents_bad": (*documents.incomplete, *documents.damaged, *documents.disputed),
            },
        )
    return 0 if report.whole else _NOT_WHOLE
