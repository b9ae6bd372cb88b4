"""`aimass offline submit | list | watch | stop | resume`: offline runs that a training service sees to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from aimass.proto.console import Bar, common, emit
from aimass.proto.errors import WrongState
from aimass.proto.origin import Schedule
from aimass.proto.run_cli import MOST, add_home, count, follow

__all__ = ["add_verbs"]

_SUBMIT = """The service finds the data set in one of the stores of its [offline] settings, starts the run's driver and
sees to it: one that dies is started again and goes on. Models stand in its registry beside those of federated runs.
"""


def add_verbs(commands: Any) -> None:
    """Add the verbs that speak to a service to the sub-commands of `aimass offline`."""
    submit = commands.add_parser("submit", help="have a training service see to a run", description=_SUBMIT)
    submit.add_argument("plan", type=Path, help="as for `aimass run submit`")
    submit.add_argument(
        "--data", required=True, metavar="NAME[@N]", help="the data set, and which version (the newest)"
    )
    submit.add_argument(
        "--schedule", choices=get_args(Schedule), default="averaging", help="how shards are trained on (averaging)"
    )
    submit.add_argument("--key", default="", help="idempotency key: the same key gives the same run")
    submit.add_argument("--watch", action="store_true", help="watch it until it ends")
    add_home(submit)
    common(submit, _submit)
    listing = commands.add_parser("list", help="offline runs, newest first")
    listing.add_argument("--limit", type=count, default=50, help=f"how many, to {MOST:,}")
    add_home(listing)
    common(listing, _list)
    for name, text, handler in (
        ("watch", "follow a run until it ends", _watch),
        ("stop", "stop a run's driver; what it has come to stays", _stop),
        ("resume", "go on with a run that was stopped, or whose driver died too often", _resume),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("run", help="its id, the first digits of it, or `last`")
        add_home(command)
        common(command, handler)


def _submit(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        with Bar(args, "first model") as bar:
            run = federation.submit_offline(args.plan, args.data, schedule=args.schedule, key=args.key, progress=bar)
        if args.watch:
            return follow(args, run)
        emit(args, run.view.summary)
    return 0


def _list(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        runs = [run for run in federation.runs(limit=MOST) if run.kind == "offline"][: args.limit]
    if args.json:
        emit(args, runs)
        return 0
    emit(
        args,
        [
            {
                "run": run.run_id[:8],
                "name": run.name,
                "task": run.task,
                "state": run.state,
                "round": f"{run.round}/{run.rounds}",
                "shards": run.partners,
                "owner": run.owner,
            }
            for run in runs
        ],
    )
    return 0


def _watch(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        return follow(args, federation.run(args.run))


def _stop(args: argparse.Namespace) -> int:
    return _steered(args, "pause")


def _resume(args: argparse.Namespace) -> int:
    return _steered(args, "resume")


def _steered(args: argparse.Namespace, change: str) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        run = federation.run(args.run)
        if run.view.origin is None:
            raise WrongState(
                "this run computes at partners",
                code="run.federated",
                value=run.id[:8],
                cure=f"aimass run {change} {run.id[:8]} steers it.",
            )
        emit(args, (run.pause() if change == "pause" else run.resume()).summary)
    return 0
