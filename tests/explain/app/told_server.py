"""A training server in memory, as its SDK shows it: runs by id, and an error instead while it is away."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aimass.explain.app.people import Person
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.sources import Sources
from aimass.proto.errors import AimassError, NotFound
from aimass.proto.views import ModelView, RunSummary, RunView, ServerView

__all__ = ["ToldRun", "ToldServer", "ToldSources", "seams"]


class ToldRun:
    """A run that is watched: each of `then` is a change."""

    def __init__(self, view: RunView, then: Sequence[RunView] = ()) -> None:
        self.view, self.then = view, then

    def watch(self) -> Iterator[RunView]:
        yield from self.then

    def leave(self) -> None:
        return


class ToldServer:
    """What `Federation` is to the app."""

    settings = types.SimpleNamespace(server="server.example.org:8443", data="")

    def __init__(self, *runs: RunView, status: ServerView | None = None, models: Sequence[ModelView] = ()) -> None:
        self.views = {run.summary.run_id: run for run in runs}
        self.told_models = tuple(models)
        self.told_status = status
        self.away: AimassError | None = None

    def runs(self, state: str = "", limit: int = 50) -> tuple[RunSummary, ...]:
        self._here()
        return tuple(run.summary for run in self.views.values())[:limit]

    def run(self, run_id: str) -> ToldRun:
        self._here()
        if run_id not in self.views:
            raise NotFound("there is no such run", code="run.unknown", value=run_id)
        return ToldRun(self.views[run_id])

    def models(self, run_id: str = "", limit: int = 100) -> tuple[ModelView, ...]:
        self._here()
        return tuple(model for model in self.told_models if not run_id or model.run_id == run_id)[:limit]

    def status(self) -> ServerView:
        self._here()
        assert self.told_status is not None
        return self.told_status

    def _here(self) -> None:
        if self.away is not None:
            raise self.away

    def close(self) -> None:
        return


class ToldSources(Sources):
    """Sources whose training server is `server`."""

    def __init__(self, settings: AppSettings, person: Person, server: ToldServer) -> None:
        super().__init__(settings, person)
        self.told = server

    @property
    def has_server(self) -> bool:
        return True

    def federation(self) -> ToldServer:  # type: ignore[override]
        return self.told


def seams(server: ToldServer) -> Mapping[str, Any]:
    """Of a `House` whose pages read from it."""
    return {"sources": functools.partial(ToldSources, server=server)}
