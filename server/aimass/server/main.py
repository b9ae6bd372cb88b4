"""The server put together: folder, keys, trust, store, engine and ports, in one place and in order."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aimass.privacy.keys import KeyPair, load_keys
from aimass.privacy.trust_bundle import Trust
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.contribution import Limits
from aimass.proto.durable import UNINTERRUPTED, Durability, make_folder, only_one
from aimass.proto.errors import Unavailable
from aimass.proto.grpc_env import grpc
from aimass.proto.offers import difference_handler
from aimass.proto.storage import Blobs, Spool
from aimass.proto.transfer import TransferLimits, TransferMeters, transfer_handler
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.wire import SERVER_OPTIONS
from aimass.server.contributions import Contributions
from aimass.server.control import ControlService
from aimass.server.differences import ModelDifferences
from aimass.server.engine import Engine
from aimass.server.enrolment import EnrolmentDesk, EnrolmentService
from aimass.server.flower.desk import FlowerDesk
from aimass.server.gate import Gate
from aimass.server.health import health_rpc
from aimass.server.links import Links, listen
from aimass.server.lookout import Lookout
from aimass.server.offline.course import JournalCourse
from aimass.server.offline.desk import OfflineDesk
from aimass.server.offline.launch import Launcher
from aimass.server.offline.supervisor import Supervisor
from aimass.server.partner_desk import PartnerDesk
from aimass.server.programs import Together
from aimass.server.readings import Readings
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
        await _serve(folder, settings, stop, ready, clock or SystemClock(), durability)


async def _serve(
    folder: Path,
    settings: ServerSettings,
    stop: asyncio.Event,
    ready: Callable[[Started], None],
    clock: Clock,
    durability: Durability,
) -> None:
    keys = load_keys(folder / "keys")
    trust = TrustHolder(folder, durability, clock.now)
    data = make_folder(folder / "data")
    blobs, spool = await asyncio.to_thread(_opened, data, settings, keys, durability)
    store = await asyncio.to_thread(Store.open, data / "runs.sqlite", durability)
    sessions = Sessions()
    engine = Engine(store, blobs, spool, keys.identity, sessions, clock)
    room = functools.partial(_room, data, settings)
    submission = Submission(engine, store, blobs, lambda: trust.roster, room)
    housekeeping = Housekeeping(engine, store, blobs, settings.keep.models, functools.partial(deleting, data))
    differences = ModelDifferences(data / "differences", blobs, durability, room)
    readings = Readings(engine, store, blobs, sessions, lambda: housekeeping.deletions)
    engine.secret = secure = SecureDesk(engine, store, blobs, spool, lambda: trust.roster, keys.identity)
    gate, reports = Gate(trust), Reports(engine, store, blobs, lambda: trust.roster, room)
    _hook(
        engine,
        submission,
        housekeeping,
        FlowerDesk(engine, blobs, sessions, folder, data, settings.limits),
        differences,
        _drivers(engine, reports, blobs, data, settings, clock),
    )
    partners = PartnerDesk(engine, store, lambda: trust.roster, sessions, secure)
    contributions = Contributions(engine, blobs, spool, _contribution_limits(settings), secure)
    _on_new_trust(trust, gate, sessions, partners)
    desk = EnrolmentDesk(store, trust, clock, settings.enrolment)
    status = ServerStatus(readings, sessions, trust, desk, clock, settings.name, data)
    lookout = Lookout(engine, store, sessions, trust, desk, gate, settings, data)
    try:
        watch_port = await lookout.open()
        resumed = await engine.start()
        await partners.outside(frozenset(trust.roster.partners), _REMOVED)
        main = grpc.aio.server(options=list(SERVER_OPTIONS))
        rpc.add_FederationServicer_to_server(
            FederationService(partners, sessions, trust, gate, clock, keys.identity, settings.name), main
        )
        rpc.add_ControlServicer_to_server(
            ControlService(
                engine,
                submission,
                readings,
                housekeeping,
                trust,
                desk,
                gate,
                status,
                reports,
                _offline(reports, settings, data, clock),
            ),
            main,
        )
        transfers = Transfers(
            contributions, readings, blobs, spool, gate, settings.limits.max_model_bytes, room, differences
        )
        main.add_generic_rpc_handlers(_bulk(transfers, settings, clock, engine.meters.transfers))
        health_rpc.add_HealthServicer_to_server(lookout.health, main)
        enrol = grpc.aio.server(options=list(SERVER_OPTIONS))
        rpc.add_EnrolmentServicer_to_server(EnrolmentService(desk, clock, settings.enrolment), enrol)
        links = Links(keys, trust)
        started = Started(
            listen(main, settings.listen, links.credentials(require_client=True)),
            listen(enrol, settings.enrol_listen, links.credentials(require_client=False)),
            resumed,
            watch_port,
        )
        await main.start()
        await enrol.start()
        await lookout.serving()
        ready(started)
        await stop.wait()
        lookout.stopping()
        log.info("stopping: runs go on at the next start")
        sessions.end_all(Unavailable("the server is stopping", code="server.stopping"))
        await asyncio.gather(main.stop(_GRACE_S), enrol.stop(0))
    finally:
        await lookout.close()
        await engine.stop()
        store.close()
        await asyncio.to_thread(spool.close)


def _opened(data: Path, settings: ServerSettings, keys: KeyPair, durability: Durability) -> tuple[Blobs, Spool]:
    claim_stores(settings, keys.identity.public_key().public_bytes_raw().hex())
    blobs, spool = open_storage(data, settings, durability)
    blobs.sweep()
    return blobs, spool


def _room(data: Path, settings: ServerSettings) -> None:
    room_for_work(shutil.disk_usage(data).free, settings.limits.min_free_bytes)


def _hook(
    engine: Engine,
    submission: Submission,
    housekeeping: Housekeeping,
    apps: FlowerDesk,
    differences: ModelDifferences,
    drivers: Supervisor,
) -> None:
    """Who is called by whom and made after it."""
    housekeeping.differences = differences.keep
    engine.after_commit, engine.programs = housekeeping.after_commit, Together(apps, drivers)
    housekeeping.kept_back, submission.probe = apps.kept, apps.probe


def _drivers(
    engine: Engine, reports: Reports, blobs: Blobs, data: Path, settings: ServerSettings, clock: Clock
) -> Supervisor:
    """Who sees to the drivers of offline runs."""
    launches, at_once = Launcher(settings.offline, blobs), settings.offline.at_once
    return Supervisor(engine, reports, blobs, data / "drivers", launches, JournalCourse, clock, at_once)


def _offline(reports: Reports, settings: ServerSettings, data: Path, clock: Clock) -> OfflineDesk:
    """Who takes offline runs; without a store for their state it is kept beside everything else."""
    out = settings.offline.out or (data / "offline").absolute().as_uri()
    return OfflineDesk(reports, settings.offline, out, clock)


def _bulk(
    transfers: Transfers, settings: ServerSettings, clock: Clock, meters: TransferMeters
) -> tuple[grpc.GenericRpcHandler, ...]:
    """What serves raw bytes, and says of which there is a difference."""
    bulk = transfer_handler(transfers, transfers, _transfer_limits(settings), clock, meters)
    return bulk, difference_handler(transfers)


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
