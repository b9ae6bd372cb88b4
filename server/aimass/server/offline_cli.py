"""`aimass offline`: a plan over one organisation's own data set, in processes or on Spark."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.proto.console import common, emit, group, say
from aimass.proto.offline_service_cli import add_verbs
from aimass.server.offline.compare_cli import add_verb

if TYPE_CHECKING:
    from aimass.proto.plan import Plan
    from aimass.proto.storage import Blobs
    from aimass.server.offline.hearing import Heard
    from aimass.server.offline.journal import Journal
    from aimass.server.offline.workers import Workers
    from aimass.server.runs import Run
    from aimass.server.simulation.telling import Teller

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass offline run plan.toml --data adult --store file:///data --out file:///runs/adult --workers 2
  aimass offline run plan.toml --data adult@3 --store s3://sets --out s3://runs/adult --master spark://host:7077
  aimass offline run --resume --out s3://runs/adult
  aimass offline submit plan.toml --data adult --as scientist
  aimass offline compare s3://runs/adult 3f2a --as scientist

The plan is what `aimass run submit` takes; each shard of the data set takes part in it. Trainer, drivers and sums are
those of a federated run: over the same shards both end in the same bits. Every round is committed to --out, and a run
that was killed goes on from there, on this machine or another.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass offline`."""
    commands = group(parser, _EXAMPLE)
    run = commands.add_parser("run", help="train a plan over a data set", description=_EXAMPLE)
    run.formatter_class = argparse.RawDescriptionHelpFormatter
    run.add_argument("plan", type=Path, nargs="?", help="as for `aimass run submit`; may be left out with --resume")
    run.add_argument("--data", metavar="NAME[@N]", help="the data set, and which version (the newest)")
    run.add_argument("--store", nargs="+", metavar="URL", help="stores that hold it, in the order they are asked")
    run.add_argument("--out", metavar="URL", required=True, help="store for the run's rounds and its model")
    run.add_argument("--workers", type=int, metavar="N", help="so many processes of this machine instead of Spark")
    run.add_argument("--master", metavar="MASTER", help="of Spark, such as spark://host:7077 (local[*])")
    run.add_argument("--conf", nargs="+", metavar="KEY=VALUE", help="settings of Spark, as for spark-submit")
    run.add_argument(
        "--schedule",
        choices=("averaging", "synchronous"),
        help="shards train each by itself, and their mean counts; or all in lockstep, on Spark (averaging)",
    )
    run.add_argument("--policy", type=Path, help="a policy.toml for the gate (default: what the plan asks is allowed)")
    run.add_argument("--work", type=Path, metavar="DIR", help="scratch and cache on each machine (in the user's cache)")
    run.add_argument("--cache", metavar="SIZE", help="bytes of shards that each machine keeps (20GB)")
    run.add_argument("--repair", action="store_true", help="make copies of shards good that are found false or missing")
    run.add_argument("--resume", action="store_true", help="go on where it stopped, to the same bits")
    run.add_argument(
        "--as", dest="home", type=Path, metavar="DIR", help="report to the training service as this person"
    )
    common(run, _run)
    add_verbs(commands)
    add_verb(commands)


def _run(args: argparse.Namespace) -> int:
    from aimass.proto.durable import make_folder, only_one
    from aimass.server.offline.journal import Journal
    from aimass.server.offline.keeping import Kept
    from aimass.server.offline.schedules import drivers_of
    from aimass.server.offline.site import BLOBS, forget
    from aimass.server.offline.workers import open_crew
    from aimass.server.simulation.shell import Simulation
    from aimass.server.simulation.telling import Teller

    _check(args)
    workers, work = _workers(args), make_folder(args.work if args.work is not None else _work(args.out))
    journal = Journal(args.out, work / BLOBS)
    with only_one(work, "offline run"):
        _prepared(args, journal)
        kept, schedule = Kept(journal, work), journal.setup().schedule
        crew = open_crew(workers, journal, work, len(journal.data_set(kept.blobs).shards), schedule)
        teller = Teller(args, "shards")
        before = signal.signal(signal.SIGINT, teller.cut)
        try:
            with _heard(args, journal, workers, teller) as hears:
                run = Simulation(kept, crew, drivers_of(schedule), hears).run()
                teller.end()
                kept.export(run.model)
                hears.ended(run)
        except KeyboardInterrupt:
            teller.end()
            say(args, f"stopped; to go on: aimass offline run --resume --out {args.out}")
            raise
        finally:
            signal.signal(signal.SIGINT, before)
            crew.close()
        if args.work is None:  # nobody else's, and of no more use
            forget(work)
        emit(args, _summary(journal, run, teller))
    return 0 if run.state == "finished" else 1


