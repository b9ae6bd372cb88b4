"""A service from its first port to its last, told once for all services.

All ports listen before the first takes anything, so one that is taken already ends the start. Then the service is
ready, and `ready` hears where it listens. At `stop` it is unready first, so that nothing new is sent here; what it
holds open is let go of; and what is under way has each port's grace.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

from aimass.proto.grpc_env import grpc
from aimass.server.links import listen
from aimass.server.lookout import Lookout

__all__ = ["GrpcPort", "Port", "beside", "lived"]


class Port(Protocol):
    """Where a service is called."""

    def listen(self) -> int:
        """Take the address and no calls yet; the port's number. Raises `Unavailable` where that cannot be."""
        ...

    async def start(self) -> None:
        """Take calls."""
        ...

    async def stop(self) -> None:
        """Take no new calls, and end those that are under way within its grace."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class GrpcPort:
    """A gRPC server, at HOST:PORT of a `settings` file, without TLS where there are no `credentials`."""

    server: grpc.aio.Server
    address: str
    credentials: grpc.ServerCredentials | None
    grace_s: float
    settings: str = "server.toml"

    def listen(self) -> int:
        """See `Port`."""
        return listen(self.server, self.address, self.credentials, self.settings)

    async def start(self) -> None:
        """See `Port`."""
        await self.server.start()

    async def stop(self) -> None:
        """See `Port`."""
        await self.server.stop(self.grace_s)


async def lived(
    ports: Sequence[Port],
    lookout: Lookout,
    stop: asyncio.Event,
    ready: Callable[[tuple[int, ...]], None],
    let_go: Callable[[], None],
) -> None:
    """Serve at `ports` until `stop` is set; `let_go` ends what the service holds open, and must not block.

    Raises `Unavailable` where a port cannot listen.
    """
    try:
        numbers = tuple(port.listen() for port in ports)
        for port in ports:
            await port.start()
        await lookout.serving()
        ready(numbers)
        await stop.wait()
    finally:
        lookout.stopping()
        let_go()
        await asyncio.gather(*(port.stop() for port in ports))


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` beside the block, ended with it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
