"""Runs of a search as simulations on this machine: each a process of `aimass simulate` over one folder of shards.

A simulation writes a line for each step into its folder, and a line for a person on its standard error: who follows it
waits for the latter and reads the former. Nothing is polled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from aimass.explain.tune.runners import Job
from aimass.explain.tune.trials import Setup
from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.errors import NotFound, Unavailable, WrongState
from aimass.proto.plan import Plan, decode_plan, plan_digest, planned_rounds
from aimass.proto.step import StepKind
from aimass.proto.values import canonical_json
from aimass.proto.views import MetricView, RunState, RunSummary, RunView, StepView

__all__ = ["OnThisMachine", "view_of_folder"]

_PATIENCE_S: Final = 10.0
_ENDED: Final = "ended.json"
_NOT_ITS_FAULT: Final = frozenset({5, 7, 8, 9, 130})
"""Exit codes that say nothing of the plan: no disk, no package, interrupted by somebody."""


class _Line(msgspec.Struct, frozen=True):
    """What is read of a line of `rounds.jsonl`; see `aimass simulate`."""

    index: int
    kind: StepKind
    round: int
    seconds: float
    counted: int
    purpose: str = ""
    model: str = ""
    metrics: dict[str, float] = {}
    weights: dict[str, float] = {}
    figures: dict[str, dict[str, float]] = {}
    at: float = 0.0


class _Ended(msgspec.Struct, frozen=True):
    """How the process of a run ended, kept beside it."""

    state: RunState
    reason: str


class OnThisMachine:
    """Simulations over `shards`, with further `options` of the command: `--workers`, `--policy`, `--pace`."""

    def __init__(self, shards: str, options: Sequence[str] = ()) -> None:
        self._shards, self._options = shards, tuple(options)

    def begin(self, job: Job) -> _Simulation:
        """Start its process, which goes on from its folder where one was begun; none where it has ended."""
        if (job.folder / _ENDED).is_file():
            return _Simulation(job.folder, None)
        own = [str(os.getpid()), str(job.folder), str(job.plan), self._shards, *self._options]
        process = subprocess.Popen(
            [sys.executable, "-m", "aimass.explain.tune.child", *own],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C at the terminal is the search's, which ends its runs in order
        )
        return _Simulation(job.folder, process)

    def ended(self, setup: Setup) -> None:
        """Nobody reserved for it."""


class _Simulation:
    def __init__(self, folder: Path, process: subprocess.Popen[str] | None) -> None:
        self._folder, self._process, self._left = folder, process, False

    @property
    def run(self) -> str:
        return self._folder.name

    def watch(self) -> Iterator[RunView]:
        """At each step, and once it has ended; not at the end of one that is left."""
        if self._process is None:
            yield view_of_folder(self._folder)
            return
        said: list[str] = []
        for line in _lines(self._process.stderr):
            said = [*said, line.strip()][-5:]
            if (self._folder / "rounds.jsonl").is_file():
                yield view_of_folder(self._folder)
        told = "".join(_lines(self._process.stdout))
        code = self._process.wait()
        if code in _NOT_ITS_FAULT and not self._left:
            raise Unavailable("a simulation could not go on", code="tune.simulation", value=_reason(code, told, said))
        if not self._left:
            self._end(RunState.FINISHED if code == 0 else RunState.FAILED, _reason(code, told, said))
            yield view_of_folder(self._folder)

    def stop(self) -> RunView:
        self._interrupt()
        self._end(RunState.STOPPED, "it was stopped")
        return view_of_folder(self._folder)

    def leave(self) -> None:
        self._left = True
        self._interrupt()

    def _interrupt(self) -> None:
        """Its folder goes on from wherever it is killed."""
        if self._process is None:
            return
        for wish in (signal.SIGINT, signal.SIGKILL):
            self._process.send_signal(wish)
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue
            return

    def _end(self, state: RunState, reason: str) -> None:
        told = canonical_json(_Ended(state=state, reason=reason))
        write_file(self._folder / _ENDED, told, UNINTERRUPTED, "tune.ended")


def _lines(stream: IO[str] | None) -> Iterator[str]:
    yield from stream or ()


def _reason(code: int, told: str, said: Sequence[str]) -> str:
    """What the command printed as the run's `reason`, or the last that it said of a fault."""
    reasons = [line.partition(" ")[2].strip() for line in told.splitlines() if line.startswith("reason ")]
    faults = [line.removeprefix("aimass: ") for line in said if line.startswith("aimass: ")]
    return next(iter([*reasons, *faults[-1:]]), _ending(code))[:500]


def _ending(code: int) -> str:
    return f"the simulation was killed by signal {-code}" if code < 0 else f"the simulation ended with code {code}"


def view_of_folder(folder: Path) -> RunView:
    """A simulation as a server would show it, as far as its folder has come; raises `WrongState` for one that was
    refused, and `NotFound` for none.

    Steps follow each other from when the plan was written; no byte crossed a wire.
    """
    path = folder / "plan.json"
    if not path.is_file() and (refused := _ended(folder)) is not None:
        raise WrongState(refused.reason, code="tune.simulation")
    if not path.is_file():
        raise NotFound("no simulation stands in this folder", code="tune.simulation", value=folder)
    data, begun = path.read_bytes(), path.stat().st_mtime
    plan, ended, told = decode_plan(data), _ended(folder), tuple(_told(folder))
    steps = tuple(_steps(told, begun))
    summary = RunSummary(
        run_id=folder.name,
        name=plan.name,
        task=plan.task.name,
        state=RunState.RUNNING if ended is None else ended.state,
        reason="" if ended is None else ended.reason,
        round=max((line.round for line in told), default=0),
        rounds=_rounds(plan),
        partners=max((line.counted for line in told), default=0),
        created_at=begun,
        ended_at=None if ended is None else begun + sum(line.seconds for line in told),
        model=next((line.model for line in reversed(told) if line.model), ""),
        owner="",
    )
    return RunView(
        summary=summary,
        plan=plan,
        plan_digest=plan_digest(data),
        participants=(),
        steps=steps,
        disk_bytes=0,
        transcript_entries=0,
        transcript_head="",
    )


def _ended(folder: Path) -> _Ended | None:
    path = folder / _ENDED
    return msgspec.json.decode(path.read_bytes(), type=_Ended) if path.is_file() else None


def _rounds(plan: Plan) -> int:
    rounds = planned_rounds(plan)
    return int(rounds) if rounds < 1 << 53 else 0


def _told(folder: Path) -> Iterator[_Line]:
    """Its steps in order; a step that was done again after a kill stands twice, the later one counts."""
    path = folder / "rounds.jsonl"
    data = path.read_bytes() if path.is_file() else b""
    lines = (msgspec.json.decode(line, type=_Line) for line in data[: data.rfind(b"\n") + 1].splitlines())
    yield from {line.index: line for line in lines}.values()


def _steps(told: Sequence[_Line], begun: float) -> Iterator[StepView]:
    now = begun
    for line in told:
        opened, now = now, begun + line.at if line.at else now + line.seconds
        yield StepView(
            index=line.index,
            kind=line.kind,
            round=line.round,
            purpose=line.purpose,
            state="committed",
            opened_at=opened,
            deadline_at=opened,
            slots={},
            committed_at=now,
            model=line.model,
            metrics={
                name: MetricView(
                    mean=mean,
                    weight=line.weights.get(name, 0.0),
                    by_partner={partner: each[name] for partner, each in line.figures.items() if name in each},
                )
                for name, mean in line.metrics.items()
            },
        )
