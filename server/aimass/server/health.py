"""The gRPC health protocol on the main port: whether the server serves, for whom the table lets ask.

The library's own servicer knows no gate, begins as serving, and writes to a watcher under the lock that the next change
needs: one that does not read would hold up all. So the messages are the library's, and the service is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, LimitExceeded
from aimass.proto.grpc_env import grpc
from aimass.proto.probes import TIME_KEY
from aimass.proto.transfer import SERVICE as TRANSFERS
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.wire import abort

# isort: split
from grpc_health.v1 import health_pb2 as schema  # after `grpc_env`, which has to be the first to load grpc
from grpc_health.v1 import health_pb2_grpc as health_rpc

__all__ = ["Doors", "HealthService", "Named", "health_rpc"]

log = logging.getLogger("aimass.server")
_WATCHES: Final = 4
SERVICES: Final = frozenset(
    {"", TRANSFERS, *(pb.DESCRIPTOR.services_by_name[name].full_name for name in ("Federation", "Control"))}
)
"""What the aggregation server may be asked about."""


class Named(Protocol):
    """A caller."""

    @property
    def name(self) -> str:
        """Whose watches are counted together."""
        ...


class Doors(Protocol):
    """Who lets callers in; see `Gate`."""

    async def admit(self, context: grpc.aio.ServicerContext, name: str) -> Named:
        """The caller of the call `name`; raises a named error."""
        ...


class HealthService(health_rpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """Not serving until `tell(True)`; after `end` never again, and watches end."""

    def __init__(self, gate: Doors, clock: Clock, services: frozenset[str] = SERVICES) -> None:
        self._gate, self._clock, self._services = gate, clock, services
        self._serving, self._over = False, False
        self._changed = asyncio.Event()
        self._watches: dict[str, int] = {}

    def tell(self, *, serving: bool) -> None:
        """What is so from now on."""
        if serving != self._serving and not self._over:
            self._serving = serving
            self._wake()

    def end(self) -> None:
        """The server stops."""
        self._serving, self._over = False, True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(schema.HealthCheckResponse.SERVICE_UNKNOWN)
        found = schema.HealthCheckResponse.SERVING if self._serving else schema.HealthCheckResponse.NOT_SERVING
        return int(found)

    async def Check(  # noqa: N802  (the schema's name)
        self, request: schema.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> schema.HealthCheckResponse:
        """Now, and what this machine's clock says, so that a caller can compare its own."""
        await self._admit(context, "Check")
        status = self._status(request.service)
        if status == schema.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        await context.send_initial_metadata(((TIME_KEY, str(int(self._clock.now() * 1000))),))
        return schema.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: schema.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[schema.HealthCheckResponse]:
        """Now, and at each change, until the server stops."""
        peer = await self._admit(context, "Watch")
        with self._counted(peer):
            last = None
            while True:
                changed, status = self._changed, self._status(request.service)
                if status != last:
                    last = status
                    yield schema.HealthCheckResponse(status=status)
                if self._over:
                    return
                await changed.wait()

    async def _admit(self, context: grpc.aio.ServicerContext, name: str) -> str:
        try:
            peer = (await self._gate.admit(context, name)).name
            if name == "Watch" and self._watches.get(peer, 0) >= _WATCHES:
                raise LimitExceeded("too many watches at once", code="health.watches", value=peer, limit=_WATCHES)
        except AimassError as error:
            log.info("%s refused: %s", name, error)
            await abort(context, error)
        return peer

    @contextlib.contextmanager
    def _counted(self, peer: str) -> Iterator[None]:
        self._watches[peer] = self._watches.get(peer, 0) + 1
        try:
            yield
        finally:
            self._watches[peer] -= 1
            if not self._watches[peer]:
                del self._watches[peer]
