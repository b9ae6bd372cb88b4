"""The data set service put together: trust, stores, caretaker and port, in one place and in order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509

from aimass.privacy.keys import load_keys
from aimass.privacy.pki import Role, peer_of
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.durable import UNINTERRUPTED, only_one
from aimass.proto.errors import NotFound, Refused
from aimass.proto.grpc_env import grpc
from aimass.proto.home import CERTIFICATE, not_enrolled
from aimass.proto.meters import Reading, meters_of
from aimass.proto.objects import ObjectStore, commits, open_objects
from aimass.proto.v1 import datasets_pb2 as pb
from aimass.proto.v1 import datasets_pb2_grpc as rpc
from aimass.proto.watch import Reason
from aimass.proto.wire import SERVER_OPTIONS
from aimass.server.authorisation import DATA_SETS
from aimass.server.datasets.caretaker import Caretaker
from aimass.server.datasets.desk import DataSetDesk
from aimass.server.datasets.layout import report_key
from aimass.server.datasets.leadership import Leader
from aimass.server.datasets.meters import DataSetMeters, readings_of
from aimass.server.datasets.service import Board, DataSetService
from aimass.server.datasets.settings import FILE, DataSettings, load_settings
from aimass.server.gate import Gate
from aimass.server.health import HealthService, health_rpc
from aimass.server.lifetime import GrpcPort, Port, beside, lived
from aimass.server.links import Links
from aimass.server.lookout import Lookout
from aimass.server.people.desk import People
from aimass.server.trust import TrustHolder

__all__ = ["Started", "own_name", "serve"]

log = logging.getLogger("aimass.datasets")
_GRACE_S: Final = 2.0
_SERVICES: Final = frozenset({"", pb.DESCRIPTOR.services_by_name["DataSets"].full_name})
Open = Callable[[str], ObjectStore]


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """Where the service listens. `watch_port` is 0 where nobody watches."""

    port: int
    watch_port: int = 0


async def serve(
    folder: Path,
    stop: asyncio.Event,
    ready: Callable[[Started], None],
    *,
    clock: Clock | None = None,
    open_store: Open = open_objects,
) -> None:
    """Run the service of `folder` until `stop` is set. Raises a named error where it cannot start."""
    settings = load_settings(folder)
    with only_one(folder, "data set service"):
        await _Service(folder, settings, clock or SystemClock(), open_store).run(stop, ready)


class _Service:
    def __init__(self, folder: Path, settings: DataSettings, clock: Clock, open_store: Open) -> None:
        self._keys, self._settings, self._clock = load_keys(folder / "keys"), settings, clock
        self._name = own_name(folder)
        self._trust = TrustHolder(folder / "trust", UNINTERRUPTED, clock.now, self._name)
        self._gate = Gate(self._trust, People(settings.people, folder, clock), DATA_SETS)
        self._trust.listen(lambda _: self._gate.cut())
        self._meters = DataSetMeters()
        self._desk = DataSetDesk(settings.stores, open_store, clock.now)
        self._board = Board(self._desk, clock, settings.look_s)
        leader = Leader(self._desk.home, f"{self._name}-{secrets.token_hex(4)}", settings.care.term_s)
        self._caretaker = Caretaker(self._desk, leader, settings.care, clock, self._meters, self._board.stir)
        self._health = HealthService(self._gate, clock, _SERVICES)
        self._lookout = Lookout(self._health, clock, self._probe, lambda: peer_of(self._trust.links[0]).not_after)

    async def run(self, stop: asyncio.Event, ready: Callable[[Started], None]) -> None:
        """From the first port to the last."""
        await asyncio.to_thread(commits, self._desk.home)
        async with (
            self._lookout.open(self._settings.watch_listen, self, self._meters.vitals) as watch_port,
            beside(self._board.run()),
            beside(self._caretaker.run()),
        ):
            await lived(
                (self._port(),),
                self._lookout,
                stop,
                lambda ports: ready(Started(ports[0], watch_port)),
                self._caretaker.stop,
            )
        await self._caretaker.lay_down()

    def _port(self) -> Port:
        server = grpc.aio.server(options=list(SERVER_OPTIONS))
        rpc.add_DataSetsServicer_to_server(
            DataSetService(self._desk, self._caretaker, self._board, self._trust, self._gate, self._meters), server
        )
        health_rpc.add_HealthServicer_to_server(self._health, server)
        credentials = Links(self._keys, self._trust).credentials(require_client=True)
        return GrpcPort(server, self._settings.listen, credentials, _GRACE_S, FILE)

    async def reasons(self) -> tuple[Reason, ...]:
        """Why the service is not ready."""
        return await self._lookout.readiness.current()

    async def figures(self) -> bytes:
        """Its meters, as Prometheus reads them."""
        from aimass.proto.exposition import exposed  # noqa: PLC0415  (loaded where somebody asks)

        is_ready = not await self._lookout.readiness.current()
        here = (
            Reading.of("aimass_ready", "1 where the service is ready.", float(is_ready)),
            Reading.of(
                "aimass_dataset_leads", "1 where this service looks after the data sets.", self._caretaker.leads
            ),
            Reading.of("aimass_dataset_watchers", "Who watches.", float(self._board.watchers)),
        )
        return await asyncio.to_thread(
            exposed, meters_of(self._meters), (*here, *readings_of(self._caretaker.reports.values()))
        )

    async def _probe(self) -> None:
        """Raise the named error for which the home does not answer."""

        def ask() -> None:
            with contextlib.suppress(NotFound):
                self._desk.home.head(report_key("none"))

        await asyncio.to_thread(ask)


def own_name(folder: Path) -> str:
    """The service's name, by its certificate; raises a named error for one that cannot listen."""
    if not (folder / CERTIFICATE).is_file():
        raise not_enrolled(folder)
    pem = (folder / CERTIFICATE).read_bytes()
    peer = peer_of(pem)
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.IPAddress)]
    if peer.role is not Role.SERVICE or not hosts:
        raise Refused(
            "this certificate may not serve",
            code="dataset.certificate",
            value=f"{peer.role} {peer.name}, {len(hosts)} hosts",
            limit="a service with a host",
            cure="Ask the root holder: aimass pki token NAME --role service --host HOST.",
        )
    return peer.name
