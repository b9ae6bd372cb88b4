"""The HTTP port: it takes connections, bounds what they hold together, looks at their time, and drains at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Final

from aimass.proto.clock import Clock, SystemClock
from aimass.proto.errors import Unavailable
from aimass.proto.logs import subject
from aimass.proto.wire import split_address
from aimass.server.serving.http.connection import Cancel, Connection, Handler, Reply, Verdict
from aimass.server.serving.http.messages import Request, json_response
from aimass.server.serving.http.reading import Room
from aimass.server.serving.http.settings import HttpLimits
from aimass.server.serving.neighbours import neighbourhood

__all__ = ["HttpPort", "Listener", "bound"]

log = logging.getLogger("aimass.serving")
_LOOK_S: Final = 1.0
_LAST_S: Final = 1.0
_BACKLOG: Final = 1_024
_HANDSHAKE_S: Final = 10.0


class Listener:
    """What all connections of one port share."""

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        now: Callable[[], float],
        run_name: str,
        refused: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`run_name` begins the names of requests that bring none: two processes must not share one.

        `refused` hears the status of each request that never became one.
        """
        self.limits, self.room, self.draining = limits, Room(limits.pending_bytes), False
        self.date = formatdate(usegmt=True)
        self._refused = refused
        self._handler, self._now = handler, now
        self._names: Iterator[str] = (f"{run_name}-{number}" for number in itertools.count(1))
        self._open: set[Connection] = set()
        self._by_address = Counter[str]()
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

    def opened(self, connection: Connection, address: str) -> Verdict:
        """Count one more of an address, and say what becomes of it."""
        self._open.add(connection)
        address = neighbourhood(address)
        self._by_address[address] += 1
        self._empty.clear()
        return _verdict(len(self._open), self._by_address[address], self.limits)

    def closed(self, connection: Connection, address: str) -> None:
        """Count one less."""
        self._open.discard(connection)
        address = neighbourhood(address)
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
        if not self._open:
            self._empty.set()

    def refused(self, status: int) -> None:
        """Count a request that never became one."""
        self._refused(status)

    def handle(self, request: Request, reply: Reply) -> Cancel | None:
        """The handler's answer, whatever becomes of it."""
        try:
            return self._handler(request, reply)
        except Exception:  # a fault of ours, told where it can be mended
            log.exception("%s %s failed", request.method, request.path, extra=subject(request=request.id))
            reply(json_response(500, {"error": "the server failed; its log says where"}))
            return None

    def connection(self) -> Connection:
        """A protocol for the next connection."""
        return Connection(self)

    def look(self) -> None:
        """End each connection that takes longer than it may, and look at the clock."""
        now, self.date = self._now(), formatdate(usegmt=True)
        for connection in list(self._open):
            connection.look(now)

    async def drain(self, grace_s: float, last_s: float = _LAST_S) -> None:
        """Answer what is open; who is not through after `grace_s` is cut off.

        A connection may bring one more request within `last_s`, which is answered with `Connection: close`: it may be
        on its way already, and to close under it would lose it.
        """
        self.draining = True
        last_s = min(last_s, grace_s)
        await self._emptied(last_s)
        for connection in list(self._open):
            connection.drain()
        await self._emptied(grace_s - last_s)
        for connection in list(self._open):
            connection.abort()

    async def _emptied(self, most_s: float) -> None:
        """Wait until no connection is open, for `most_s` at most."""
        if most_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), most_s)


def _verdict(there_are: int, of_one: int, limits: HttpLimits) -> Verdict:
    """Who is refused lingers: a flood would do so without bound, and one address would count against the rest."""
    if there_are > 2 * limits.connections:
        return "cut off"
    if of_one > limits.connections_of_one:
        return "turned away"
    return "refused" if there_are > limits.connections else "taken"


class HttpPort:
    """A listener at HOST:PORT; see `aimass.server.lifetime.Port`. `look` is called each second beside the listener's.

    Several processes may listen on one port where all of them `share` it.
    """

    def __init__(
        self,
        address: str,
        listener: Listener,
        context: ssl.SSLContext | None,
        *,
        share: bool = False,
        grace_s: float = 10.0,
        look: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._address, self._listener, self._context = address, listener, context
        self._share, self._grace_s, self._look = share, grace_s, look
        self._clock = clock or SystemClock()
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    def listen(self) -> int:
        """Take the address; raises `Unavailable` with the operating system's reason."""
        self._socket = bound(self._address, share=self._share)
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Take connections."""
        if self._socket is None:
            self.listen()
        assert self._socket is not None  # noqa: S101  (it listens)
        self._server = await asyncio.get_running_loop().create_server(
            self._listener.connection,
            sock=self._socket,
            ssl=self._context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=None if self._context is None else _HANDSHAKE_S,
        )
        self._looking = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        """Take no more, and drain."""
        if self._server is not None and self._socket is not None:
            # A connection that asyncio has taken, and not yet made when the server closes, would never be closed.
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            for _ in range(2):
                await asyncio.sleep(0)
            self._server.close()
            await self._listener.drain(self._grace_s)
        elif self._socket is not None:
            self._socket.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_S)
            try:
                self._listener.look()
                self._look()
            except Exception:  # the next look may be better
                log.exception("cannot look after the connections")


def bound(address: str, *, share: bool = False) -> socket.socket:
    """A socket that is bound to HOST:PORT; raises `Unavailable` with the operating system's reason."""
    host, port = split_address(address)
    held: socket.socket | None = None
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
        held.setblocking(False)
    except OSError as error:
        if held is not None:
            held.close()
        raise Unavailable(
            f"cannot listen: {error.strerror or type(error).__name__}",
            code="serve.port",
            value=address,
            cure="Choose an address of this machine and a free port; several processes share one with --share-port.",
        ) from error
    return held
