"""`aimass run`: submit, watch and steer runs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aimass.proto.console import Bar, common, emit, group, plain, say, table
from aimass.proto.errors import NotFound
from aimass.proto.statistics_text import heading, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aimass.proto.api import Run
    from aimass.proto.app_plan import AppDraft
    from aimass.proto.values import Scalar
    from aimass.proto.views import RunView, StepView

__all__ = ["MOST", "add_arguments", "add_home", "count", "follow", "slot_reasons"]

MOST: Final = 1_000_000
_LAST_STEPS: Final = 50

_EXAMPLE = """examples:
  aimass run submit plan.toml --as scientist
  aimass run submit --flower ./quickstart --run-config "lr=0.1 local-epochs=2" --as scientist
  aimass run watch last --as scientist
  aimass run show 3f2a --as scientist --json
  aimass run statistics last --as scientist
  aimass run stop 3f2a --as scientist
"""


_SUBMIT: Final = """From a plan of your own, or from a Flower app as it is: then PLAN may be left out, or say in TOML
name, data_schema (NAME/1), seed, rounds, [cohort] and [secure]. The operator and each partner install the app before,
and each partner approves it: no code travels. See docs/coming-from-flower.md.
"""


def count(text: str) -> int:
    """How many records to list."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 to {MOST:,}")
    return int(text)


