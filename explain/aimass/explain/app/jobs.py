"""Long work behind the pages: named by what it asks, done once for everybody who asks the same, alive without a page.

A reload or a second tab asks by the same key and finds the same job. Who cancels gives up their own interest, and the
work ends once nobody is interested who was seen lately. What is private, as it is about rows that a viewer brought, is
stopped and forgotten soon after its viewer is gone. Decisions are under one lock; the work is done in threads, as numpy
and torch compute beside one another.

Work looks at its time limit between chunks. A model that never returns is given up on soon after it: the page is told,
and another thread takes the place of the lost one. No thread can be ended from outside, and only a process of its own
could be; so no more than `spare` threads are lost before places are.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from aimass.explain.app.job import Job, Seen, turns
from aimass.explain.work import Work
from aimass.proto.errors import AimassError, DeadlinePassed, InternalError, LimitExceeded, Stopped, printable

__all__ = ["Jobs"]

T = TypeVar("T")
log = logging.getLogger("aimass.explain.app")
_KEPT: Final = 64
_MOST_OPEN: Final = 64
_MOST_OWN: Final = 12
"""Of one person, or one tab where nobody logs in: a page has few parts, and nobody takes all places of the others."""
_LEFT_S: Final = 60.0
"""After so long without a look a job that has not begun is left out."""
_GONE_S: Final = 90.0
"""After so long without a look a private job is stopped, and what it found forgotten. Browsers let the timers of a tab
in the background run once a minute."""
_SWEEP_S: Final = 15.0
_FRESH_S: Final = 10.0
"""A viewer who was not seen for so long holds no job any more against a wish to cancel it."""
_GRACE_S: Final = 30.0
"""From its time limit, or the wish to stop it, until a job that has not come back is given up on: one chunk's time."""
_SPARE: Final = 2
"""Lost threads that are replaced, for each worker."""


