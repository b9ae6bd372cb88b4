"""`aimass explain run RUN…`: what happened in one run; of several, which settings cannot be told from the best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimass.explain.question_cli import told, work_of
from aimass.proto.console import common
from aimass.proto.run_cli import add_home

if TYPE_CHECKING:
    from aimass.explain.results import Result
    from aimass.explain.work import Work
    from aimass.proto.views import RunView

__all__ = ["add_verbs"]


def add_verbs(commands: Any) -> None:
    """Add `run`."""
    from aimass.explain.option_arguments import add_options
    from aimass.explain.runs import RunsOptions
    from aimass.explain.writing import FORMATS

    verb = commands.add_parser(
        "run",
        help="what happened in a run; of several, which settings to choose",
        description="From what the server shows of runs: no row and no model is fetched.",
    )
    verb.add_argument("runs", nargs="+", metavar="RUN", help="its id, the first digits of it, or `last`")
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write into")
    verb.add_argument("--formats", default=",".join(FORMATS), help=f"which of {','.join(FORMATS)} (all)")
    verb.add_argument("--seed", type=int, default=0, help="another seed draws otherwise (0)")
    verb.add_argument("--time-limit", type=float, metavar="SECONDS", help="give up after so long")
    verb.set_defaults(workers=1, memory=256)
    add_options(verb, RunsOptions)
    add_home(verb)
    common(verb, _run)


def _run(args: argparse.Namespace) -> int:
    from aimass.explain.writing import write_result
    from aimass.proto.api import Federation

    with Federation.open(args.home) as federation:
        views = [federation.run(run).view for run in args.runs]
    with work_of(args) as work:
        result = _answer(args, views, work)
    name = "run" if len(views) == 1 else "runs"
    return told(args, result, write_result(args.out, name, result, args.formats.split(",")))


def _answer(args: argparse.Namespace, views: list[RunView], work: Work) -> Result:
    from aimass.explain.option_arguments import options_of
    from aimass.explain.runs import RunsOptions, compare, explain

    options = options_of(args, RunsOptions)
    return explain(views[0], work) if len(views) == 1 else compare(views, options, work)
