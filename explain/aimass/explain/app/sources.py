"""What the app reads, through the services' own APIs and as the person who looks: never a database, never a store's
secrets. What was said a moment ago is said again; what is away raises `Unavailable`, and pages tell it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aimass.explain.app.memo import Memo
from aimass.explain.app.people import Person
from aimass.explain.app.settings import AppSettings
from aimass.privacy.model_trust import FileTrust
from aimass.proto.api import Federation
from aimass.proto.data_api import DataSets
from aimass.proto.data_views import DataSetList
from aimass.proto.errors import AimassError, NotFound, Unavailable
from aimass.proto.objects import open_objects
from aimass.proto.registry.places import meant_trust, meant_url
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.views import ModelView, RunSummary, RunView

__all__ = ["VISIT_OVER", "Sources", "Versions"]

VISIT_OVER: Final = "app.visit_over"
"""Code of what connections that were ended say: a page that is run anew has others."""
_SOON_S: Final = 2.0
"""How old a list may be that is shown."""
_VERSIONS_S: Final = 10.0
_MOST_RUNS: Final = 1_000
_PATIENCE_S: Final = 20.0
"""A service that takes a question and says nothing for so long is told of as one that is away."""
Versions = tuple[tuple[int, Resolved | AimassError], ...]
"""The versions of a model, newest first: each, or why it is not believed."""


class Sources:
    """Of one person. For any number of threads; `close` ends its connections, and nothing is read after it."""

    def __init__(self, settings: AppSettings, person: Person, now: Callable[[], float] = time.monotonic) -> None:
        self.settings, self.person, self._now = settings, person, now
        self._used_at, self._closed = now(), False
        self._memo = Memo()
        self._lock = threading.Lock()
        self._federation: Federation | None = None
        self._data_sets: DataSets | None = None
        self._registry: RegistryReader | None = None

    # ---------------------------------------------------------------- training server

    @property
    def has_server(self) -> bool:
        """Whether a training server was named."""
        return bool(self.settings.home)

    def federation(self) -> Federation:
        """The connection to the training server, made on first use."""
        if not self.settings.home:
            raise NotFound(
                "this app knows no training server",
                code="app.no_server",
                cure="Start it with --as FOLDER: the folder of a person that `aimass client enroll` made.",
            )
        with self._lock:
            self._use()
            if self._federation is None:
                self._federation = Federation.open(self.settings.home, self.person.bearer)
                self._federation.patience_s = _PATIENCE_S
            return self._federation

    def runs(self) -> tuple[RunSummary, ...]:
        """Runs that this person may see, newest first."""
        return self._memo.get("runs", _SOON_S, lambda: self.federation().runs(limit=_MOST_RUNS))

    def run(self, run_id: str) -> RunView:
        """A run as it stands; raises `NotFound` for one that is gone or not this person's to see."""
        return self._memo.get(("run", run_id), _SOON_S, lambda: self.federation().run(run_id).view)

    def models(self, run_id: str = "") -> tuple[ModelView, ...]:
        """Committed models of a run, or of all, newest first."""
        return self._memo.get(("models", run_id), _SOON_S, lambda: self.federation().models(run_id))

    # ---------------------------------------------------------------- registry

    @property
    def registry_url(self) -> str:
        """Where the registry is; empty where none was named."""
        return meant_url(self.settings.registry)

    def registry(self) -> RegistryReader:
        """The registry as the trust file believes it."""
        if not (url := self.registry_url):
            raise NotFound(
                "this app knows no registry",
                code="app.no_registry",
                cure="Start it with --registry URL, or set AIMASS_REGISTRY.",
            )
        with self._lock:
            if self._registry is None:
                self._registry = RegistryReader(open_objects(url), FileTrust(meant_trust(self.settings.trust)))
            return self._registry

    def model_names(self) -> tuple[str, ...]:
        """Models of the registry."""
        return self._memo.get("names", _VERSIONS_S, lambda: self.registry().names())

    def aliases(self, name: str) -> tuple[str, ...]:
        """Aliases of a model."""
        return self._memo.get(("aliases", name), _VERSIONS_S, lambda: self.registry().aliases(name))

    def versions(self, name: str) -> Versions:
        """Its versions, newest first, each or why it is not believed."""
        return self._memo.get(("versions", name), _VERSIONS_S, lambda: tuple(self.registry().every(name)))

    def resolved(self, reference: str) -> Resolved:
        """The version that NAME@ALIAS or NAME@NUMBER names now."""
        return self._memo.get(("resolved", reference), _VERSIONS_S, lambda: self.registry().resolve(reference))

    # ---------------------------------------------------------------- data sets

    @property
    def has_data_sets(self) -> bool:
        """Whether a data set service was named, here or in the person's folder."""
        return bool(self.settings.data or (self.has_server and self.federation().settings.data))

    def data_sets(self) -> DataSets:
        """The connection to the data set service, made on first use."""
        if not self.settings.home:
            raise NotFound(
                "this app knows no data set service",
                code="app.no_data",
                cure="Start it with --as FOLDER and --data HOST:PORT.",
            )
        with self._lock:
            self._use()
            if self._data_sets is None:
                self._data_sets = DataSets.open(self.settings.home, self.settings.data, self.person.bearer)
                self._data_sets.patience_s = _PATIENCE_S
            return self._data_sets

    def all_data_sets(self) -> DataSetList:
        """Every data set with its health."""
        return self._memo.get("data sets", _SOON_S, lambda: self.data_sets().all())

    # ---------------------------------------------------------------- all

    def remembered(self, key: str, seconds: float, ask: Callable[[], object]) -> object:
        """What pages ask of other services, at most so many seconds old."""
        return self._memo.get(("page", key), seconds, ask)

    def forget(self) -> None:
        """Ask everything anew: something was changed."""
        self._memo.forget()

    def folder(self) -> Path | None:
        """The person's folder."""
        return self.settings.path(self.settings.home)

    def _use(self) -> None:
        """Under the lock: somebody is about to ask a service."""
        if self._closed:
            raise Unavailable(
                "this page was not looked at for long, and its connections were ended",
                code=VISIT_OVER,
                cure="It is shown anew by itself; if not, reload it.",
            )
        self._used_at = self._now()

    @property
    def used_at(self) -> float:
        """When somebody asked a service last, by the sources' clock."""
        with self._lock:
            return self._used_at

    def close(self) -> None:
        """End the connections; calling it twice is fine."""
        with self._lock:
            self._closed = True
            for one in (self._federation, self._data_sets):
                if one is not None:
                    one.close()
            self._federation = self._data_sets = None
