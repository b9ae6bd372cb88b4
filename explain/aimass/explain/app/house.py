"""The app's own state, one for the process: settings, work in the background, what is kept, and sources by person."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Final

from aimass.explain.app.in_flight import InFlight
from aimass.explain.app.jobs import Jobs
from aimass.explain.app.live import Feed, Watching
from aimass.explain.app.login import LoggedIn, Logins, ask_server
from aimass.explain.app.looks import Looks
from aimass.explain.app.memo import Memo
from aimass.explain.app.people import Person, rows_for
from aimass.explain.app.settings import AppSettings, RowsSetting
from aimass.explain.app.sources import Sources
from aimass.explain.app.wanted import Wanted
from aimass.explain.cache import ResultCache
from aimass.explain.work import Work
from aimass.proto.errors import InternalError
from aimass.proto.views import RunView

__all__ = ["Here", "House", "enter", "house"]

_MANY: Final = 64
"""While so many visits are held at most, none is ended."""
_UNUSED_S: Final = 1800.0
"""Of more visits those end that nobody has used for so long: a tab may still show itself anew by their connections, or
wait for what takes long."""
_MOST: Final = 256
"""No more visits are held, used or not: each has connections, with a thread and a loop."""
_MOST_OF_ONE: Final = 8
"""Logins of one person whose visits are held: who logs in again and again ends their own alone."""
_MOST_SUBJECTS: Final = 16
_OPENING_S: Final = 600.0
"""A large model takes a while to be fetched; the others who want it wait for the first."""


class House:
    """Made once before the first page; `close` ends its work and its connections."""

    def __init__(
        self,
        settings: AppSettings,
        identity: Callable[[], LoggedIn | None] = lambda: None,
        *,
        sources: Callable[[AppSettings, Person], Sources] = Sources,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`identity` says who is logged in, where the settings name a login; `sources` opens what one person reads."""
        self.settings, self.identity, self._open_sources, self._now = settings, identity, sources, now
        own = settings.path(settings.home) if settings.login else None
        self.logins, self.wanted = Logins(ask_server(settings.home), folder=own), Wanted()
        work = Work(memory_bytes=settings.memory_mib << 20)
        self.jobs = Jobs(settings.workers, work, time_limit_s=settings.time_limit_s)
        self.results = ResultCache()
        self.subjects = Memo(most=_MOST_SUBJECTS, patience_s=_OPENING_S)
        self.rows = Memo(most=8)
        self.drawn, self.charts = Memo(most=64), Memo(most=256)
        self.looks = Looks()
        self.kinds, self.in_flight = Memo(), InFlight()
        self._lock = threading.Lock()
        self._visits: dict[str, _Visit] = {}

    def visit(self, person: Person, viewer: str) -> Here:
        """What one person's pages have; connections are theirs alone, and of many visits the longest unused end."""
        key = person.key
        with self._lock:
            if key not in self._visits:
                sources = self._open_sources(self.settings, person)
                feed = Feed(_opener(sources), self._now)
                self._visits[key] = _Visit(person.whose, sources, feed, self._now())
            visit = self._visits[key]
            visit.come_at = self._now()
            left = [self._visits.pop(other) for other in self._over(key)]
            feeds = [other.feed for other in self._visits.values()]
        for one in left:
            one.close()
        for one_feed in feeds:
            one_feed.sweep()
        return Here(self, person, viewer, visit.sources, visit.feed)

    def _over(self, come: str) -> tuple[str, ...]:
        """Under the lock: the visits to end now that `come` is looked at, which is none of them."""
        used = {key: visit.used_at for key, visit in self._visits.items()}
        keys = sorted(used, key=lambda key: (key == come, used[key]))  # the longest unused first
        own = [key for key in keys if self._visits[key].whose == self._visits[come].whose]
        over = set(own[:-_MOST_OF_ONE]) | set(keys[:-_MOST])
        return (*over, *(key for key in keys[:-_MANY] if key not in over and self._now() - used[key] >= _UNUSED_S))

    def close(self) -> None:
        """End everything."""
        self.jobs.close()
        self.in_flight.close()
        with self._lock:
            left = tuple(self._visits.values())
            self._visits.clear()
        for one in left:
            one.close()


@dataclasses.dataclass(slots=True)
class _Visit:
    """One login of `whose`: what it reads, the runs that it watches, and when a page of it was run last."""

    whose: str
    sources: Sources
    feed: Feed
    come_at: float

    @property
    def used_at(self) -> float:
        """When a page was run, a service asked, or a run looked at last."""
        return max(self.come_at, self.sources.used_at, self.feed.used_at)

    def close(self) -> None:
        """The feed first: it watches over the connections that then end."""
        self.feed.close()
        self.sources.close()


@dataclasses.dataclass(frozen=True)
class Here:
    """What a page is rendered with: who looks (`viewer` is the session), and what they may read."""

    house: House
    person: Person
    viewer: str
    sources: Sources
    feed: Feed

    @property
    def settings(self) -> AppSettings:
        """The app's."""
        return self.house.settings

    @property
    def asker(self) -> str:
        """Who takes turns with others for long work: the person where people log in, however many tabs they have open,
        and else the tab."""
        return self.viewer if self.person.token is None else self.person.whose

    @property
    def rows(self) -> tuple[RowsSetting, ...]:
        """Rows that this person may ask about; they do not learn of others."""
        return rows_for(self.settings, self.person)


def _opener(sources: Sources) -> Callable[[str], tuple[RunView, Watching]]:
    def open_run(run_id: str) -> tuple[RunView, Watching]:
        run = sources.federation().run(run_id)
        return run.view, run

    return open_run


_HOUSE: list[House] = []


def enter(made: House | None) -> None:
    """Say which house this process shows, before the first page; None ends the one that there is."""
    for old in _HOUSE:
        if old is not made:
            old.close()
    _HOUSE[:] = [] if made is None else [made]


def house() -> House:
    """The house of this process."""
    if not _HOUSE:
        raise InternalError(
            "the app was not started by its command", code="app.not_started", cure="Type: aimass explain app"
        )
    return _HOUSE[0]
