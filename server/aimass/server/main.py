"""The server put together: folder, keys, trust, store, engine and ports, in one place and in order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from aimass.privacy.keys import KeyPair, load_keys
from aimass.privacy.pki import peer_of
from aimass.privacy.roster import Roster
from aimass.privacy.trust_bundle import Trust
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.contribution import Limits
from aimass.proto.durable import UNINTERRUPTED, Durability, make_folder, only_one
from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.offers import difference_handler
from aimass.proto.storage import Blobs, Spool
from aimass.proto.transfer import TransferLimits, transfer_handler
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import SERVER_OPTIONS
from aimass.server.contributions import Contributions
from aimass.server.control import ControlService
from aimass.server.differences import ModelDifferences
from aimass.server.engine import Engine
from aimass.server.enrolment import EnrolmentDesk, EnrolmentService
from aimass.server.figures import ServerFigures
from aimass.server.flower.desk import FlowerDesk
from aimass.server.gate import Gate
from aimass.server.health import HealthService, health_rpc
from aimass.server.lifetime import GrpcPort, Port, lived
from aimass.server.links import Links
from aimass.server.live import Programs
from aimass.server.lookout import Lookout
from aimass.server.offline.course import JournalCourse
from aimass.server.offline.desk import OfflineDesk
from aimass.server.offline.launch import Launcher
from aimass.server.offline.supervisor import Supervisor
from aimass.server.partner_desk import PartnerDesk
from aimass.server.people.desk import People
from aimass.server.programs import Together
from aimass.server.readings import Readings
from aimass.server.registry.attached import promoter_of
from aimass.server.registry.promoter import Promoter
from aimass.server.reports import Reports
from aimass.server.retention import Housekeeping, room_for_work
from aimass.server.secure_desk import SecureDesk
from aimass.server.service import FederationService, trust_update
from aimass.server.sessions import Sessions
from aimass.server.settings import ServerSettings, load_settings
from aimass.server.standstill import deleting
from aimass.server.status import ServerStatus
from aimass.server.storage import claim_stores, open_storage
from aimass.server.store import Store
from aimass.server.studies import StudyDesk
from aimass.server.submission import Submission
from aimass.server.transfers import Transfers
from aimass.server.trust import TrustHolder

__all__ = ["Started", "serve"]

log = logging.getLogger("aimass.server")
_GRACE_S: Final = 2.0
_REMOVED: Final = "trust.revoked: removed from the roster"


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """Where the server listens, and the runs that it goes on with. `watch_port` is 0 where nobody watches."""

    port: int
    enrol_port: int
    resumed: tuple[str, ...]
    watch_port: int = 0


async def serve(
    folder: Path,
    stop: asyncio.Event,
    ready: Callable[[Started], None],
    *,
    clock: Clock | None = None,
    durability: Durability = UNINTERRUPTED,
) -> None:
    """Run the server of `folder` until `stop` is set. Raises a named error where it cannot start."""
    settings = load_settings(folder)
    with only_one(folder, "server"):
        async with _opened(folder, settings, clock or SystemClock(), durability) as kept:
            await _Server(kept).run(stop, ready)


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    """What a server stands on: its folder, its settings, its keys, whom it trusts, and what it has stored."""

    folder: Path
    settings: ServerSettings
    keys: KeyPair
    trust: TrustHolder
    data: Path
    blobs: Blobs
    spool: Spool
    store: Store
    clock: Clock
    durability: Durability

    def roster(self) -> Roster:
        """Who takes part now."""
        return self.trust.roster

    def room(self) -> None:
        """Raise `OutOfSpace` where new work would only fill the disk."""
        room_for_work(self.free_bytes(), self.settings.limits.min_free_bytes)

    def free_bytes(self) -> int:
        """On the disk of the data."""
        return shutil.disk_usage(self.data).free


@contextlib.asynccontextmanager
async def _opened(folder: Path, settings: ServerSettings, clock: Clock, durability: Durability) -> AsyncIterator[_Kept]:
    keys = load_keys(folder / "keys")
    trust = TrustHolder(folder, durability, clock.now)
    data = make_folder(folder / "data")
    blobs, spool = await asyncio.to_thread(_storage, data, settings, keys, durability)
    store = await asyncio.to_thread(Store.open, data / "runs.sqlite", durability)
    try:
        yield _Kept(folder, settings, keys, trust, data, blobs, spool, store, clock, durability)
    finally:
        store.close()
        await asyncio.to_thread(spool.close)


def _storage(data: Path, settings: ServerSettings, keys: KeyPair, durability: Durability) -> tuple[Blobs, Spool]:
    claim_stores(settings, keys.identity.public_key().public_bytes_raw().hex())
    blobs, spool = open_storage(data, settings, durability)
    blobs.sweep()
    return blobs, spool


class _Server:
    """Who does what, made in the order in which they need one another."""

    def __init__(self, kept: _Kept) -> None:
        self._kept, self._sessions = kept, Sessions()
        self._gate = Gate(kept.trust, People(kept.settings.people, kept.folder, kept.clock))
        store, blobs, spool, settings, identity = kept.store, kept.blobs, kept.spool, kept.settings, kept.keys.identity
        self._engine = engine = Engine(store, blobs, spool, identity, self._sessions, kept.clock)
        self._secure = SecureDesk(engine, store, blobs, spool, kept.roster, identity)
        self._submission = Submission(engine, store, blobs, kept.roster, kept.room)
        self._housekeeping = Housekeeping(
            engine, store, blobs, settings.keep.models, functools.partial(deleting, kept.data)
        )
        self._differences = ModelDifferences(kept.data / "differences", blobs, kept.durability, kept.room)
        self._readings = Readings(engine, store, blobs, self._sessions, lambda: self._housekeeping.deletions)
        self._reports = Reports(engine, store, blobs, kept.roster, kept.room)
        studies = self._submission.studies = StudyDesk(engine, store, self._sessions)
        self._partners = PartnerDesk(engine, store, kept.roster, self._sessions, self._secure, studies)
        self._enrolment = EnrolmentDesk(store, kept.trust, kept.clock, settings.enrolment)
        self._health = HealthService(self._gate, kept.clock)
        self._lookout = Lookout(
            self._health,
            kept.clock,
            lambda: engine.on_disk(store.probe),
            lambda: peer_of(kept.trust.links[0]).not_after,
            kept.free_bytes,
            settings.limits.min_free_bytes,
        )
        self._promoter = self._promoting() if settings.registry.url else None
        self._submission.promotes = self._reports.promotes = self._promoter is not None
        self._hook()
        _on_new_trust(kept.trust, self._gate, self._sessions, self._partners)

    def _hook(self) -> None:
        """Who is called by whom and made after it."""
        kept, engine, housekeeping = self._kept, self._engine, self._housekeeping
        apps = FlowerDesk(engine, kept.blobs, self._sessions, kept.folder, kept.data, kept.settings.limits)
        engine.secret, housekeeping.differences = self._secure, self._differences.keep
        programs: list[Programs] = [apps, self._drivers()]
        if self._promoter is not None:
            programs.append(self._promoter)
        engine.after_commit, engine.programs = housekeeping.after_commit, Together(*programs)
        housekeeping.kept_back, self._submission.probe = apps.kept, apps.probe

    async def run(self, stop: asyncio.Event, ready: Callable[[Started], None]) -> None:
        """From the first port to the last."""
        kept, engine = self._kept, self._engine
        figures = ServerFigures(engine, self._sessions, kept.trust, self._enrolment, self._lookout.readiness, kept.data)
        try:
            async with self._lookout.open(kept.settings.watch_listen, figures, engine.meters.vitals) as watch_port:
                resumed = await engine.start()
                if self._promoter is not None:
                    self._promoter.start()
                await self._partners.outside(frozenset(kept.trust.roster.partners), _REMOVED)
                await lived(
                    self._ports(),
                    self._lookout,
                    stop,
                    lambda ports: ready(Started(ports[0], ports[1], resumed, watch_port)),
                    self._let_go,
                )
        finally:
            await engine.stop()

    def _let_go(self) -> None:
        log.info("stopping: runs go on at the next start")
        self._sessions.end_all(Unavailable("the server is stopping", code="server.stopping"))

    def _ports(self) -> tuple[Port, Port]:
        """Where members are served, and where those knock who are none yet."""
        kept, settings = self._kept, self._kept.settings
        links = Links(kept.keys, kept.trust)
        main = grpc.aio.server(options=list(SERVER_OPTIONS))
        rpc.add_FederationServicer_to_server(self._federation(), main)
        rpc.add_ControlServicer_to_server(self._control(), main)
        main.add_generic_rpc_handlers(self._bulk())
        health_rpc.add_HealthServicer_to_server(self._health, main)
        enrol = grpc.aio.server(options=list(SERVER_OPTIONS))
        rpc.add_EnrolmentServicer_to_server(EnrolmentService(self._enrolment, kept.clock, settings.enrolment), enrol)
        return (
            GrpcPort(main, settings.listen, links.credentials(require_client=True), _GRACE_S),
            GrpcPort(enrol, settings.enrol_listen, links.credentials(require_client=False), 0),
        )

    def _federation(self) -> FederationService:
        kept = self._kept
        return FederationService(
            self._partners,
            self._sessions,
            kept.trust,
            self._gate,
            kept.clock,
            kept.keys.identity,
            kept.settings.name,
        )

    def _control(self) -> ControlService:
        kept, desk = self._kept, self._enrolment
        return ControlService(
            self._engine,
            self._submission,
            self._readings,
            self._housekeeping,
            kept.trust,
            desk,
            self._gate,
            ServerStatus(self._readings, self._sessions, kept.trust, desk, kept.clock, kept.settings.name, kept.data),
            self._reports,
            self._offline(),
        )

    def _bulk(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What serves raw bytes, and says of which there is a difference."""
        kept, limits = self._kept, self._kept.settings.limits
        contributions = Contributions(
            self._engine, kept.blobs, kept.spool, _contribution_limits(kept.settings), self._secure
        )
        transfers = Transfers(
            contributions,
            self._readings,
            kept.blobs,
            kept.spool,
            self._gate,
            limits.max_model_bytes,
            kept.room,
            self._differences,
        )
        meters = self._engine.meters.transfers
        bulk = transfer_handler(transfers, transfers, _transfer_limits(kept.settings), kept.clock, meters)
        return bulk, difference_handler(transfers)

    def _drivers(self) -> Supervisor:
        """Who sees to the drivers of offline runs."""
        kept, offline = self._kept, self._kept.settings.offline
        return Supervisor(
            self._engine,
            self._reports,
            kept.blobs,
            kept.data / "drivers",
            Launcher(offline, kept.blobs),
            JournalCourse,
            kept.clock,
            offline.at_once,
        )

    def _offline(self) -> OfflineDesk:
        """Who takes offline runs; without a store for their state it is kept beside everything else."""
        kept, offline = self._kept, self._kept.settings.offline
        out = offline.out or (kept.data / "offline").absolute().as_uri()
        return OfflineDesk(self._reports, offline, out, kept.clock)

    def _promoting(self) -> Promoter:
        """Who publishes what finished runs have made."""
        kept = self._kept
        return promoter_of(
            kept.settings,
            kept.folder,
            kept.data,
            kept.keys.identity,
            self._engine,
            self._readings,
            kept.blobs,
            kept.clock,
        )


def _contribution_limits(settings: ServerSettings) -> Limits:
    return Limits(weight=settings.limits.max_weight, norm=settings.limits.max_norm)


def _transfer_limits(settings: ServerSettings) -> TransferLimits:
    limits = settings.limits
    return TransferLimits(
        limits.max_model_bytes,
        limits.streams_per_peer,
        limits.idle_s,
        limits.up_bytes_per_s,
        limits.down_bytes_per_s,
    )


def _on_new_trust(trust: TrustHolder, gate: Gate, sessions: Sessions, partners: PartnerDesk) -> None:
    """A newer bundle cuts the streams of who was removed, and is sent to everybody else."""
    tasks: set[asyncio.Task[None]] = set()

    def installed(new: Trust) -> None:
        current = frozenset(new.roster.partners)
        gate.cut()
        for partner in sessions.connected() & current:
            session = sessions.get(partner)
            if session is not None:
                sessions.send(partner, functools.partial(trust_update, trust, session.peer))
        task = asyncio.get_running_loop().create_task(partners.outside(current, _REMOVED))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        log.info("roster epoch %d installed: %d partners", new.roster.epoch, len(current))

    trust.listen(installed)