class Jobs:
    """So many threads do what is asked; people take turns, each in the order that they asked. For any number of
    threads."""

    def __init__(
        self, workers: int, work: Work, *, time_limit_s: float = 900.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers, self._spare = workers, _SPARE * workers
        self._pool = ThreadPoolExecutor(workers + self._spare, "aimass-explain")
        self._cores = max(1, (os.cpu_count() or 1) // workers)
        self._work, self._time_limit_s, self._now = work, time_limit_s, now
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._numbers = itertools.count()
        self._running: list[Job] = []
        self._lost = 0
        self._closed = threading.Event()
        threading.Thread(target=self._sweeping, name="aimass-explain-sweep", daemon=True).start()

    @property
    def lost(self) -> int:
        """Threads whose model did not come back in time, and has not since."""
        with self._lock:
            return self._lost

    def ask(
        self, key: str, title: str, do: Callable[[Work], T], viewer: str, *, person: str = "", private: bool = False
    ) -> Seen[T]:
        """The job of this key, begun now where there is none; what failed is begun anew once it is forgotten.

        `viewer` is a tab, and `person` whoever sits at it: without one a tab takes turns for itself. What is `private`
        is its viewer's alone, by its key, and does not outlive their session by much. Raises `LimitExceeded` where too
        many are open, or models that did not come back hold all threads.
        """
        with self._lock:
            self._give_up()
            job = self._jobs.get(key)
            dying = job is not None and job.stop and viewer not in job.left
            if job is None or dying:
                job = self._begun(key, title, do, person or viewer, private)
            job.persons[viewer] = person or viewer
            self._looked(job, viewer)
            self._begin_next()
            self._jobs.move_to_end(key)
            return self._seen(job)

    def wait(self, key: str, seconds: float) -> None:
        """Until the job is over, or so long: what was found before is there at once."""
        with self._lock:
            job = self._jobs.get(key)
        if job is not None:
            job.over.wait(seconds)

    def look(self, key: str, viewer: str) -> Seen[Any] | None:
        """The job now; None where nobody asked for it."""
        with self._lock:
            self._give_up()
            job = self._jobs.get(key)
            if job is None:
                return None
            self._looked(job, viewer)
            return self._seen(job)

    def cancel(self, key: str, viewer: str) -> bool:
        """Give up one viewer's interest; whether the work ends by that."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or not job.open:
                return False
            job.viewers.pop(viewer, None)
            job.left.add(viewer)
            job.seen_at = self._now()
            if self._fresh(job, _FRESH_S):
                return False
            job.halt(self._now())
            return True

    def forget(self, key: str) -> None:
        """A job that is over is done anew when it is asked for next."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not job.open:
                del self._jobs[key]

    def sweep(self) -> None:
        """Give up on work that did not come back, and stop and forget private jobs at which their viewers have not
        looked lately: they are gone."""
        with self._lock:
            unseen = [key for key, job in self._jobs.items() if job.private and self._now() - job.seen_at > _GONE_S]
            for key in unseen:
                self._jobs.pop(key).halt(self._now())
            self._give_up()

    def close(self) -> None:
        """Stop all work; it ends soon, and what does not come back is not waited for."""
        self._closed.set()
        with self._lock:
            for job in (*self._jobs.values(), *self._running):
                job.halt(self._now())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _sweeping(self) -> None:
        while not self._closed.wait(_SWEEP_S):
            self.sweep()

    # ---------------------------------------------------------------- under the lock

    def _begun(self, key: str, title: str, do: Callable[[Work], Any], person: str, private: bool) -> Job:
        self._drop_unseen()
        if not self._places():
            raise self._no_threads()
        open_ = [job for job in self._jobs.values() if job.open]
        own = sum(person in job.people for job in open_)
        if len(open_) >= _MOST_OPEN or own >= _MOST_OWN:
            raise LimitExceeded(
                "too many explanations are being computed",
                code="app.jobs",
                value=f"{len(open_)}, {own} of them yours",
                limit=f"{_MOST_OPEN}, {_MOST_OWN} of them yours",
                cure="Wait for some of them, or cancel one.",
            )
        job = Job(key, title, next(self._numbers), self._now(), do, private=private)
        self._jobs[key] = job
        self._pruned()
        return job

    def _begin_next(self) -> None:
        """Begin what waits while there is a place."""
        self._drop_unseen()
        free = self._places() - len(self._running)
        for job in turns(self._in_order())[: max(0, free)] if not self._closed.is_set() else ():
            do, job.do = job.do, None
            if do is not None:
                job.state, job.until = "running", self._now() + self._time_limit_s
                self._running.append(job)
                self._pool.submit(self._run, job, do)

    def _in_order(self) -> list[Job]:
        """All that was asked, the oldest first."""
        return sorted(self._jobs.values(), key=lambda job: job.number)

    def _places(self) -> int:
        """Jobs that may run at once: the workers, less lost threads that are not replaced any more."""
        return max(0, self._workers - max(0, self._lost - self._spare))

    def _give_up(self) -> None:
        """On what runs and should have come back."""
        for job in [job for job in self._running if self._now() > job.until + _GRACE_S]:
            self._running.remove(job)
            job.lost, self._lost = True, self._lost + 1
            lost, replaced = self._lost, min(self._lost, self._spare)
            log.error("no answer to “%s” (threads lost: %d, replaced: %d)", printable(job.title, 200), lost, replaced)
            if job.stop:
                job.end("cancelled")
            else:
                job.end("failed", error=_no_answer(self._time_limit_s + _GRACE_S))
        if not self._places():
            for job in turns(self._in_order()):
                job.end("failed", error=self._no_threads())
        self._begin_next()

    def _no_threads(self) -> AimassError:
        return LimitExceeded(
            "nothing more is computed: models that never answered hold all threads of the app",
            code="app.threads",
            value=f"{self._lost} threads",
            limit=f"{self._workers + self._spare}",
            cure="Whoever started the app starts it anew; its log says when each was lost.",
        )

    def _looked(self, job: Job, viewer: str) -> None:
        job.viewers[viewer] = job.seen_at = self._now()

    def _drop_unseen(self) -> None:
        """What waits, and at which nobody has looked lately, is not begun: a page that was left asks again."""
        for job in self._jobs.values():
            if job.state == "waiting" and not self._fresh(job, _LEFT_S):
                job.halt(self._now())

    def _fresh(self, job: Job, seconds: float) -> bool:
        """Whether a viewer looked at it within so many seconds."""
        return any(self._now() - seen < seconds for seen in job.viewers.values())

    def _pruned(self) -> None:
        over = [key for key, job in self._jobs.items() if not job.open]
        for key in over[: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[key]

    def _seen(self, job: Job) -> Seen[Any]:
        ahead = len(self._running) + turns(self._in_order()).index(job) if job.state == "waiting" else 0
        return Seen(job.key, job.title, job.state, job.share, job.what, ahead, job.began_at, job.result, job.error)

    # ---------------------------------------------------------------- in a worker's thread

    def _run(self, job: Job, do: Callable[[Work], Any]) -> None:
        def tell(share: float, what: str) -> None:
            with self._lock:
                if job.open:
                    job.share, job.what = min(1.0, max(0.0, share)), what

        work = dataclasses.replace(self._work, tell=tell, stopped=lambda: job.stop or job.lost)
        found, error = _outcome(do, work.within(self._time_limit_s), self._cores)
        with self._lock:
            if job.lost:
                self._lost -= 1
            else:
                self._running.remove(job)
            if isinstance(error, Stopped):
                job.end("cancelled")
            elif error is not None:
                job.end("failed", error=error)
            else:
                job.end("done", result=found)
            self._begin_next()


def _outcome(do: Callable[[Work], Any], work: Work, cores: int) -> tuple[Any, AimassError | None]:
    """What the work comes to, or the named error that ended it; whatever it raises, its place is free again."""
    try:
        _take_cores(cores)
        return do(work), None
    except AimassError as error:
        return None, error
    except BaseException as error:  # noqa: BLE001  (a model may raise anything, even a wish to exit or the panic of a
        # library, and with rows in its text: its kind is told)
        log.error("an explanation failed: %s", type(error).__name__)
        return None, InternalError(
            f"the explanation failed with {type(error).__name__}",
            code="app.failed",
            cure="This is a fault of AIMass or of the model; `aimass explain` on the same shows where.",
        )


def _no_answer(seconds: float) -> AimassError:
    return DeadlinePassed(
        "the model did not answer in time, and is not waited for any more",
        code="app.no_answer",
        value=f"{seconds:g} s",
        cure="Ask for fewer rows; where it never answers, the log of what serves the model may say why.",
    )


def _take_cores(cores: int) -> None:
    """Let torch compute in this thread with so many of its own, once it is loaded.

    Left to itself it takes all cores for each job, and jobs beside one another wait for each other's threads at every
    step: of a machine with other work that made them four times as slow.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(cores)
