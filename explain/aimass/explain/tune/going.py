"""A search goes on in this process: where its runs compute is opened, and a person hears what comes of them."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.runners import AtService, Runner
from aimass.explain.tune.search import Searching
from aimass.explain.tune.simulated import OnThisMachine
from aimass.explain.tune.telling import told_event
from aimass.explain.tune.trials import Event, Search, Where
from aimass.explain.words import counted
from aimass.proto.api import Federation
from aimass.proto.console import say
from aimass.proto.durable import only_one
from aimass.proto.errors import AimassError, NotFound

__all__ = ["ended", "gone_on"]


def gone_on(args: argparse.Namespace, folder: SearchFolder) -> Search:
    """The search once it has ended, or its time is up. Raises what it is stopped by, having said how it goes on."""
    until = float("inf") if args.time_limit is None else time.time() + args.time_limit
    with _held(folder) as search:
        try:
            with _runner(search.setup.where) as runner:
                going = Searching(folder, search, runner, parallel=args.parallel, tell=_teller(args))
                return _let_go(args, going.go_on(until), runner)
        except (KeyboardInterrupt, AimassError):
            say(args, _left(folder.read(), folder.path))
            raise


def ended(args: argparse.Namespace, folder: SearchFolder) -> Search:
    """The search, which tries nothing more; its runs that were underway are stopped."""
    with _held(folder) as search, _runner(search.setup.where) as runner:
        going = Searching(folder, search, runner, tell=_teller(args))
        return _let_go(args, going.end("somebody ended it") if search.state == "open" else search, runner)


def _let_go(args: argparse.Namespace, search: Search, runner: Runner) -> Search:
    """Of a search that has ended, whoever reserved for it hears so: now, or when this is called again."""
    if search.state != "open":
        runner.ended(search.setup)
        if search.setup.study is not None:
            say(args, "partners free what they reserved and no run has spent")
    return search


@contextlib.contextmanager
def _held(folder: SearchFolder) -> Iterator[Search]:
    """Where the search in a folder stands, which is this process's meanwhile; raises `NotFound`, or `Conflict`."""
    if not (folder.path / "setup.json").is_file():
        raise NotFound("no search stands in this folder", code="tune.absent", value=folder.path)
    with only_one(folder.path, "search"):
        yield folder.open()


def _teller(args: argparse.Namespace) -> Callable[[Search, Event], None]:
    def tell(search: Search, event: Event) -> None:
        if line := told_event(search, event):
            say(args, line)

    return tell


@contextlib.contextmanager
def _runner(where: Where) -> Iterator[Runner]:
    if where.kind == "simulation":
        yield OnThisMachine(where.shards, where.options)
        return
    with Federation.open(where.home) as federation:
        yield AtService(federation, where)


def _left(search: Search, path: Path) -> str:
    """What becomes of runs that were underway, and how the search goes on."""
    running = [run.run for trial in search.trials for run in trial.runs if run.state == "running"]
    one, many = ("stands in its folder", "stand in their folders")
    if search.setup.where.kind != "simulation":
        one, many = "goes on at the service", "go on at the service"
    named = ", ".join(run[:8] for run in running)
    what = one if len(running) == 1 else many
    told = f"{counted(len(running), 'run')} {what} ({named}); " if running else ""
    held = "" if search.setup.study is None else f" or, to free what partners reserve for it: aimass tune end {path}"
    return f"stopped; {told}to go on: aimass tune resume {path}{held}"
