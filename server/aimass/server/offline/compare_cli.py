"""`aimass offline compare`: whether two runs came to the same bits, and where they parted if they did not."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.proto.console import common, emit

if TYPE_CHECKING:
    from aimass.server.offline.comparison import Comparison, Parting

__all__ = ["add_verb"]

_COMPARE = """examples:
  aimass offline compare file:///runs/adult s3://runs/adult
  aimass offline compare file:///runs/adult simulated-adult
  aimass offline compare file:///runs/adult 3f2a --as scientist

A run is named by the URL of an offline run's store, by the folder of a simulation, or by its id at a training service,
whether it computed at partners or offline. Exit code 0: both came to the same bits; 1: they parted.

"""


def add_verb(commands: Any) -> None:
    """Add `compare` to the sub-commands of `aimass offline`."""
    compare = commands.add_parser(
        "compare",
        help="where two runs part: round, tensor, first element",
        description=_COMPARE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare.add_argument("first", metavar="RUN")
    compare.add_argument("second", metavar="RUN")
    compare.add_argument(
        "--as", dest="home", type=Path, default=os.environ.get("AIMASS_HOME"), help="your folder, for runs by their id"
    )
    common(compare, _compare)


def _compare(args: argparse.Namespace) -> int:
    import tempfile

    from aimass.server.offline.comparison import compare
    from aimass.server.offline.courses import open_course

    with tempfile.TemporaryDirectory() as scratch:
        home = None if args.home is None else Path(args.home)
        (one, open_one), (other, open_other) = (
            open_course(named, home, Path(scratch)) for named in (args.first, args.second)
        )
        found = compare(one, other, open_one, open_other)
    if args.json:
        emit(args, found)
    else:
        _told(args, found)
    return 0 if found.equal else 1


def _told(args: argparse.Namespace, found: Comparison) -> None:
    if found.begun:
        sys.stdout.write("begun with:\n")
        emit(args, list(found.begun))
    if found.parting is None:
        sys.stdout.write(f"equal: {found.steps} steps came to the same bits\n")
        return
    parting = found.parting
    sys.stdout.write(f"parted at step {parting.place} ({parting.kind}, round {parting.round}): {_why(parting)}\n")
    if parting.metrics:
        emit(args, list(parting.metrics))
    if parting.tensors:
        emit(args, list(parting.tensors))


def _why(parting: Parting) -> str:
    match parting.why:
        case "end":
            return "one of them ends here"
        case "step":
            return "they did not do the same"
        case "metrics":
            return "equal models, and other metrics"
        case "model" if parting.tensors is None:
            return "other models; they are not kept any more, so their tensors cannot be looked at"
        case "model" if parting.looked_at != parting.place:
            return f"other models, not kept any more; at step {parting.looked_at} the tensors differ so:"
        case "model":
            return f"other models, in {len(parting.tensors or ())} tensors:"
