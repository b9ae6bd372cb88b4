"""`aimass task`: the tasks that are installed here, their digests, and a new one to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from aimass.proto.console import common, emit, group

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass task list
  aimass task digest heart
  aimass task check heart
  aimass task new ward --dir .
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass task`."""
    commands = group(parser, _EXAMPLE)
    common(commands.add_parser("list", help="tasks that are installed here"), _list)
    digest = commands.add_parser("digest", help="what a partner's policy admits: SHA-256 of a task's files")
    digest.add_argument("name")
    common(digest, _digest)
    check = commands.add_parser(
        "check", help="whether a task can be trained with differential privacy for each row, and what would help"
    )
    check.add_argument("name")
    common(check, _check)
    new = commands.add_parser("new", help="write a working task with its test")
    new.add_argument("name")
    new.add_argument("--dir", type=Path, default=Path())
    common(new, _new)


def _list(args: argparse.Namespace) -> int:
    from aimass.proto.task import installed_tasks, locate

    emit(args, [{"name": name, "digest": locate(name).digest} for name in installed_tasks()])
    return 0


def _digest(args: argparse.Namespace) -> int:
    from aimass.proto.task import locate

    source = locate(args.name)
    emit(
        args,
        {
            "name": source.name,
            "digest": source.digest,
            "module": source.module,
            "requirements": list(source.requirements),
        },
    )
    return 0


def _check(args: argparse.Namespace) -> int:
    """It runs the task's code here, unconfined, as training on one's own machine does."""
    from aimass.client.private_checks import private_findings, replacement
    from aimass.proto.checks import sound
    from aimass.proto.task import load, locate

    task = load(locate(args.name))
    found = list(private_findings(task))
    shown: dict[str, object] = {"findings": found}
    if not sound(found) and (difference := replacement(task)):
        shown["replacement"] = difference.splitlines() if args.json else "\n" + difference
    emit(args, shown)
    return 0 if sound(found) else 1


def _new(args: argparse.Namespace) -> int:
    from aimass.client.task_template import write_task

    folder = write_task(args.name, args.dir)
    emit(args, {"folder": str(folder), "next": f"pip install -e '{folder}[test]', then: python -m pytest {folder}"})
    return 0
