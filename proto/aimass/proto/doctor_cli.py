"""`aimass doctor`: why nothing happens, for whoever stands before a folder at night."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from aimass.proto.console import common

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass doctor --dir north        a partner's folder
  aimass doctor --dir server       a server's, running or not
  aimass doctor --dir olga --json  a person's, for programs

Looks at settings, keys, certificates, roster, name, port, TLS, clock, policy, data, tasks, disk and devices, and
changes nothing. Each fault and warning ends with what mends it. Exit code 1 where there is a fault.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aimass doctor`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{_EXAMPLE}\n{parser.description or ''}"
    parser.add_argument("--dir", type=Path, required=True, help="the folder of a server, a partner or a person")
    common(parser, _doctor)


def _doctor(args: argparse.Namespace) -> int:
    import json

    from aimass.proto.checks import Finding, State, sound
    from aimass.proto.console import plain
    from aimass.proto.errors import printable
    from aimass.proto.examination import findings_of

    found: list[Finding] = []
    for finding in findings_of(args.dir):
        found.append(finding)
        if not args.json and not (args.quiet and finding.state is State.OK):
            fix = f"  ({finding.fix})" if finding.fix else ""
            sys.stdout.write(printable(f"{finding.state:<8} {finding.check:<12} {finding.what}{fix}", 2_000) + "\n")
            sys.stdout.flush()
    if args.json:
        sys.stdout.write(
            json.dumps({"sound": sound(found), "findings": [plain(each) for each in found]}, indent=2) + "\n"
        )
    return 0 if sound(found) else 1
