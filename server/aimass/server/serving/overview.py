"""How a serving process stands: ready or why not, figures for Prometheus, and what `aimass serve status` shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aimass.proto.clock import Clock
from aimass.proto.errors import InternalError
from aimass.proto.exposition import exposed
from aimass.proto.meters import Reading, meters_of
from aimass.proto.serving_views import ServingStatus
from aimass.proto.vitals import Vitals
from aimass.proto.watch import Reason
from aimass.server.health import HealthService
from aimass.server.lookout import Lookout
from aimass.server.readiness import Phase
from aimass.server.serving.dispatch.requests import NOT_READY, NotReady
from aimass.server.serving.dispatch.seam import Dispatching
from aimass.server.serving.grpc.admission import AnyCaller
from aimass.server.serving.grpc.calls import GrpcMeters
from aimass.server.serving.grpc.service import SERVICES
from aimass.server.serving.http.front import HttpMeters
from aimass.server.serving.model_meters import ModelMeters
from aimass.server.serving.status import status_of
from aimass.server.serving.watching.audit_log import AuditLog
from aimass.server.serving.watching.views import WatchMeters
from aimass.server.serving.watching.watchers import Watchers

__all__ = ["Meters", "Overview"]

_WATCH_ENDED: Final = "serving.watch_ended"
_WHY: Final = {
    NOT_READY: "a model does not answer now: `aimass serve status` says which",
    _WATCH_ENDED: "a model follows its registry no more: the log says why, and a restart helps",
}


class Meters:
    """All that is counted."""

    def __init__(self) -> None:
        self.http = HttpMeters()
        self.grpc = GrpcMeters()
        self.models = ModelMeters()
        self.watch = WatchMeters()
        self.vitals = Vitals()


class Overview:
    """See `aimass.proto.watch.Watched`. `connections` are those open over HTTP."""

    def __init__(
        self,
        release: str,
        dispatcher: Dispatching,
        models: Watchers,
        audit: AuditLog,
        meters: Meters,
        clock: Clock,
    ) -> None:
        self._release, self._began_at = release, clock.now()
        self._dispatcher, self._models, self._audit, self._meters = dispatcher, models, audit, meters
        self.health = HealthService(AnyCaller(), clock, SERVICES)
        self.lookout = Lookout(self.health, clock, self._probe, lambda: float("inf"))
        dispatcher.tap(meters.models.tap)
        self.connections: Callable[[], int] = lambda: 0

    def all_ready(self) -> bool:
        """Whether every model would answer now, and go on to be what is promoted."""
        return self.lookout.readiness.phase is Phase.SERVING and not (self._unready() or self._models.ended)

    async def reasons(self) -> tuple[Reason, ...]:
        """Why the process is not ready; everybody may know, so models are not named."""
        found = await self.lookout.readiness.current()
        return tuple(Reason(one.code, _WHY.get(one.code, one.what)) for one in found)

    async def figures(self) -> bytes:
        """Its meters, as Prometheus reads them."""
        readings = (*self._readings(), *self._models.readings())
        return await asyncio.to_thread(exposed, meters_of(self._meters), readings)

    def status(self) -> ServingStatus:
        """What `aimass serve status` shows."""
        return status_of(
            self._release,
            self._began_at,
            self._dispatcher.models(),
            self._models,
            self._models.views(),
            tuple(self._audit.recent),
        )

    def _unready(self) -> list[str]:
        ready = {state.name for state in self._dispatcher.models() if state.state == "READY"}
        return [model for model in self._models.models if model not in ready]

    async def _probe(self) -> None:
        """Raise the named error for which not all models answer, or would not go on to be what is promoted."""
        if unready := self._unready():
            raise NotReady(", ".join(unready))
        if ended := self._models.ended:
            raise InternalError("a model is not watched any more", code=_WATCH_ENDED, value=", ".join(ended))

    def _readings(self) -> tuple[Reading, ...]:
        versions = [loaded for state in self._dispatcher.models() for loaded in state.versions]
        named = {(loaded.model, str(loaded.version)): loaded for loaded in versions}
        shares = {name: loaded.share for name, loaded in named.items()}
        workers = {name: float(loaded.workers) for name, loaded in named.items()}
        lost = {name: float(loaded.lost) for name, loaded in named.items()}
        queued = {name: float(loaded.queued) for name, loaded in named.items()}
        resident = {name: float(loaded.resident_bytes) for name, loaded in named.items()}
        versioned = ("model", "version")
        return (
            Reading.of("aimass_ready", "1 where every model answers.", float(self.all_ready())),
            Reading.of("aimass_http_connections", "Open connections.", float(self.connections())),
            Reading("aimass_serving_share", "Share of a model's requests that a version answers.", shares, versioned),
            Reading("aimass_serving_workers", "Worker processes that live.", workers, versioned),
            Reading("aimass_serving_workers_lost", "Worker processes that died or were killed.", lost, versioned),
            Reading("aimass_serving_resident_bytes", "Memory of the workers, shared pages too.", resident, versioned),
            Reading("aimass_serving_queued", "Requests that wait for a worker.", queued, versioned),
        )
