"""The HTTP port: it takes connections, bounds what they hold together, looks at their time, and drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

from aimass.proto.errors import Unavailable
from aimass.proto.wire import split_address
from aimass.server.serving.http.connection import Cancel, Connection, Handler, Reply
from aimass.server.serving.http.messages import Request, json_response
from aimass.server.serving.http.reading import Room
from aimass.server.serving.http.settings import HttpLimits

__all__ = ["Listener", "bound", "listening"]

log = logging.getLogger("aimass.serving")
_LOOK_S: Final = 1.0
_BACKLOG: Final = 1_024
_HANDSHAKE_S: Final = 10.0


class Listener:
    """What all connections of one port share."""

    def __init__(self, handler: Handler, limits: HttpLimits, now: Callable[[], float], run_name: str) -> None:
        """`run_name` begins the names of requests that bring none: two processes must not share one."""
        self.limits, self.room, self.draining = limits, Room(limits.pending_bytes), False
        self._handler, self._now = handler, now
        self._names: Iterator[str] = (f"{run_name}-{number}" for number in itertools.count(1))
        self._open: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._now()

    def request_id(self) -> str:
        """A name for a request that brings none."""
        return next(self._names)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def opened(self, connection: Connection) -> bool:
        """Count one more; False where there are too many."""
        self._open.add(connection)
        self._empty.clear()
        return len(self._open) <= self.limits.connections

    def closed(self, connection: Connection) -> None:
        """Count one less."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    def handle(self, request: Request, reply: Reply) -> Cancel | None:
        """The handler's answer, whatever becomes of it."""
        try:
            return self._handler(request, reply)
        except Exception:  # a fault of ours, told where it can be mended
            log.exception("request %s: %s %s failed", request.id, request.method, request.path)
            reply(json_response(500, {"error": "the server failed; its log says where"}))
            return None

    def connection(self) -> Connection:
        """A protocol for the next connection."""
        return Connection(self)

    def look(self) -> None:
        """End each connection that takes longer than it may."""
        now = self._now()
        for connection in list(self._open):
            connection.look(now)

    async def drain(self, grace_s: float) -> None:
        """Answer what is open and take nothing new; who is not through after `grace_s` is cut off."""
        self.draining = True
        for connection in list(self._open):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace_s)
        for connection in list(self._open):
            connection.abort()


@contextlib.asynccontextmanager
async def listening(
    address: str, listener: Listener, context: ssl.SSLContext | None, *, share: bool = False, grace_s: float = 10.0
) -> AsyncIterator[int]:
    """Listen at HOST:PORT until the block ends, and then drain; gives the port's number.

    Several processes may listen on one port where all of them `share` it. Raises `Unavailable` where nobody can listen.
    """
    handshake_s = None if context is None else _HANDSHAKE_S
    with bound(address, share=share) as held:
        server = await asyncio.get_running_loop().create_server(
            listener.connection, sock=held, ssl=context, backlog=_BACKLOG, ssl_handshake_timeout=handshake_s
        )
        looking = asyncio.create_task(_looking(listener))
        try:
            yield int(held.getsockname()[1])
        finally:
            server.close()
            await listener.drain(grace_s)
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)


@contextlib.contextmanager
def bound(address: str, *, share: bool = False) -> Iterator[socket.socket]:
    """A socket that is bound to HOST:PORT; raises `Unavailable` with the operating system's reason."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        held = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _no_port(address, error) from error
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(where)
            held.setblocking(False)
        except OSError as error:
            raise _no_port(address, error) from error
        yield held


def _no_port(address: str, error: OSError) -> Unavailable:
    return Unavailable(
        f"cannot listen: {error.strerror or type(error).__name__}",
        code="serve.port",
        value=address,
        cure="Choose an address of this machine and a free port; several processes share one with --share-port.",
    )


async def _looking(listener: Listener) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        listener.look()