def _heard(args: argparse.Namespace, journal: Journal, workers: Workers, teller: Teller) -> Heard:
    """Who hears of the run: its person, and with --as the training service."""
    from aimass.server.offline.hearing import Untold

    if args.home is None:
        return Untold(teller)
    from aimass.server.offline.service_reports import Reporting  # brings gRPC

    return Reporting(args.home, journal, str(workers), teller, lambda text: say(args, text))


def _check(args: argparse.Namespace) -> None:
    """Refuse options that would say nothing beside others, and a command that lacks one."""
    from aimass.proto.errors import BadInput

    if args.workers is not None and (args.master is not None or args.conf is not None):
        raise BadInput(
            "processes or Spark?", code="offline.options", value="--workers", cure="Leave --workers out, or --master."
        )
    begun = [f"--{name}" for name in ("store", "policy", "schedule") if getattr(args, name) is not None]
    if args.resume and begun:
        raise BadInput(
            "a run goes on with the stores, the policy and the schedule that it was begun with",
            code="offline.options",
            value=", ".join(begun),
            cure="Leave it out, or --resume.",
        )
    missing = [name for name in ("plan", "data", "store") if getattr(args, name) is None]
    if not args.resume and missing:
        raise BadInput(
            "what is to be trained, and on what?",
            code="offline.options",
            value=f"no {', no '.join(missing)}",
            cure="aimass offline run PLAN --data NAME --store URL --out URL, or --resume with --out.",
        )


def _workers(args: argparse.Namespace) -> Workers:
    from aimass.proto.data_sets import read_size
    from aimass.proto.errors import BadInput
    from aimass.server.offline.shards import DEFAULT_CACHE_BYTES
    from aimass.server.offline.workers import LOCAL, Workers

    options = dict(option.partition("=")[::2] for option in args.conf or ())
    if wrong := [key for key, value in options.items() if not (key.startswith("spark.") and value)]:
        raise BadInput("not a setting of Spark", code="offline.conf", value=wrong[0], limit="spark.KEY=VALUE")
    cache = read_size(args.cache) if args.cache is not None else DEFAULT_CACHE_BYTES
    return Workers(args.workers, args.master or LOCAL, tuple(options.items()), cache, repairs=args.repair)


def _work(out: str) -> Path:
    """A folder for each run, so that two on one machine do not meet."""
    import hashlib

    from aimass.proto.cache import cache_folder

    return cache_folder() / "offline" / hashlib.sha256(out.encode()).hexdigest()[:16]


def _prepared(args: argparse.Namespace, journal: Journal) -> None:
    """A run stands in the store: a new one, or the one that goes on."""
    from aimass.proto.data_sets import read_name
    from aimass.proto.objects import open_objects
    from aimass.server.datasets.versions import opened
    from aimass.server.offline.begin import begin, check_same
    from aimass.server.simulation.telling import tell_unpublished

    blobs = journal.blobs()
    if args.resume:
        journal.setup()
        check_same(journal, _plan(args, blobs), args.data, blobs)
        return
    data_set, stores = opened(read_name(args.data), [open_objects(url) for url in args.store], time.time())
    policy = args.policy.read_text("utf-8") if args.policy is not None else None
    plan = _plan(args, blobs)
    assert plan is not None  # noqa: S101  (asked for above)
    setup = begin(journal, plan, data_set, stores, policy, blobs, args.schedule or "averaging")
    say(args, f"{setup.data_set}@{setup.version}: {len(data_set.shards):,} shards")
    if args.home is None:  # with --as the service hears of the run, and publishes
        tell_unpublished(args, plan)


def _plan(args: argparse.Namespace, blobs: Blobs) -> Plan | None:
    from aimass.proto.plan import read_plan_draft
    from aimass.server.simulation.begin import completed

    if args.plan is None:
        return None
    return completed(read_plan_draft(args.plan.read_text("utf-8"), str(args.plan)), blobs)


def _summary(journal: Journal, run: Run, teller: Teller) -> dict[str, object]:
    from aimass.proto.step import StepKind
    from aimass.server.offline.journal import MODEL, below
    from aimass.server.simulation.telling import course, peak_mb

    told = [step for commit in journal.commits() for step in commit.told]
    evaluated = [step for step in told if step.kind is StepKind.EVALUATE and step.metrics]
    figures: dict[str, object] = {
        "state": run.state,
        "reason": run.reason,
        "run_id": run.run_id,
        "shards": len(run.participants),
        "rounds": max((step.round for step in told), default=0),
        "seconds": round(time.monotonic() - teller.began, 1),
        "core_seconds": round(sum(step.work_s for step in told), 1),
        "bytes_read": sum(step.bytes_read for step in told),
        "peak_memory_mb": peak_mb(),
        "model": run.model,
        "model_url": below(journal.url, MODEL),
    }
    if copies := {copy: why for step in told for copy, why in step.copies.items()}:
        figures["copies"] = [{"copy": copy, "found": why} for copy, why in copies.items()]
    if evaluated:
        figures["metrics"] = [course(name, evaluated) for name in evaluated[-1].metrics]
    return figures
