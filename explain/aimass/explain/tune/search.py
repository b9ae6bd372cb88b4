"""The shell of a search: asks `machine` what is due, has runs computed, and writes down what happens.

The main thread decides; one thread a run follows it. Each event is written by whoever sees it, under one lock, so that
a run is cut by the thread that follows it the moment its metric says so.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from aimass.explain.runs.outcomes import outcomes
from aimass.explain.tune.folder import SearchFolder
from aimass.explain.tune.machine import Begin, Close, Propose, due, proposed, why_cut_short
from aimass.explain.tune.plan_text import written_plan
from aimass.explain.tune.runners import Followed, Job, Runner, job_of
from aimass.explain.tune.trials import (
    Began,
    Closed,
    Cut,
    Ended,
    Event,
    Impossible,
    Measured,
    RunEnd,
    Search,
    Suggested,
    Waits,
)
from aimass.explain.words import joined
from aimass.privacy.dp.spending import spent_by
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.views import RunState, RunView

__all__ = ["Searching", "quiet"]

_FAULTS_OF_A_SETTING: Final = frozenset(
    {"bad_input", "refused", "not_found", "wrong_state", "limit", "conflict", "deadline", "stopped"}
)
"""Kinds of errors that fail a run; others end the command, and the search goes on later."""
_ENDS: Final[dict[RunState, RunEnd]] = {
    RunState.FINISHED: "finished",
    RunState.FAILED: "failed",
    RunState.STOPPED: "stopped",
}
Place = tuple[int, int]


def quiet(search: Search, event: Event) -> None:
    """Tells nobody."""


class Searching:
    """A search that goes on in this process, in a folder that it holds. `tell` hears of each event, from any thread."""

    def __init__(
        self,
        folder: SearchFolder,
        search: Search,
        runner: Runner,
        *,
        parallel: int = 1,
        tell: Callable[[Search, Event], None] = quiet,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.search = search
        self._folder, self._runner, self._parallel, self._tell, self._now = folder, runner, parallel, tell, now
        self._lock = threading.RLock()
        self._busy: dict[Place, threading.Thread] = {}
        self._followed: dict[Place, Followed] = {}
        self._done: queue.Queue[tuple[Place, BaseException | None]] = queue.Queue()
        self._leaving = False

    def go_on(self, until: float = float("inf")) -> Search:
        """Search until it is closed, or, past `until`, until what runs then has ended; returns where it stands.

        Raises the named error of what does not compute at all. However it ends, no thread is left; runs of a service
        that were underway go on there, those of this machine stand in their folders.
        """
        try:
            while self._act(until) or self._busy:
                place, error = self._done.get()
                self._busy.pop(place).join()
                self._followed.pop(place, None)
                if error is not None:
                    raise error
        finally:
            self._leave()
        return self.search

    def end(self, reason: str) -> Search:
        """Stop the runs that were begun and have not ended, and try nothing more; returns where it stands then.

        Raises the named error of a service that cannot be asked: the search is open still.
        """
        underway = [
            (trial.number, place)
            for trial in self.search.trials
            for place, run in enumerate(trial.runs)
            if run.state == "running"
        ]
        for place in underway:
            self._end(place, self._runner.begin(self._job(*place)).stop())
        self._add(Closed(at=self._now(), state="ended", reason=reason))
        return self.search

    def _act(self, until: float) -> bool:
        """Do all that is due; whether there is anything to wait for."""
        while (action := due(self.search, self._busy, self._parallel, closing=self._now() >= until)) is not None:
            match action:
                case Propose():
                    self._propose()
                case Begin():
                    self._begin(action.trial, action.place)
                case Close():
                    self._add(Closed(at=self._now(), state=action.state, reason=action.reason))
        return bool(self._busy)

    def _propose(self) -> None:
        settings = proposed(self.search)
        if settings is not None:
            self._add(Suggested(at=self._now(), settings=settings))
        elif not self._busy:
            self._add(Closed(at=self._now(), state="ended", reason="no setting was found that was not tried"))

    def _begin(self, trial: int, place: int) -> None:
        try:
            job = self._job(trial, place)
        except BadInput as error:  # its values exclude each other
            self._add(Impossible(at=self._now(), trial=trial, reason=error.sentence()))
            return
        thread = threading.Thread(target=self._follow, args=((trial, place), job), name=job.key)
        self._busy[trial, place] = thread
        thread.start()

    def _job(self, trial: int, place: int) -> Job:
        path, settings = self._folder.plan(trial, place), self.search.trials[trial].settings
        job = job_of(self.search.setup, settings, trial, place, path, self._folder.run(trial, place))
        path.write_text(written_plan(job.draft), "utf-8")
        return job

    def _follow(self, place: Place, job: Job) -> None:
        """On a thread of its own: the run from its beginning to its end."""
        failed: BaseException | None = None
        try:
            view = self._watched(place, job)
            if view is not None:
                self._end(place, view)
        except AimassError as error:
            if error.kind in _FAULTS_OF_A_SETTING:
                trial, at = place
                reason = f"{error.sentence()} [{error.code}]"
                self._add(Ended(at=self._now(), trial=trial, place=at, state="failed", reason=reason))
            else:
                failed = error
        except BaseException as error:  # noqa: BLE001  (raised again on the main thread)
            failed = error
        self._done.put((place, failed))

    def _watched(self, place: Place, job: Job) -> RunView | None:
        """The run at its end; None where it was left before."""
        trial, at = place
        followed = self._runner.begin(job)
        with self._lock:
            self._followed[place] = followed
            if self._leaving:
                followed.leave()
            if not (run := self.search.run(trial, at)).run:
                self._add(Began(at=self._now(), trial=trial, place=at, run=followed.run))
        if run.cut_at is not None:
            return followed.stop()
        view: RunView | None = None
        for view in followed.watch():
            self._wait(place, view)
            if self._measure(place, view):
                return followed.stop()
        return view if view is not None and view.summary.state.final else None

    def _wait(self, place: Place, view: RunView) -> None:
        """Write down that the run is paused, or goes on: only somebody else can have it go on, and has to hear so."""
        trial, at = place
        paused = view.summary.state is RunState.PAUSED
        reason = (view.summary.reason or "somebody paused it") if paused else ""
        with self._lock:
            if reason != self.search.run(trial, at).waits:
                self._add(Waits(at=self._now(), trial=trial, place=at, reason=reason))

    def _measure(self, place: Place, view: RunView) -> bool:
        """Write down the metric of rounds that are new; whether the run is cut because of them.

        Each is judged, also the last of before the search was killed, which may not have been.
        """
        trial, at = place
        with self._lock:
            if self._judge(place, view):
                return True
            known = self.search.run(trial, at).rounds
            for round_, value in _curve(view, self.search.setup.space.metric):
                if round_ > max(known, default=-1):
                    self._add(Measured(at=self._now(), trial=trial, place=at, round=round_, value=value))
                    if self._judge(place, view):
                        return True
        return False

    def _judge(self, place: Place, view: RunView) -> bool:
        """Cut the run where others were better at its round, unless that was its last anyway."""
        trial, at = place
        round_ = max(self.search.run(trial, at).rounds, default=0)
        if view.summary.state.final or (view.summary.rounds and round_ >= view.summary.rounds):
            return False
        if why := why_cut_short(self.search, trial, at):
            self._add(Cut(at=self._now(), trial=trial, place=at, round=round_, reason=why))
        return bool(why)

    def _end(self, place: Place, view: RunView) -> None:
        trial, at = place
        with self._lock:
            self._measure(place, view)
            self._folder.keep(trial, at, view)
            found = outcomes([view], self.search.setup.space.objective, spent=spent_by).runs[0]
            state, reason = self._how(place, view)
            ended = Ended(
                at=self._now(),
                trial=trial,
                place=at,
                state=state,
                reason=reason,
                epsilon=found.epsilon,
                bytes=found.bytes,
                seconds=found.seconds,
            )
            self._add(ended)

    def _how(self, place: Place, view: RunView) -> tuple[RunEnd, str]:
        """How a run has ended, and why; one that never measured what the search is for has failed."""
        run, metric = self.search.run(*place), self.search.setup.space.metric
        if run.cut_at is not None:
            return "pruned", run.reason
        if view.summary.state is RunState.FINISHED and not run.rounds:
            names = sorted({name for step in view.steps for name in step.metrics if not step.purpose})
            return "failed", f"the run measured no {metric}: it has {joined(names) or 'no metric'}"
        return _ENDS[view.summary.state], view.summary.reason

    def _add(self, event: Event) -> None:
        with self._lock:
            self.search = self._folder.add(self.search, event)
            self._tell(self.search, event)

    def _leave(self) -> None:
        """Have every thread end, and wait until they have."""
        with self._lock:
            self._leaving = True
            left = tuple(self._followed.values())
        for followed in left:
            followed.leave()
        for thread in self._busy.values():
            if thread.ident is not None:  # an interrupt may come between its place and its start
                thread.join()


def _curve(view: RunView, metric: str) -> list[tuple[int, float | None]]:
    """The metric after each round of which there is one; None where it is no number."""
    found: dict[int, float | None] = {}
    for step in view.steps:
        if step.committed_at is not None and not step.purpose and metric in step.metrics:
            mean = step.metrics[metric].mean
            found[step.round] = mean if abs(mean) < float("inf") else None
    return sorted(found.items())
