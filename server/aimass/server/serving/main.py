"""A serving process put together: registry, dispatcher, watchers and fronts, in one place and in order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.metadata
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from aimass.privacy.model_trust import FileTrust
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.errors import AimassError
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.registry.layout import read_reference
from aimass.proto.wire import server_credentials
from aimass.server.health import health_rpc
from aimass.server.lifetime import GrpcPort, Port, beside, lived
from aimass.server.serving.access import Access
from aimass.server.serving.dispatch.seam import Dispatching
from aimass.server.serving.grpc.admission import GrpcAdmission
from aimass.server.serving.grpc.ports import inference_server
from aimass.server.serving.grpc.service import InferenceService
from aimass.server.serving.http.front import Front
from aimass.server.serving.http.listening import HttpPort, Listener
from aimass.server.serving.http.people import PeopleEndpoints
from aimass.server.serving.http.service_endpoints import ServiceEndpoints
from aimass.server.serving.http.v2_endpoints import V2Endpoints
from aimass.server.serving.overview import Meters, Overview
from aimass.server.serving.people import ServedPeople
from aimass.server.serving.ranges import RangeCheck
from aimass.server.serving.rates import Rates
from aimass.server.serving.request_log import RequestLog
from aimass.server.serving.settings import ServeSettings, is_private
from aimass.server.serving.tls import TlsFiles
from aimass.server.serving.tokens import TokenBook
from aimass.server.serving.watching.audit_log import AuditLog
from aimass.server.serving.watching.retraining import PlanRetrainer
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


class _Serving:
    def __init__(self, settings: ServeSettings, dispatcher: Dispatching, clock: Clock, open_store: Open) -> None:
        self._settings, self._dispatcher, self._clock = settings, dispatcher, clock
        self._release = importlib.metadata.version("aimass")
        self._tls = TlsFiles(settings.tls) if settings.tls.certificate else None
        self._tokens = TokenBook(Path(settings.tokens), _unreadable) if settings.tokens else None
        self._request_log = RequestLog(settings.log_requests)
        self._rates = Rates(settings.http_limits.requests_per_s)
        self._meters, audit = Meters(), AuditLog(Path(settings.cache))
        self._models = Watchers(
            [read_reference(model) for model in settings.models],
            open_store(settings.registry),
            FileTrust(Path(settings.trust)),
            Path(settings.cache),
            self._surroundings(audit),
        )
        self._check = RangeCheck(self._models, settings.input.range)
        self._overview = Overview(self._release, dispatcher, self._models, audit, self._meters, clock)
        self._listener = self._http()
        self._overview.connections = lambda: self._listener.connections

    async def run(self, stop: asyncio.Event, ready: Callable[[Started], None]) -> None:
        """From the first model to the last answer."""
        overview, leave = self._overview, asyncio.Event()
        async with (
            beside(self._leaving(stop, leave)),
            overview.lookout.open(self._settings.watch_listen, overview, self._meters.vitals) as watch_port,
            _unless(stop, self._models.watching()) as watched,
        ):
            if not watched:
                return

            def listening(ports: Sequence[int]) -> None:
                ready(Started(self._url(ports[0]), ports[0], ports[1] if len(ports) > 1 else 0, watch_port))

            await lived(self._ports(), overview.lookout, leave, listening, _let_go)

    async def _leaving(self, stop: asyncio.Event, leave: asyncio.Event) -> None:
        """At `stop` be unready for a while, in which everything is still answered; then `leave`."""
        await stop.wait()
        if self._settings.leave_s:
            self._overview.lookout.stopping()
            await self._clock.sleep(self._settings.leave_s)
        leave.set()

    def _surroundings(self, audit: AuditLog) -> Surroundings:
        settings = self._settings
        return Surroundings(
            dispatcher=self._dispatcher,
            audit=audit,
            meters=self._meters.watch,
            settings=settings.watch,
            retrainer=PlanRetrainer(settings.watch.retrain) if settings.watch.retrain.plan else None,
            clock=self._clock,
            monotonic=time.monotonic,
            rng=random.SystemRandom(),
            disk=ThreadPoolExecutor(1, "aimass-audit"),
            attempt_s=settings.dispatch.attempt_s,
            device=settings.device,
        )

    def _url(self, port: int) -> str:
        host, _, _ = self._settings.http.rpartition(":")
        return f"{'http' if self._tls is None else 'https'}://{host}:{port}"

    def _http(self) -> Listener:
        """What answers HTTP."""
        settings, dispatcher, overview = self._settings, self._dispatcher, self._overview
        common = time.monotonic, settings.infer_s, self._release
        v2 = V2Endpoints(
            dispatcher, self._models, *common, overview.all_ready, settings.http_limits.json_bytes, self._check
        )
        people = PeopleEndpoints(
            dispatcher, self._models, settings.input, *common, json_bytes=settings.http_limits.json_bytes
        )
        service = ServiceEndpoints(overview.reasons, overview.figures, overview.status)
        front = Front(
            [*v2.routes(), *people.routes(), *service.routes()],
            Access(self._tokens, is_private(settings.http), settings.open),
            self._rates,
            self._clock.now,
            self._meters.http,
            self._request_log,
            time.monotonic,
            ServedPeople(settings.people, settings.people_may, self._clock) if settings.people.issuer else None,
        )
        run, refused = secrets.token_hex(4), self._meters.http.refused
        return Listener(front.handle, settings.http_limits, time.monotonic, run, refused)

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
            clock=self._clock,
        )
        return (http, self._grpc()) if settings.grpc else (http,)

    def _grpc(self) -> Port:
        """The same models over gRPC."""
        settings = self._settings
        access = Access(self._tokens, is_private(settings.grpc), settings.open)
        service = InferenceService(
            self._dispatcher,
            self._models,
            GrpcAdmission(access, self._rates, self._clock.now, time.monotonic),
            self._meters.grpc,
            time.monotonic,
            settings.infer_s,
            self._release,
            self._overview.all_ready,
            self._request_log,
            self._check,
        )
        server = inference_server(service, settings.grpc_limits, shared_port=settings.share_port)
        health_rpc.add_HealthServicer_to_server(self._overview.health, server)
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


@contextlib.asynccontextmanager
async def _unless(stop: asyncio.Event, entered: AbstractAsyncContextManager[None]) -> AsyncIterator[bool]:
    """`entered`, which may take long; False where a stop came meanwhile, which ends the wait."""
    entering, stopping = asyncio.ensure_future(entered.__aenter__()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({entering, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not entering.done():
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
    if entering.cancelled():
        yield False
        return
    entering.result()
    try:
        yield True
    finally:
        await entered.__aexit__(None, None, None)


def _let_go() -> None:
    log.info("stopping: requests that are under way are answered")


def _unreadable(error: AimassError) -> None:
    log.error("nobody is admitted: %s", error)
