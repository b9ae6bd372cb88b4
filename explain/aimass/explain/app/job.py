"""One piece of long work as the app keeps it, and whose turn is next. Pure."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, TypeVar

from aimass.explain.work import Work
from aimass.proto.errors import AimassError

__all__ = ["Job", "Seen", "State", "turns"]

T = TypeVar("T")
State = Literal["waiting", "running", "done", "failed", "cancelled"]


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


@dataclasses.dataclass(eq=False)
class Job:
    """`number` counts up as jobs are asked for. `do` is None once it is begun or given up, since rows hang on it. Times
    are seconds of one clock."""

    key: str
    title: str
    number: int
    began_at: float
    do: Callable[[Work], Any] | None
    state: State = "waiting"
    share: float = 0.0
    what: str = ""
    result: Any = None
    error: AimassError | None = None
    viewers: dict[str, float] = dataclasses.field(default_factory=dict)
    """Tabs, and when each looked last: they hold the interest in it."""
    persons: dict[str, str] = dataclasses.field(default_factory=dict)
    """Who sits at a tab, where that is known: they take turns."""
    left: set[str] = dataclasses.field(default_factory=set)
    """Who cancelled it: they see that it ends, while anybody else who asks begins it anew."""
    private: bool = False
    seen_at: float = 0.0
    """When somebody looked last, also to give it up."""
    until: float = float("inf")
    """By when it has to be over: its time limit from when it runs, or sooner where it was told to stop."""
    stop: bool = False
    lost: bool = False
    """It did not come back in time; its thread still belongs to it."""
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    @property
    def open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")

    @property
    def people(self) -> frozenset[str]:
        """Who wants it, each once; a tab stands for itself where nobody knows who sits at it."""
        return frozenset(self.persons.get(viewer, viewer) for viewer in self.viewers)

    def end(self, state: State, *, result: Any = None, error: AimassError | None = None) -> None:
        """Nothing more happens to it; the first end counts."""
        if self.open:
            self.state, self.result, self.error, self.share, self.do = state, result, error, 1.0, None
            self.over.set()

    def halt(self, now: float) -> None:
        """It ends soon where it runs, and now where it waits."""
        if self.open and not self.stop:
            self.stop, self.until = True, min(self.until, now)
        if self.state == "waiting":
            self.end("cancelled")


def turns(jobs: Iterable[Job]) -> list[Job]:
    """Those of `jobs`, given in the order in which they were asked, that wait, in the order in which they are begun.

    People take turns: a job comes behind those that have fewer jobs of the same person, running or asked for, before
    them. One that several people wait for counts for whom it comes first.
    """
    before: dict[str, int] = {}
    ranked: list[tuple[int, int, Job]] = []
    for place, job in enumerate(one for one in jobs if one.open):
        rank = min((before.get(person, 0) for person in job.people), default=0)
        for person in job.people:
            before[person] = before.get(person, 0) + 1
        if job.state == "waiting":
            ranked.append((rank, place, job))
    return [job for _, _, job in sorted(ranked, key=lambda one: one[:2])]
