"""What others see of the server while it lives: health over gRPC, readiness and figures over HTTP, put together."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from aimass.privacy.pki import peer_of
from aimass.proto.watch import watching
from aimass.server.engine import Engine
from aimass.server.enrolment import EnrolmentDesk
from aimass.server.figures import ServerFigures
from aimass.server.gate import Gate
from aimass.server.health import HealthService
from aimass.server.readiness import Phase, Readiness
from aimass.server.sessions import Sessions
from aimass.server.settings import ServerSettings
from aimass.server.store import Store
from aimass.server.trust import TrustHolder

__all__ = ["Lookout"]


class Lookout:
    """Starting until `serving`, and never again after `stopping`."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        sessions: Sessions,
        trust: TrustHolder,
        desk: EnrolmentDesk,
        gate: Gate,
        settings: ServerSettings,
        data: Path,
    ) -> None:
        self.health = HealthService(gate, engine.clock)
        self._readiness = Readiness(
            lambda: shutil.disk_usage(data).free,
            settings.limits.min_free_bytes,
            lambda: engine.on_disk(store.probe),
            lambda: peer_of(trust.links[0]).not_after,
            engine.clock,
            lambda ready: self.health.tell(serving=ready),
        )
        self._figures = ServerFigures(engine, sessions, trust, desk, self._readiness, data)
        self._opened = contextlib.AsyncExitStack()
        self._address, self._vitals = settings.watch_listen, engine.meters.vitals

    async def open(self) -> int:
        """Look, and be seen where the settings say, until `close`; the port, 0 where nobody watches."""
        watch = await self._opened.enter_async_context(watching(self._address, self._figures, self._vitals))
        await self._opened.enter_async_context(self._readiness.kept())
        return watch.port if watch is not None else 0

    async def close(self) -> None:
        """Look no more."""
        await self._opened.aclose()

    async def serving(self) -> None:
        """The server serves from now on."""
        self._readiness.phase = Phase.SERVING
        await self._readiness.current()

    def stopping(self) -> None:
        """The server takes nothing new; who watches is told."""
        self._readiness.phase = Phase.STOPPING
        self.health.end()
