"""`aimass task`: the tasks that are installed here, their digests, and a new one to start from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.console import common, emit, group, lines

if TYPE_CHECKING:
    from aimass.proto.task import Task

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass task list
  aimass task digest heart
  aimass task check heart
  aimass task check ward --fix
  aimass task new ward --dir .
"""
_DIFFERENCES = ("replacement", "source")


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
    check.add_argument("--fix", action="store_true", help="write what would help into the task's source")
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
            **({} if source.base is None else {"base": source.base}),
        },
    )
    return 0


def _check(args: argparse.Namespace) -> int:
    """It runs the task's code here, unconfined, as training on one's own machine does."""
    from aimass.client.private_checks import private_findings
    from aimass.proto.checks import sound
    from aimass.proto.task import load, locate

    task = load(locate(args.name))
    found = list(private_findings(task))
    if sound(found):
        emit(args, {"findings": found})
        return 0
    helped, written = _help(args, task)
    _tell(args, {"findings": found, **helped})
    return 0 if written else 1


def _tell(args: argparse.Namespace, told: dict[str, object]) -> None:
    """Differences a line each, what else there is as always."""
    if args.json:
        emit(args, told)
        return
    for name, one in told.items():
        if name in _DIFFERENCES and isinstance(one, list):
            lines([f"{name}:", *one])
        else:
            emit(args, {name: one})


def _help(args: argparse.Namespace, task: Task) -> tuple[dict[str, object], bool]:
    """The model with other layers, what is found in that, and the change of the source that makes it so; whether this
    was written."""
    from aimass.client.private_checks import private_findings, replacement
    from aimass.client.task_fix import source_fix
    from aimass.proto.checks import sound
    from aimass.proto.console import write_output
    from aimass.proto.private_layers import private_layers

    difference = replacement(task)
    if not difference:
        return {}, False
    after = list(private_findings(task, lambda: private_layers(task.build())))
    shown: dict[str, object] = {"replacement": difference.splitlines(), "replaced": after}
    fix = source_fix(task) if sound(after) else None
    if fix is None:
        return shown, False
    shown["source"] = fix.diff.splitlines()
    if args.fix:
        write_output(fix.path, fix.after.encode())
        shown["written"] = str(fix.path)
        shown["next"] = f"it is another task now: aimass task digest {args.name}, and partners approve that"
    else:
        shown["next"] = f"aimass task check {args.name} --fix writes this into {fix.path}"
    return shown, args.fix


def _new(args: argparse.Namespace) -> int:
    from aimass.client.task_template import write_task

    folder = write_task(args.name, args.dir)
    emit(args, {"folder": str(folder), "next": f"pip install -e '{folder}[test]', then: python -m pytest {folder}"})
    return 0