def add_home(parser: argparse.ArgumentParser) -> None:
    """The option that says as whom to connect."""
    default = os.environ.get("AIMASS_HOME")
    parser.add_argument(
        "--as",
        dest="home",
        type=Path,
        default=default,
        required=default is None,
        help="your folder, made by `aimass client enroll` (or set AIMASS_HOME)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass run`."""
    commands = group(parser, _EXAMPLE)
    submit = commands.add_parser(
        "submit", help="start a run from a plan, or of a Flower app",
        description=_SUBMIT, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    submit.add_argument("plan", type=Path, nargs="?", help="a TOML file; not needed with --flower")
    submit.add_argument(
        "--flower", type=Path, metavar="APP", help="the folder of a Flower app, with its pyproject.toml"
    )
    config = "values over the app's own configuration: 'key=1 name=\"text\"', or a TOML file (repeat for several)"
    submit.add_argument("--run-config", action="append", default=[], metavar="VALUES", help=config)
    submit.add_argument("--rounds", type=count, help="most rounds of the app (its num-server-rounds)")
    initial = "first model of an app whose server side is a bare strategy: a safetensors file"
    submit.add_argument("--initial", type=Path, metavar="FILE", help=initial)
    submit.add_argument("--key", default="", help="idempotency key: the same key gives the same run")
    submit.add_argument("--base", action="store_true", help="send the task's base too, for partners that lack it")
    submit.add_argument("--watch", action="store_true", help="watch it until it ends")
    add_home(submit)
    common(submit, _submit)
    listing = commands.add_parser("list", help="runs, newest first")
    listing.add_argument("--state", default="")
    listing.add_argument("--limit", type=count, default=50, help=f"how many, to {MOST:,}")
    add_home(listing)
    common(listing, _list)
    for name, text in (
        ("show", "a run in full"),
        ("watch", "follow a run until it ends"),
        ("pause", "open no new steps"),
        ("resume", "go on after a pause"),
        ("stop", "end a run; what was committed stays"),
        ("prune", "keep the first, last and best model of a run that has ended"),
        ("receipts", "what was counted of whom"),
        ("statistics", "what its surveys found: counts, histograms, moments, quantiles"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("run", help="its id, the first digits of it, or `last`")
        add_home(command)
        common(command, _OWN.get(name, _change))
        command.set_defaults(change=name)
        if name == "show":
            command.add_argument("--all", action="store_true", help=f"every step, not the last {_LAST_STEPS} alone")

    readmit = commands.add_parser("readmit", help="ask a partner again that was excluded after failing too often")
    readmit.add_argument("run", help="its id, the first digits of it, or `last`")
    readmit.add_argument("partner")
    add_home(readmit)
    common(readmit, _readmit)
    text = "end a study: partners free what was reserved for it and no run has spent"
    study = commands.add_parser("end-study", help=text)
    study.add_argument("study", help="its id, as the plans of its runs have it")
    add_home(study)
    common(study, _end_study)


def _submit(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    app = _app(args)
    with Federation.open(args.home) as federation:
        if app is not None:
            run = federation.submit_app(args.flower, *app, initial=args.initial, key=args.key)
        else:
            with Bar(args, "first model") as bar:
                run = federation.submit(args.plan, key=args.key, base=args.base, progress=bar)
        if args.watch:
            return follow(args, run)
        emit(args, run.view.summary)
    return 0


def _app(args: argparse.Namespace) -> tuple[AppDraft, dict[str, Scalar]] | None:
    """What was said of a run with an app; None for a run from a plan."""
    import msgspec

    from aimass.proto.app_config import parse_config
    from aimass.proto.app_plan import AppDraft, read_app_draft
    from aimass.proto.errors import BadInput

    if args.flower is None:
        if args.plan is None or args.run_config or args.rounds or args.initial:
            raise BadInput(
                "name a plan, or an app; --run-config, --rounds and --initial go with an app",
                code="run.what",
                cure="aimass run submit PLAN, or aimass run submit --flower APP.",
            )
        return None
    draft = AppDraft() if args.plan is None else read_app_draft(args.plan.read_text("utf-8"), str(args.plan))
    if args.rounds:
        draft = msgspec.structs.replace(draft, rounds=args.rounds)
    return draft, parse_config(args.run_config, "--run-config")


def follow(args: argparse.Namespace, run: Run) -> int:
    """A line for each change of a run until it has ended; the exit code."""
    last = ""
    for view in run.watch():
        line = describe(view)
        if line != last:
            say(args, line)
            last = line
    emit(args, run.view.summary)
    return 0 if run.view.summary.state == "finished" else 1


def describe(view: RunView) -> str:
    """One line on where a run stands."""
    summary = view.summary
    line = f"{summary.name} {summary.state}: round {summary.round}/{summary.rounds}"
    if summary.state == "waiting":
        waiting = [f"{p.partner} ({p.reason or p.state})" for p in view.participants if p.state != "joined"]
        return f"{line}, waiting for {', '.join(waiting)}"
    for step in reversed(view.steps):
        if step.metrics and step.round == summary.round:
            line += "  " + "  ".join(f"{name} {metric.mean:.4f}" for name, metric in step.metrics.items())
            break
    return line


def _list(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        runs = federation.runs(args.state, args.limit)
    if args.json:
        emit(args, runs)
    else:
        emit(
            args,
            [
                {
                    "run": r.run_id[:8],
                    "name": r.name,
                    "kind": r.kind,
                    "task": r.task,
                    "state": r.state,
                    "round": f"{r.round}/{r.rounds}",
                    "partners": r.partners,
                    "owner": r.owner,
                }
                for r in runs
            ],
        )
    return 0


def _show(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        view = federation.run(args.run).view
    if args.json:
        emit(args, view)
        return 0
    emit(args, view.summary)
    moved = {"down_bytes": view.moved.down, "up_bytes": view.moved.up, "spared_bytes": view.moved.spared}
    emit(args, {"disk_bytes": view.disk_bytes} | moved)
    emit(args, {"participants": list(view.participants)} if view.origin is None else {"origin": view.origin})
    if (outcome := view.outcome) is not None:
        emit(args, {"in_the_registry": outcome.version, "it_is": outcome.state, "because": outcome.said})
    steps = view.steps if args.all else view.steps[-_LAST_STEPS:]
    if earlier := len(view.steps) - len(steps):
        emit(args, {"earlier_steps": f"{earlier:,} (with --all)"})
    emit(
        args,
        {
            "steps": [
                {
                    "step": s.index,
                    "kind": s.kind,
                    "round": s.round,
                    "state": s.state,
                    "slots": {name: str(state) for name, state in s.slots.items()},
                    "metrics": {name: round(m.mean, 4) for name, m in s.metrics.items()},
                }
                for s in steps
            ]
        },
    )
    if reasons := slot_reasons(steps):
        emit(args, {"reasons": reasons})
    if surveys := [{"step": step.index, "found": heading(one)} for step in steps if (one := step.statistics)]:
        emit(args, {"statistics": surveys})
    if failed := [{"step": step.index, "no_sum": why} for step in steps for why in step.failed_attempts]:
        emit(args, {"secure_sums": failed})
    return 0


def slot_reasons(steps: Sequence[StepView]) -> list[dict[str, object]]:
    """Why slots were refused, failed or late, one line for each."""
    return [
        {"step": step.index, "partner": partner, "slot": str(step.slots.get(partner, "")), "reason": reason}
        for step in steps
        for partner, reason in step.reasons.items()
    ]


def _watch(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        return follow(args, federation.run(args.run))


def _change(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        run = federation.run(args.run)
        before = run.view.disk_bytes
        changes = {"pause": run.pause, "resume": run.resume, "stop": run.stop, "prune": run.prune}
        view = changes[args.change]()
    if args.change == "prune":
        emit(args, {"run": run.id, "freed_bytes": before - view.disk_bytes, "disk_bytes": view.disk_bytes})
    else:
        emit(args, view.summary)
    return 0


def _readmit(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        view = federation.run(args.run).readmit(args.partner)
    emit(args, {"participants": [p for p in view.participants if p.partner == args.partner]})
    return 0


def _end_study(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        emit(args, federation.end_study(args.study))
    return 0


def _receipts(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        receipts = federation.run(args.run).receipts()
    if args.json:
        emit(args, receipts)
    else:
        emit(
            args,
            [
                {"step": r.step, "partner": r.partner, "outcome": r.outcome, "contribution": r.contribution[:16]}
                for r in receipts.receipts
            ],
        )
    sys.stdout.flush()
    return 0


def _statistics(args: argparse.Namespace) -> int:
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        view = federation.run(args.run).view
    told = [(step.index, step.statistics) for step in view.steps if step.statistics is not None]
    if not told:
        raise NotFound(
            "this run has no statistics",
            code="run.no_statistics",
            value=view.summary.run_id,
            cure="Wait for the step of a survey, or give the plan one: counts, histogram, moments, quantiles.",
        )
    if args.json:
        emit(args, {"statistics": [{"step": index, **plain(statistics)} for index, statistics in told]})
        return 0
    for index, statistics in told:
        sys.stdout.write(f"step {index}: {heading(statistics)}\n")
        if statistics.found is not None:
            table(table_of(statistics.found))
    return 0


_OWN: Final = {"show": _show, "watch": _watch, "receipts": _receipts, "statistics": _statistics}
