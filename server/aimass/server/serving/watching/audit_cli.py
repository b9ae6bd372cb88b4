"""`aimass serve audit`: what a serving process decided, and why, as it wrote it down."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Final

from aimass.proto.console import common

__all__ = ["add_audit"]

_EXAMPLE: Final = """examples:
  aimass serve audit                          what was decided, oldest first
  aimass serve audit heart --since 12h        of one model, tonight
  aimass serve audit --kind refused --json    for programs
"""
_UNITS: Final = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}


def add_audit(commands: Any) -> None:
    """Add the command."""
    audit = commands.add_parser(
        "audit",
        help="what was decided about the models that are served, and why",
        description=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument("model", nargs="?", default="", metavar="MODEL", help="of this model alone")
    audit.add_argument("--cache", type=Path, default=Path("serve-cache"), help="the server's folder (./serve-cache)")
    audit.add_argument("--since", type=_seconds, default=None, metavar="TIME", help="of the last 30m, 12h, 7d")
    audit.add_argument(
        "--kind", action="append", default=[], help="of this kind alone: refused, taken_back, … (repeat)"
    )
    common(audit, _audit)


def _audit(args: argparse.Namespace) -> int:
    import json
    import time

    from aimass.proto.console import plain
    from aimass.proto.errors import NotFound
    from aimass.server.serving.watching.audit_log import read_audit, told

    if not args.cache.is_dir():
        raise NotFound(
            "no serving process has written here",
            code="audit.absent",
            value=args.cache,
            cure="Name the folder that it was given by --cache.",
        )
    first = 0.0 if args.since is None else time.time() - args.since
    for line in read_audit(args.cache):
        of_model = not args.model or args.model in {line.target, line.target.partition("@")[0]}
        if of_model and line.at >= first and (not args.kind or line.kind in args.kind):
            sys.stdout.write((json.dumps(plain(line)) if args.json else told(line)) + "\n")
    return 0


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 30m, 12h or 7d")
    return float(found[1]) * _UNITS[found[2]]
