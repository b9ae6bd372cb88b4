"""A serving process put together: registry, dispatcher, fronts and what watches them, in one place and in order."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from aimass.privacy.model_trust import FileTrust
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.errors import AimassError
from aimass.proto.exposition import exposed
from aimass.proto.meters import Meter, Reading, meters_of
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.registry.layout import read_reference
from aimass.proto.vitals import Vitals
from aimass.proto.watch import Reason
from aimass.proto.wire import server_credentials
from aimass.server.health import HealthService, health_rpc
from aimass.server.lifetime import GrpcPort, Port, lived
from aimass.server.lookout import Lookout
from aimass.server.serving.access import Access
from aimass.server.serving.dispatch.requests import NotReady
from aimass.server.serving.dispatch.seam import Dispatching
from aimass.server.serving.grpc.admission import AnyCaller, GrpcAdmission
from aimass.server.serving.grpc.calls import GrpcMeters
from aimass.server.serving.grpc.ports import inference_server
from aimass.server.serving.grpc.service import SERVICES, InferenceService
from aimass.server.serving.http.front import Front, HttpMeters
from aimass.server.serving.http.listening import HttpPort, Listener
from aimass.server.serving.http.people import PeopleEndpoints
from aimass.server.serving.http.service_endpoints import ServiceEndpoints
from aimass.server.serving.http.v2_endpoints import V2Endpoints
from aimass.server.serving.rates import Rates
from aimass.server.serving.settings import ServeSettings, is_private
from aimass.server.serving.status import status_of
from aimass.server.serving.tls import TlsFiles
from aimass.server.serving.tokens import TokenBook
from aimass.server.serving.watching.audit_log import AuditLog
from aimass.server.serving.watching.retraining import PlanRetrainer
from aimass.server.serving.watching.views import WatchMeters
from aimass.server.serving.watching.watcher import Surroundings
from aimass.server.serving.watching.watchers import Watchers

__all__ = ["Started", "serve"]

log = logging.getLogger("aimass.serving")
Open = Callable[[str], ObjectStore]
MakeDispatcher = Callable[[ServeSettings], AbstractAsyncContextManager[Dispatching]]


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """Where the process listens: its HTTP address as a URL, and ports, 0 where it does not."""

    url: str
    http_port: int
    grpc_port: int = 0
    watch_port: int = 0


async def serve(
    settings: ServeSettings,
    make_dispatcher: MakeDispatcher,
    stop: asyncio.Event,
    ready: Callable[[Started], None],
    *,
    clock: Clock | None = None,
    open_store: Open = open_objects,
) -> None:
    """Serve until `stop` is set. Raises a named error where it cannot start."""
    async with make_dispatcher(settings) as dispatcher:
        await _Serving(settings, dispatcher, clock or SystemClock(), open_store).run(stop, ready)


class _Meters:
    def __init__(self) -> None:
        self.http = HttpMeters()
        self.watch = WatchMeters()
        self.grpc = GrpcMeters()
        self.vitals = Vitals()


class _Serving:
    def __init__(self, settings: ServeSettings, dispatcher: Dispatching, clock: Clock, open_store: Open) -> None:
        self._settings, self._dispatcher, self._clock = settings, dispatcher, clock
        self._began_at = clock.now()
        self._release = importlib.metadata.version("aimass")
        self._tls = TlsFiles(settings.tls) if settings.tls.certificate else None
        self._tokens = TokenBook(Path(settings.tokens), _unreadable) if settings.tokens else None
        self._meters = _Meters()
        self._disk = ThreadPoolExecutor(1, "aimass-audit")
        self._models = self._watchers(open_store)
        self._rates = Rates(settings.http_limits.requests_per_s)
        self._health = HealthService(AnyCaller(), clock, SERVICES)
        self._lookout = Lookout(self._health, clock, self._probe, lambda: float("inf"))
        self._listener = self._front()

    async def run(self, stop: asyncio.Event, ready: Callable[[Started], None]) -> None:
        """From the first model to the last answer."""
        settings = self._settings
        async with (
            self._models.watching(),
            self._lookout.open(settings.watch_listen, self, self._meters.vitals) as watch_port,
        ):

            def listening(ports: Sequence[int]) -> None:
                ready(Started(self._url(ports[0]), ports[0], ports[1] if len(ports) > 1 else 0, watch_port))

            await lived(self._ports(), self._lookout, stop, listening, self._let_go)

    def _watchers(self, open_store: Open) -> Watchers:
        """What brings versions into memory, watches them and replaces them."""
        settings, folder = self._settings, Path(self._settings.cache)
        retrain = settings.watch.retrain
        around = Surroundings(
            self._dispatcher,
            AuditLog(folder),
            self._meters.watch,
            settings.watch,
            PlanRetrainer(retrain) if retrain.plan else None,
            self._clock,
            time.monotonic,
            random.SystemRandom(),
            self._disk,
            settings.device,
        )
        references = [read_reference(model) for model in settings.models]
        return Watchers(references, open_store(settings.registry), FileTrust(Path(settings.trust)), folder, around)

    def _url(self, port: int) -> str:
        host, _, _ = self._settings.http.rpartition(":")
        return f"{'http' if self._tls is None else 'https'}://{host}:{port}"

    def _front(self) -> Listener:
        """What answers HTTP."""
        settings, dispatcher = self._settings, self._dispatcher
        access = Access(self._tokens, is_private(settings.http))
        v2 = V2Endpoints(dispatcher, self._models, time.monotonic, settings.infer_s, self._release, self._all_ready)
        people = PeopleEndpoints(
            dispatcher, self._models, settings.input, time.monotonic, settings.infer_s, self._release
        )
        service = ServiceEndpoints(self.reasons, self.figures, self.status)
        routes = [*v2.routes(), *people.routes(), *service.routes()]
        front = Front(routes, access, self._rates, self._clock.now, self._meters.http, settings.log_requests)
        return Listener(
            front.handle, settings.http_limits, time.monotonic, secrets.token_hex(4), self._meters.http.refused
        )

    def _ports(self) -> tuple[Port, ...]:
        settings = self._settings
        context = None if self._tls is None else self._tls.context
        http = HttpPort(
            settings.http,
            self._listener,
            context,
            share=settings.share_port,
            grace_s=settings.drain_s,
            look=self._look,
        )
        return (http, self._grpc_port()) if settings.grpc else (http,)

    def _grpc_port(self) -> Port:
        """The same models over gRPC."""
        settings = self._settings
        access = Access(self._tokens, is_private(settings.grpc))
        admission = GrpcAdmission(access, self._rates, self._clock.now, time.monotonic)
        service = InferenceService(
            self._dispatcher,
            self._models,
            admission,
            self._meters.grpc,
            time.monotonic,
            settings.infer_s,
            self._release,
            self._all_ready,
            settings.log_requests,
        )
        server = inference_server(service, settings.grpc_limits, shared_port=settings.share_port)
        health_rpc.add_HealthServicer_to_server(self._health, server)
        credentials = None
        if self._tls is not None:
            credentials = server_credentials(self._tls.identity, require_client=bool(settings.tls.client_ca))
        return GrpcPort(server, settings.grpc, credentials, settings.drain_s, "the settings, or by --grpc")

    def _look(self) -> None:
        """What changes on disk."""
        if self._tokens is not None:
            self._tokens.look()
        if self._tls is not None:
            self._tls.look()

    def _let_go(self) -> None:
        log.info("stopping: requests that are under way are answered")

    def _all_ready(self) -> bool:
        return self._lookout.readiness.phase == "serving" and not self._unready()

    def _unready(self) -> list[str]:
        """Models that do not answer."""
        ready = {state.name for state in self._dispatcher.models() if state.state == "READY"}
        return [model for model in self._models.models if model not in ready]

    async def _probe(self) -> None:
        """Raise the named error for which not all models answer."""
        if unready := self._unready():
            raise NotReady(", ".join(unready))

    async def reasons(self) -> tuple[Reason, ...]:
        """Why the process is not ready; see `Watched`."""
        return await self._lookout.readiness.current()

    async def figures(self) -> bytes:
        """Its meters, as Prometheus reads them; see `Watched`."""
        return await asyncio.to_thread(exposed, self._all_meters(), self._readings())

    def status(self) -> Any:
        """What `aimass serve status` shows."""
        return status_of(self._release, self._began_at, self._dispatcher.models(), self._models, self._models.views())

    def _all_meters(self) -> tuple[Meter, ...]:
        return meters_of(self._meters)

    def _readings(self) -> tuple[Reading, ...]:
        shares, workers = {}, {}
        for state in self._dispatcher.models():
            for loaded in state.versions:
                shares[loaded.model, str(loaded.version)] = loaded.share
                workers[loaded.model, str(loaded.version)] = float(loaded.workers)
        versioned = ("model", "version")
        return (
            Reading.of("aimass_ready", "1 where every model answers.", float(self._all_ready())),
            Reading.of("aimass_http_connections", "Open connections.", float(self._listener.connections)),
            Reading("aimass_serving_share", "Share of a model's requests that a version answers.", shares, versioned),
            Reading("aimass_serving_workers", "Worker processes that live.", workers, versioned),
            *self._models.readings(),
        )


def _unreadable(error: AimassError) -> None:
    log.error("nobody is admitted: %s", error)
