"""`aimass simulate`: a plan with as many partners as one likes, on one machine or on Spark."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.console import common, emit, say, table
from aimass.proto.sharding import RULES

if TYPE_CHECKING:
    from aimass.server.runs import Run
    from aimass.server.simulation.crew import Crew
    from aimass.server.simulation.folder import Folder

__all__ = ["add_arguments"]

_DEALING = ("partners", "split", "seed", "smallest", "held_out", "person")
_BEGINNING = ("data", "rows", "shards", *_DEALING, "policy", "pace")

_EXAMPLE = """examples:
  aimass simulate plan.toml --rows digits --partners 100 --split dirichlet:0.3 --out trial
  aimass simulate plan.toml --data rows.csv --partners 1000 --workers 2 --out trial
  aimass simulate plan.toml --shards shards --out trial
  aimass simulate plan.toml --shards shards --pace pace.toml --out trial
  aimass simulate --resume --out trial

A plan is what `aimass run submit` takes. Its partners are made of the data, or stand in a folder of
`aimass data partition`. Who is asked and counted, the trainer and what the gate lets out are as in a live run; over
the same shards both end in the same bits, unless partners were late, steps overlap or noise is private. Secure sums
are added without their masks: rounding, clipping and circles are as live (the rounding from the plan's seed), secrecy
is not simulated. With a pace partners take their time by a clock of its own, and who is slow is not waited for longer.

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aimass simulate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _EXAMPLE + RULES
    parser.add_argument("plan", type=Path, nargs="?", help="as for `aimass run submit`; may be left out with --resume")
    rows = parser.add_mutually_exclusive_group()
    rows.add_argument("--data", nargs="+", metavar="FILE", help="CSV or Parquet files of the task's schema")
    rows.add_argument("--rows", metavar="NAME", help="a public set of `aimass data list`")
    rows.add_argument("--shards", type=Path, metavar="DIR", help="a folder of `aimass data partition`")
    parser.add_argument("--partners", type=int, help="how many are made of the data")
    parser.add_argument("--split", metavar="RULE", help="how rows are dealt, see above (iid)")
    parser.add_argument("--seed", type=int, help="of the split; training has the plan's (0)")
    parser.add_argument("--smallest", type=int, help="least rows of a partner under dirichlet (2)")
    parser.add_argument("--held-out", type=float, help="share of the rows that are never trained on (0.2)")
    parser.add_argument("--person", metavar="COLUMN", help="column that says whose each row is (default: not known)")
    parser.add_argument(
        "--policy", type=Path, help="a partner's policy.toml (default: what the plan asks is permitted)"
    )
    parser.add_argument(
        "--pace", type=Path, metavar="FILE", help="how long partners take, by a clock of its own (TOML)"
    )
    parser.add_argument("--workers", type=int, help="processes; their number changes no bit (one a core)")
    parser.add_argument("--spark", metavar="MASTER", help="on Spark instead, such as local[2]; DIR must be seen by all")
    parser.add_argument("--out", type=Path, metavar="DIR", help="its folder (simulated-NAME)")
    parser.add_argument("--resume", action="store_true", help="go on where it stopped, to the same bits")
    common(parser, _simulate)


def _simulate(args: argparse.Namespace) -> int:
    from aimass.proto.durable import only_one
    from aimass.proto.errors import NotFound
    from aimass.server.engine import InstalledDrivers
    from aimass.server.simulation.folder import Folder
    from aimass.server.simulation.shell import Simulation
    from aimass.server.simulation.telling import Teller

    _check(args)
    path = _out(args)
    if args.resume and not (path / "run.json").is_file():
        raise NotFound(
            "no simulation stands in this folder",
            code="simulation.absent",
            value=path,
            cure="Begin it without --resume, or name its folder (--out).",
        )
    with only_one(path, "simulation"):
        folder = Folder(path)
        _prepared(args, folder)
        crew = _crew(args, path)
        teller = Teller(args)
        before = signal.signal(signal.SIGINT, teller.cut)
        try:
            run = Simulation(folder, crew, InstalledDrivers(), teller).run()
        except KeyboardInterrupt:
            teller.end()
            say(args, f"stopped; to go on: aimass simulate --resume --out {path}")
            raise
        finally:
            signal.signal(signal.SIGINT, before)
            crew.close()
        teller.end()
        emit(args, _summary(folder, run, time.monotonic() - teller.began))
        if not args.json:
            _surveys(folder)
    return 0 if run.state == "finished" else 1


def _check(args: argparse.Namespace) -> None:
    """Refuse options that would say nothing beside others that are given."""
    from aimass.proto.errors import BadInput

    for option, others, why in (
        ("resume", _BEGINNING, "a simulation goes on with the rows and the policy that it was begun with"),
        ("shards", _DEALING, "these shards were dealt by `aimass data partition`"),
        ("spark", ("workers",), "Spark has its own processes"),
    ):
        if getattr(args, option) and (idle := [name for name in others if getattr(args, name) is not None]):
            named = ", ".join("--" + name.replace("_", "-") for name in idle)
            raise BadInput(
                f"beside --{option} this says nothing: {why}",
                code="simulation.options",
                value=named,
                cure=f"Leave {named} out, or --{option}.",
            )


def _out(args: argparse.Namespace) -> Path:
    from aimass.proto.errors import BadInput
    from aimass.proto.plan import read_plan_draft

    if args.plan is None and not args.resume:
        raise BadInput("which plan?", code="simulation.plan", cure="aimass simulate PLAN, or --resume with --out.")
    if args.out is not None:
        return Path(args.out)
    if args.plan is None:
        raise BadInput("which simulation goes on?", code="simulation.out", cure="Name its folder: --out DIR.")
    return Path(f"simulated-{read_plan_draft(args.plan.read_text('utf-8'), str(args.plan)).name}")


def _prepared(args: argparse.Namespace, folder: Folder) -> None:
    """A simulation stands in the folder: a new one, or the one that goes on."""
    from aimass.proto.errors import AimassError
    from aimass.proto.plan import read_plan_draft
    from aimass.proto.values import decode_toml
    from aimass.server.simulation.begin import begin, check_same, completed
    from aimass.server.simulation.pace import Pace
    from aimass.server.simulation.telling import tell_unpublished

    draft = read_plan_draft(args.plan.read_text("utf-8"), str(args.plan)) if args.plan is not None else None
    if args.resume:
        check_same(folder, completed(draft, folder.blobs) if draft is not None else None)
        return
    assert draft is not None  # noqa: S101  (asked for above)
    policy = args.policy.read_text("utf-8") if args.policy is not None else None
    pace = decode_toml(Pace, args.pace.read_text("utf-8"), str(args.pace)) if args.pace is not None else None
    plan, own = completed(draft, folder.blobs), folder.path / "shards"
    ours = not own.exists()
    try:
        begin(folder, plan, _shards(args, plan.task.name, own), policy, pace)
    except AimassError:
        if ours:  # who corrects the command is not told that other shards stand there
            shutil.rmtree(own, ignore_errors=True)
        raise
    tell_unpublished(args, plan)


def _shards(args: argparse.Namespace, task: str, own: Path) -> Path:
    """The folder of shards that was named, or the simulation's own, made of the data."""
    from aimass.proto.errors import BadInput
    from aimass.proto.sharding import read_split, write_shards
    from aimass.proto.task import load, locate
    from aimass.server.simulation.partner import data_files

    if args.shards is not None:
        return Path(args.shards)
    named = args.data or ([args.rows] if args.rows else None)
    if named is None:
        raise BadInput("whose rows?", code="simulation.rows", cure="Give --data, --rows or --shards.")
    smallest = 2 if args.smallest is None else args.smallest
    held_out = 0.2 if args.held_out is None else args.held_out
    split = read_split("iid" if args.split is None else args.split, args.partners, args.seed or 0, smallest)
    files = data_files(named, say=lambda text: say(args, text))
    made = write_shards(load(locate(task)).schema, files, split, own, held_out=held_out, person=args.person)
    say(args, f"{len(made.shards)} partners, {sum(shard.rows for shard in made.shards):,} rows dealt by {split}")
    return own


def _crew(args: argparse.Namespace, folder: Path) -> Crew:
    from aimass.proto.errors import BadInput
    from aimass.server.simulation.crew import Alone, Processes
    from aimass.server.simulation.site import InFolder

    opens = InFolder(folder)
    if args.spark is not None:
        from aimass.server.simulation.spark import Spark

        return Spark(InFolder(folder.resolve()), args.spark, "aimass simulate")
    if args.workers is not None and args.workers < 0:
        raise BadInput("so many processes there are not", code="simulation.workers", value=args.workers)
    count = args.workers or len(os.sched_getaffinity(0))
    return Alone(opens) if count == 1 else Processes(opens, count)


def _summary(folder: Folder, run: Run, seconds: float) -> dict[str, object]:
    from aimass.proto.step import StepKind
    from aimass.server.simulation.telling import course, peak_mb

    told = list(folder.committed())
    evaluated = [step for step in told if step.kind is StepKind.EVALUATE and step.metrics]
    figures: dict[str, object] = {
        "state": run.state,
        "reason": run.reason,
        "partners": len(run.participants),
        "rounds": max((step.round for step in told), default=0),
        "seconds": round(seconds, 1),
        "peak_memory_mb": peak_mb(),
        "model": run.model,
        "model_file": str(folder.export(run.model)),
        "rounds_file": str(folder.path / "rounds.jsonl"),
        "plan_file": str(folder.path / "plan.json"),
    }
    if evaluated:
        figures["metrics"] = [course(name, evaluated) for name in evaluated[-1].metrics]
    return figures


def _surveys(folder: Folder) -> None:
    """What its surveys found, a table each."""
    from aimass.proto.statistics_text import heading, table_of

    for step in folder.committed():
        if step.statistics is not None and step.statistics.found is not None:
            sys.stdout.write(f"step {step.index}: {heading(step.statistics)}\n")
            table(table_of(step.statistics.found))
