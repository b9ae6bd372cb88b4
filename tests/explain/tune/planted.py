"""Runs that compute nothing: their metric is planted, round by round; and a search over them in a folder."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.pruning import Pruning
from aimass.explain.tune.runners import Job
from aimass.explain.tune.space import Space
from aimass.explain.tune.trials import Search, Setup, Where
from aimass.proto.errors import AimassError
from aimass.proto.plan import Plan
from aimass.proto.values import Scalar
from aimass.proto.views import RunState, RunView
from tests.explain.runs.made import evaluated, run, step
from tests.explain.tune.made import draft, planted, space

ROUNDS = 4
Quality = Callable[[Mapping[str, Scalar]], float]


def settings_in(plan: Plan) -> dict[str, Scalar]:
    train = plan.train
    return {
        "train.learning_rate": train.learning_rate,
        "train.momentum": train.momentum,
        "train.batch_size": train.batch_size,
        "train.optimizer": train.optimizer,
        "train.weight_decay": train.weight_decay,
    }


@dataclasses.dataclass
class Planted:
    """A runner that keeps its runs by their key, as a service does. `begun` counts how often each was begun.

    `fault` may raise for a job. A run waits at the round in `held` until `free` is set,
    and before its first it is seen to be paused for the reasons in `paused`.
    """

    quality: Quality = planted
    noise: float = 0.01
    fault: Callable[[Job], None] = lambda _: None
    held: int = 0
    paused: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.free, self.freed_by_leaving = threading.Event(), False
        self.begun: Counter[str] = Counter()
        self.stopped: list[str] = []
        self.let_go: list[str] = []
        self.rounds: Counter[str] = Counter()

    def begin(self, job: Job) -> _Run:
        self.fault(job)
        self.begun[job.key] += 1
        return _Run(self, job)

    def ended(self, setup: Setup) -> None:
        self.let_go.append(setup.id)


class _Run:
    def __init__(self, runner: Planted, job: Job) -> None:
        self.runner, self.job, self._left = runner, job, False

    @property
    def run(self) -> str:
        return f"run-{self.job.key[-3:]}"

    def view(self, state: RunState, upto: int) -> RunView:
        plan = self.job.draft.complete("a" * 64, "b" * 64)
        random = np.random.default_rng([plan.seed, len(plan.name)])
        final = self.runner.quality(settings_in(plan)) + self.runner.noise * random.standard_normal()
        steps: list[Any] = []
        for round_ in range(1, upto + 1):
            steps.append(step(len(steps), round_))
            steps.append(evaluated(len(steps), round_, {"auc": final - 0.4 * (1 - round_ / ROUNDS)}))
        return run(steps, plan, self.run, name=plan.name, state=state, round=upto, rounds=ROUNDS)

    def watch(self) -> Iterator[RunView]:
        for reason in self.runner.paused:
            view = self.view(RunState.PAUSED, 0)
            yield msgspec.structs.replace(view, summary=msgspec.structs.replace(view.summary, reason=reason))
        for round_ in range(ROUNDS + 1):
            if self._left:
                return
            if round_ and round_ == self.runner.held:
                self.runner.free.wait(60)
                if self.runner.freed_by_leaving:
                    return
            self.runner.rounds[self.job.key] = max(self.runner.rounds[self.job.key], round_)
            yield self.view(RunState.RUNNING, round_)
        yield self.view(RunState.FINISHED, ROUNDS)

    def stop(self) -> RunView:
        self.runner.stopped.append(self.job.key)
        return self.view(RunState.STOPPED, self.runner.rounds[self.job.key])

    def leave(self) -> None:
        self._left = self.runner.freed_by_leaving = True
        self.runner.free.set()


def setup(of: Space | None = None, **more: Any) -> Setup:
    fields: dict[str, Any] = {
        "id": "5" * 32, "draft": draft(), "space": of or space(), "trials": 6, "seeds": (5, 6),
        "where": Where(kind="simulation"), "pruning": Pruning(rule="none"), "begun_at": 1_000.0,
    }  # fmt: skip
    return Setup(**(fields | more))


def begun(path: Path, **more: Any) -> tuple[SearchFolder, Search]:
    folder = SearchFolder(path)
    return folder, folder.begin(setup(**more))


def refused(error: AimassError, *, trials: tuple[int, ...] = ()) -> Callable[[Job], None]:
    """A fault of these trials' runs; of all without any named."""

    def fault(job: Job) -> None:
        if not trials or int(job.key.split("-")[-2]) in trials:
            raise error

    return fault
