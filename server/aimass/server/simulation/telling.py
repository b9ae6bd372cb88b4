"""What a person sees of a run on this machine while it goes: a line for each step, and how long it will take."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence

from aimass.proto.console import say
from aimass.proto.plan import Plan
from aimass.server.engine import InstalledDrivers
from aimass.server.run_machine import progress
from aimass.server.runs import Run
from aimass.server.simulation.folder import Committed

__all__ = ["Teller", "course", "peak_mb", "tell_unpublished"]


def tell_unpublished(args: argparse.Namespace, plan: Plan) -> None:
    """Say that nobody does what a plan asks a training service to do with its model."""
    if plan.promote is not None:
        say(args, f"[promote] is for a training service: nothing is published as {plan.promote.model} from here")


def course(name: str, evaluated: Sequence[Committed]) -> dict[str, object]:
    """A metric at the first, the last and the best evaluation that has it."""
    values = [round(step.metrics[name], 4) for step in evaluated if name in step.metrics]
    best = min(values) if name == "loss" else max(values)
    return {"metric": name, "first": values[0], "last": values[-1], "best": best}


def peak_mb() -> dict[str, int]:
    """Most MB that this process, and the largest that it waited for, had in memory."""
    own, child = (resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"here": own, "worker": child}


class Teller:
    """A line for each step that is stored; on a terminal, a count of answers beneath it while one is at work."""

    def __init__(self, args: argparse.Namespace, who: str = "partners") -> None:
        """`who` take part."""
        self._args, self._drivers, self._who = args, InstalledDrivers(), who
        self._live = sys.stderr.isatty() and not args.quiet and not args.json
        self._since: tuple[float, int] | None = None
        self.began, self._drawn = time.monotonic(), 0.0
        self._cut = False

    def cut(self, *_: object) -> None:
        """Ctrl-C. It is raised again at the next answer: one that comes while garbage is collected Python drops."""
        self._cut = True
        raise KeyboardInterrupt

    def _check_cut(self) -> None:
        if self._cut:
            raise KeyboardInterrupt

    def working(self, step: int, round_: int, done: int, asked: int) -> None:
        """So many partners of a step have answered."""
        self._check_cut()
        now = time.monotonic()
        if self._live and now - self._drawn > 0.2:
            self._drawn = now
            sys.stderr.write(f"\r\x1b[Kround {round_}, step {step}: {done:,} of {asked:,} {self._who}")
            sys.stderr.flush()

    def committed(self, step: Committed, run: Run) -> None:
        """A step is stored."""
        self._check_cut()
        self.end()
        done = progress(run, self._drivers)
        what = f"round {step.round}/{done.rounds}  {step.kind}" if step.round else step.purpose
        taken = f"at {step.at:,.1f} s" if step.at else f"{step.seconds:.1f} s"
        line = f"{what} {step.counted:,} of {step.asked:,}, {taken}"
        if step.bytes_read:
            line += f", {step.bytes_read / 1e6:,.1f} MB read"
        if step.copies:
            line += f", {len(step.copies)} copies found wanting"
        if step.failed:
            line += f", {len(step.failed)} failed"
        line += "".join(f"  {name} {value:.4f}" for name, value in step.metrics.items())
        now = time.monotonic()
        since, first = self._since = self._since or (now, step.round)  # not of the first: processes start in it
        left = (done.rounds - step.round) * (now - since) / max(1, step.round - first)
        say(self._args, line + (f"  {_words(left)} left" if left > 1 and not run.state.final else ""))

    def end(self) -> None:
        """Take the count away."""
        if self._live:
            sys.stderr.write("\r\x1b[K")


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
