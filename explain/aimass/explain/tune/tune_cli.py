"""`aimass tune PLAN --space FILE`: search for the settings of a plan by many ordinary runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aimass.proto.console import common, emit, group, lines, say

if TYPE_CHECKING:
    from aimass.explain.tune.folder import SearchFolder
    from aimass.explain.tune.trials import Search

__all__ = ["add_arguments", "with_verb"]

_FORMATS: Final = "html,json,png,csv"
_VERBS: Final = ("search", "resume", "show", "end")
_EXAMPLE: Final = """examples:
  aimass tune plan.toml --space space.toml --as scientist --out search
  aimass tune plan.toml --space space.toml --as scientist --offline adult@3 --trials 40 --parallel 4 --out search
  aimass tune plan.toml --space space.toml --shards shards --seeds 5 --out search
  aimass tune resume search
  aimass tune show search
  aimass tune end search

A space says what is tried, by the names that settings have in the plan:

  metric = "auc"
  [settings]
  train.learning_rate = { low = 0.001, high = 0.3, log = true }
  train.batch_size = { choices = [16, 32, 64] }

Every setting is run with several seeds; the search ends with which settings decided, those that cannot be told from
the best, and the plan to run next. See docs/tuning.md.
"""


def with_verb(arguments: Sequence[str]) -> list[str]:
    """`aimass tune PLAN ...` is `aimass tune search PLAN ...`."""
    given = list(arguments)
    return given if not given or given[0] in (*_VERBS, "-h", "--help") else ["search", *given]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass tune`."""
    commands = group(parser, _EXAMPLE)
    search = commands.add_parser("search", help="begin a search (the word may be left out)")
    search.add_argument("plan", type=Path, help="as for `aimass run submit`")
    search.add_argument("--space", type=Path, required=True, metavar="FILE", help="what is tried (TOML)")
    search.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the search (tuned-NAME)")
    _add_where(search)
    how = search.add_argument_group("how")
    how.add_argument("--trials", type=_count, default=30, help="settings to try (30)")
    how.add_argument("--seeds", type=_count, default=3, help="runs of each setting, with a seed each (3)")
    how.add_argument("--seed", type=int, default=0, help="of the search: another one tries others (0)")
    how.add_argument(
        "--method", choices=("tpe", "spread"), default="tpe", help="spread tries evenly, and learns nothing"
    )
    how.add_argument("--prune", choices=("median", "halving", "none"), help="when poor runs are cut (median)")
    how.add_argument("--prune-after", type=_count, default=3, metavar="ROUND", help="and not before this round (3)")
    privacy = search.add_argument_group("privacy")
    privacy.add_argument("--yes", action="store_true", help="agree to what it may spend, without being asked")
    privacy.add_argument("--most-epsilon", type=float, metavar="EPSILON", help="refuse what may spend more")
    _add_going(search)
    common(search, _search)
    resume = commands.add_parser("resume", help="go on with a search that was stopped or killed")
    resume.add_argument("folder", type=Path)
    _add_going(resume)
    common(resume, _resume)
    end = commands.add_parser("end", help="stop its runs, try nothing more, and say what it came to")
    end.add_argument("folder", type=Path)
    end.add_argument("--formats", default=_FORMATS, help=f"of the answer ({_FORMATS})")
    common(end, _end)
    show = commands.add_parser("show", help="where a search stands, while it runs too")
    show.add_argument("folder", type=Path)
    common(show, _show)


def _add_where(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where runs compute (one of --as and --shards)")
    where.add_argument(
        "--as", dest="home", type=Path, default=os.environ.get("AIMASS_HOME"), metavar="FOLDER",
        help="your folder: at the partners of its federation (or set AIMASS_HOME)",
    )  # fmt: skip
    where.add_argument("--offline", metavar="DATASET", help="with --as: at the service, over NAME or NAME@N")
    where.add_argument("--schedule", choices=("averaging", "synchronous"), help="of offline runs (averaging)")
    where.add_argument(
        "--shards", type=Path, metavar="DIR", help="simulated here, over `aimass data partition`'s folder"
    )
    where.add_argument("--workers", type=_count, help="processes of each simulation (1)")
    where.add_argument("--policy", type=Path, metavar="FILE", help="of simulated partners")
    where.add_argument("--pace", type=Path, metavar="FILE", help="of simulated partners")


def _add_going(parser: argparse.ArgumentParser) -> None:
    going = parser.add_argument_group("going on")
    going.add_argument("--parallel", type=_count, default=1, help="runs at once (1)")
    going.add_argument("--time-limit", type=float, metavar="SECONDS", help="begin no run after so long")
    going.add_argument("--formats", default=_FORMATS, help=f"of the answer ({_FORMATS})")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 to 10,000")
    return int(text)


def _search(args: argparse.Namespace) -> int:
    from aimass.explain.tune.beginning import begun
    from aimass.explain.writing import check_formats

    check_formats(args.formats.split(","))
    folder = begun(args)
    return _go_on(args, folder)


def _resume(args: argparse.Namespace) -> int:
    from aimass.explain.tune.folder import SearchFolder
    from aimass.explain.writing import check_formats

    check_formats(args.formats.split(","))
    return _go_on(args, SearchFolder(args.folder))


def _go_on(args: argparse.Namespace, folder: SearchFolder) -> int:
    from aimass.explain.tune.going import gone_on

    search = gone_on(args, folder)
    if search.state == "open":
        say(args, f"time is up; to go on: aimass tune resume {folder.path}")
    return _answer(args, folder, search)


def _end(args: argparse.Namespace) -> int:
    from aimass.explain.tune.folder import SearchFolder
    from aimass.explain.tune.going import ended
    from aimass.explain.writing import check_formats

    check_formats(args.formats.split(","))
    folder = SearchFolder(args.folder)
    return _answer(args, folder, ended(args, folder))


def _answer(args: argparse.Namespace, folder: SearchFolder, search: Search) -> int:
    from aimass.explain.progress import Progress
    from aimass.explain.tune.answer import write_answer
    from aimass.explain.work import Work

    with Progress(args) as tell:
        found = write_answer(folder, search, Work(seed=search.setup.seed, tell=tell), args.formats.split(","))
    if args.json:
        told = {} if found is None else {"next": found[0].next.number, "says": found[0].describe()}
        emit(args, {"search": search} | told | {"written": [str(path) for path in ([] if found is None else found[1])]})
    elif found is None:
        lines([f"{search.state}: {search.reason or 'no setting has come to a figure yet'}"])
    else:
        but = (f"But: {line}" for line in found[0].result.warnings())
        lines([*found[0].describe(), *but, f"{len(found[1])} files in {folder.path}"])
    return 0 if found is not None and search.state != "failed" else 1


def _show(args: argparse.Namespace) -> int:
    from aimass.explain.tune.folder import read_search
    from aimass.explain.tune.telling import told_trials

    search = read_search(args.folder)
    if args.json:
        emit(args, search)
    else:
        emit(args, told_trials(search))
    return 0
