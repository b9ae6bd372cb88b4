"""The app's own state, one for the process: settings, work in the background, what is kept, and sources by person."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
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

_MOST_PEOPLE: Final = 64
_UNUSED_S: Final = 1800.0
"""Connections of more people are ended once nobody has used them for so long: a tab may still show itself anew by
them, or wait for what takes long."""
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
        self._visits: OrderedDict[str, tuple[Sources, Feed]] = OrderedDict()

    def visit(self, person: Person, viewer: str) -> Here:
        """What one person's pages have; connections are theirs alone, and of many people the longest unused end."""
        key = person.key
        with self._lock:
            if key not in self._visits:
                sources = self._open_sources(self.settings, person)
                self._visits[key] = (sources, Feed(_opener(sources), self._now))
            self._visits.move_to_end(key)
            sources, feed = self._visits[key]
            over = [other for other in list(self._visits)[:-_MOST_PEOPLE] if self._visits[other][0].unused(_UNUSED_S)]
            left = [self._visits.pop(other)[0] for other in over]
            feeds = [other for _, other in self._visits.values()]
        for one in left:
            one.close()
        for one_feed in feeds:
            one_feed.sweep()
        return Here(self, person, viewer, sources, feed)

    def close(self) -> None:
        """End everything."""
        self.jobs.close()
        self.in_flight.close()
        with self._lock:
            for sources, _ in self._visits.values():
                sources.close()
            self._visits.clear()


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
        return self.viewer if self.person.token is None else f"{self.person.role}/{self.person.name}"

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
