"""`aimass plan`: what a private plan promises, costs and destroys, before it is submitted."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aimass.proto.console import common, group, plain, say
from aimass.proto.errors import NotInstalled, printable

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass plan check plan.toml
  aimass plan check plan.toml --budget 3 --rows 800
  aimass plan check plan.toml --budget 3 --data public.csv --seeds 5
  aimass plan check plan.toml --no-simulation --json
"""
_CHECK = """Says of a plan with [privacy] or [secure.noise], before any partner sees it: how much noise it adds, what
its rounds spend and how many fit a budget, from how many partners on anything is left of an update, what stands in its
way, what the noise costs in accuracy, and up to three plans that fit. Reads no partner's rows and sends nothing.

The accuracy is that of training in this process, with the plan's noise and without, on rows of your own (--data) or on
synthetic rows whose label follows from their features. It says whether the noise drowns what can be learnt; how much
there is to learn from the partners' rows it cannot know.

Exit code: 0 the plan fits; 1 it does not fit the budget, or something would stop it; 2 it cannot be read.
"""
_SEEDS, _PARTNERS, _LIMIT_S = 3, 4, 600.0
_BARE = "without privacy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass plan`."""
    commands = group(parser, _EXAMPLE)
    check = commands.add_parser(
        "check", help="noise, epsilon, accuracy and alternatives of a private plan",
        description=_CHECK, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    check.add_argument("plan", type=Path)
    check.add_argument("--budget", type=_epsilon, metavar="EPSILON", help="what the plan may spend on any one unit")
    check.add_argument("--rows", type=_whole, help="training rows of a typical partner (divisor / sampling_rate)")
    check.add_argument("--partners", type=_whole, help="of the mean update (those that the plan names or asks)")
    check.add_argument("--data", type=Path, help="public rows of the task's schema to try it on: CSV or Parquet")
    check.add_argument("--seeds", type=_whole, default=_SEEDS, help=f"trials of each plan ({_SEEDS})")
    check.add_argument("--simulated", type=_whole, default=_PARTNERS, help=f"partners in a trial ({_PARTNERS})")
    check.add_argument("--limit", type=float, default=_LIMIT_S, help=f"seconds for all trials ({_LIMIT_S:g})")
    check.add_argument("--no-simulation", action="store_true", help="train nothing: seconds in place of minutes")
    common(check, _check)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 50:
        raise argparse.ArgumentTypeError(f"{text} is no epsilon above 0, 50 at most")
    return value


def _check(args: argparse.Namespace) -> int:
    from aimass.proto.plan import read_plan_draft

    draft = read_plan_draft(args.plan.read_text("utf-8"), str(args.plan))
    reports = _part("aimass.client.plan_report")
    say(args, "pricing the plan, and looking for others that fit")
    found = reports.report(draft, args.budget, args.rows, args.partners)
    if not args.json:
        _write(reports.told(found))
    tries = not args.no_simulation and found.task is not None and found.prices and found.case.by_steps
    trial = _tried(args, found) if tries else None
    if args.json:
        import msgspec

        told = msgspec.json.encode(_fields(found, trial))  # what has no bound is null: JSON knows no infinity
        sys.stdout.write(msgspec.json.format(told).decode() + "\n")
    else:
        if trial is not None:
            _write(_trial_lines(args, trial))
        _write(_option_lines(found))
    return 0 if found.fits else 1


def _part(module: str) -> Any:
    """A module of the client's or the server's, by its name, as commands are loaded."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"checking a plan needs {error.name}",
            code="command.extra",
            cure="Type: pip install 'aimass[client,server]'; with --no-simulation the client's part is enough.",
        ) from error


def _tried(args: argparse.Namespace, found: Any) -> dict[str, Any]:
    """What training comes to, of the plan, without its privacy, and of as many options as there is time for."""
    trials, reports = _part("aimass.server.trial"), _part("aimass.client.plan_report")
    shards, rows = reports.trial_shards(found.case, found.task.schema, args.simulated, args.data)

    def variant(name: str, draft: Any) -> Any:
        noise = found.case.of(draft).noise_plan
        kept = None if noise is None else trials.PartnerNoise(noise.setting.clip, noise.mean_deviation)
        return trials.Variant(name, draft, kept)

    bare = trials.Variant(_BARE, trials.without_noise(found.case.draft))
    variants = [variant("the plan", found.case.draft), bare]
    variants += [variant(f"option {place}", one.draft) for place, one in enumerate(found.options, 1)]
    say(args, f"trying on {rows}: how long does a round take?")
    seconds = trials.estimated_s(variants, found.task, shards, args.seeds)
    most = max((count for count in range(len(variants) + 1) if sum(seconds[:count]) <= args.limit), default=0)
    if most < 2:
        return {"rows": rows, "seconds": round(sum(seconds[:2])), "outcomes": ()}
    say(args, f"about {sum(seconds[:most]):.0f} s for {most} plans and {args.seeds} seeds of each")
    seeds = range(1, args.seeds + 1)
    outcomes = trials.compared(variants[:most], found.task, shards, seeds, lambda text: say(args, text))
    return {"rows": rows, "seconds": round(sum(seconds[:most])), "outcomes": outcomes}


def _trial_lines(args: argparse.Namespace, trial: Mapping[str, Any]) -> Iterator[str]:
    if not trial["outcomes"]:
        longer = trial["seconds"] + 60
        yield f"{'tried':<10}not: it would take about {trial['seconds']} s; allow it with --limit {longer}"
        return
    yield f"{'tried':<10}on {trial['rows']}; mean of {args.seeds} seeds (least to largest)"
    for outcome in trial["outcomes"]:
        metrics = "  ".join(
            f"{name} {mean:.3f} ({least:.3f} to {most:.3f})"
            for name, (mean, least, most) in outcome.metrics.items()
            if name != "loss"
        )
        yield f"{'':<10}{outcome.name:<17}{metrics or 'diverges'}"


def _option_lines(found: Any) -> Iterator[str]:
    if not found.prices:
        return
    kept = "the plan's own epsilon" if found.prices[0].budget is None else "the budget"
    if not found.options:
        yield f"{'options':<10}none that keeps {kept} was found"
        return
    yield f"{'options':<10}that keep {kept}, to paste over the plan's lines"
    for place, option in enumerate(found.options, 1):
        yield f"{place:>8}. {option.what}: {option.figure}"
        yield from (f"{'':<10}{line}" for line in option.toml.splitlines())


def _fields(found: Any, trial: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same for programs."""
    case = found.case
    return {
        "plan": case.draft.name,
        "fits": found.fits,
        "elements": case.elements,
        "rows": case.rows,
        "partners": case.partners,
        "findings": plain(found.findings),
        "noise": list(found.noise),
        "spends": [{**plain(price), "fits": price.fits} for price in found.prices],
        "cohorts": None if found.sizes is None else {**plain(found.sizes), "sentence": found.sizes.sentence()},
        "options": [{name: value for name, value in plain(one).items() if name != "draft"} for one in found.options],
        "trial": None if trial is None else plain(trial),
    }


def _write(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(printable(line, 2_000) + "\n")
    sys.stdout.flush()
