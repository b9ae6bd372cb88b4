"""Long work behind the pages: named by what it asks, done once for everybody who asks the same, alive without a page.

A reload or a second tab asks by the same key and finds the same job. Who cancels gives up their own interest, and the
work ends once nobody is interested who was seen lately. What is private, as it is about rows that a viewer brought, is
stopped and forgotten soon after its viewer is gone. Decisions are under one lock; the work is done in threads, as numpy
and torch compute beside one another.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Generic, Literal, TypeVar

from aimass.explain.work import Work
from aimass.proto.errors import AimassError, InternalError, LimitExceeded, Stopped

__all__ = ["Jobs", "Seen"]

T = TypeVar("T")
State = Literal["waiting", "running", "done", "failed", "cancelled"]
log = logging.getLogger("aimass.explain.app")
_KEPT: Final = 64
_MOST_OPEN: Final = 64
_MOST_OWN: Final = 12
"""Of one viewer: a page has few parts, and nobody takes all places of the others."""
_LEFT_S: Final = 60.0
"""After so long without a look a job that has not begun is left out."""
_GONE_S: Final = 90.0
"""After so long without a look a private job is stopped, and what it found forgotten. Browsers let the timers of a tab
in the background run once a minute."""
_SWEEP_S: Final = 15.0
_FRESH_S: Final = 10.0
"""A viewer who was not seen for so long holds no job any more against a wish to cancel it."""


@dataclasses.dataclass(frozen=True)
class Seen(Generic[T]):
    """A job as a page sees it: `share` of 1 is done of `what`; `ahead` jobs come first while it waits."""

    key: str
    title: str
    state: State
    share: float = 0.0
    what: str = ""
    ahead: int = 0
    began_at: float = 0.0
    result: T | None = None
    error: AimassError | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ("done", "failed", "cancelled")


@dataclasses.dataclass
class _Job:
    key: str
    title: str
    began_at: float
    do: Callable[[Work], Any] | None
    """None once it is begun or given up: rows hang on it."""
    state: State = "waiting"
    share: float = 0.0
    what: str = ""
    stop: bool = False
    result: Any = None
    error: AimassError | None = None
    viewers: dict[str, float] = dataclasses.field(default_factory=dict)
    left: set[str] = dataclasses.field(default_factory=set)
    """Who cancelled it: they see that it ends, while anybody else who asks begins it anew."""
    private: bool = False
    seen_at: float = 0.0
    """When somebody looked last, also to give it up."""
    future: Future[None] | None = None


class Jobs:
    """So many threads do what is asked, in the order that it was asked. For any number of threads."""

    def __init__(
        self, workers: int, work: Work, *, time_limit_s: float = 900.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, "aimass-explain")
        self._cores = max(1, (os.cpu_count() or 1) // workers)
        self._work, self._time_limit_s, self._now = work, time_limit_s, now
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._closed = threading.Event()
        threading.Thread(target=self._sweeping, name="aimass-explain-sweep", daemon=True).start()

    def ask(self, key: str, title: str, do: Callable[[Work], T], viewer: str, *, private: bool = False) -> Seen[T]:
        """The job of this key, begun now where there is none; what failed is begun anew once it is forgotten.

        What is `private` is its viewer's alone, by its key, and does not outlive their session by much. Raises
        `LimitExceeded` where too many are open.
        """
        with self._lock:
            job = self._jobs.get(key)
            dying = job is not None and job.stop and viewer not in job.left
            if job is None or dying:
                job = self._begun(key, title, do, viewer, private)
            self._looked(job, viewer)
            self._jobs.move_to_end(key)
            return self._seen(job)

    def wait(self, key: str, seconds: float) -> None:
        """Until the job is over, or so long: what was found before is there at once."""
        with self._lock:
            job = self._jobs.get(key)
        if job is not None and job.future is not None:
            try:
                job.future.result(seconds)
            except TimeoutError:
                return

    def look(self, key: str, viewer: str) -> Seen[Any] | None:
        """The job now; None where nobody asked for it."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                return None
            self._looked(job, viewer)
            return self._seen(job)

    def cancel(self, key: str, viewer: str) -> bool:
        """Give up one viewer's interest; whether the work ends by that."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.state not in ("waiting", "running"):
                return False
            job.viewers.pop(viewer, None)
            job.left.add(viewer)
            job.seen_at = self._now()
            if self._fresh(job, _FRESH_S):
                return False
            _stop(job)
            return True

    def forget(self, key: str) -> None:
        """A job that is over is done anew when it is asked for next."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and job.state not in ("waiting", "running"):
                del self._jobs[key]

    def sweep(self) -> None:
        """Stop and forget private jobs at which their viewers have not looked lately: they are gone."""
        with self._lock:
            unseen = [key for key, job in self._jobs.items() if job.private and self._now() - job.seen_at > _GONE_S]
            for key in unseen:
                _stop(self._jobs.pop(key))

    def close(self) -> None:
        """Stop all work; it ends soon."""
        self._closed.set()
        with self._lock:
            for job in self._jobs.values():
                _stop(job)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _sweeping(self) -> None:
        while not self._closed.wait(_SWEEP_S):
            self.sweep()

    # ---------------------------------------------------------------- under the lock

    def _begun(self, key: str, title: str, do: Callable[[Work], Any], viewer: str, private: bool) -> _Job:
        self._drop_unseen()
        open_ = [job for job in self._jobs.values() if job.state in ("waiting", "running")]
        own = sum(viewer in job.viewers for job in open_)
        if len(open_) >= _MOST_OPEN or own >= _MOST_OWN:
            raise LimitExceeded(
                "too many explanations are being computed",
                code="app.jobs",
                value=f"{len(open_)}, {own} of them yours",
                limit=f"{_MOST_OPEN}, {_MOST_OWN} of them yours",
                cure="Wait for some of them, or cancel one.",
            )
        job = _Job(key, title, self._now(), do, private=private)
        self._jobs[key] = job
        self._pruned()
        job.future = self._pool.submit(self._run, job)
        return job

    def _looked(self, job: _Job, viewer: str) -> None:
        job.viewers[viewer] = job.seen_at = self._now()

    def _drop_unseen(self) -> None:
        """What waits, and at which nobody has looked lately, is not begun: a page that was left asks again."""
        for job in self._jobs.values():
            if job.state == "waiting" and not self._fresh(job, _LEFT_S):
                _stop(job)

    def _fresh(self, job: _Job, seconds: float) -> bool:
        """Whether a viewer looked at it within so many seconds."""
        return any(self._now() - seen < seconds for seen in job.viewers.values())

    def _pruned(self) -> None:
        over = [key for key, job in self._jobs.items() if job.state in ("done", "failed", "cancelled")]
        for key in over[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[key]

    def _seen(self, job: _Job) -> Seen[Any]:
        waiting = [one for one in self._jobs.values() if one.state in ("waiting", "running")]
        ahead = sum(one.began_at < job.began_at for one in waiting) if job.state == "waiting" else 0
        return Seen(job.key, job.title, job.state, job.share, job.what, ahead, job.began_at, job.result, job.error)

    # ---------------------------------------------------------------- in a worker's thread

    def _run(self, job: _Job) -> None:
        with self._lock:
            self._drop_unseen()
            do, job.do = job.do, None
            if job.stop or do is None:
                job.state = "cancelled"
                return
            job.state = "running"
        _take_cores(self._cores)

        def tell(share: float, what: str) -> None:
            with self._lock:
                job.share, job.what = min(1.0, max(0.0, share)), what

        work = dataclasses.replace(self._work, tell=tell, stopped=lambda: job.stop).within(self._time_limit_s)
        try:
            result = do(work)
        except Stopped:
            self._end(job, "cancelled")
        except AimassError as error:
            self._end(job, "failed", error=error)
        except Exception as error:  # noqa: BLE001  (a model may raise anything, with rows in its text: its kind is told)
            log.error("an explanation failed: %s", type(error).__name__)
            fault = InternalError(
                f"the explanation failed with {type(error).__name__}",
                code="app.failed",
                cure="This is a fault of AIMass or of the model; `aimass explain` on the same shows where.",
            )
            self._end(job, "failed", error=fault)
        else:
            self._end(job, "done", result=result)

    def _end(self, job: _Job, state: State, *, result: Any = None, error: AimassError | None = None) -> None:
        with self._lock:
            job.state, job.result, job.error, job.share = state, result, error, 1.0


def _stop(job: _Job) -> None:
    """It ends soon where it runs, and now where it waits."""
    job.stop = True
    if job.state == "waiting":
        job.state, job.do = "cancelled", None


def _take_cores(cores: int) -> None:
    """Let torch compute in this thread with so many of its own, once it is loaded.

    Left to itself it takes all cores for each job, and jobs beside one another wait for each other's threads at every
    step: of a machine with other work that made them four times as slow.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(cores)
