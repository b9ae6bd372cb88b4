"""A listening port on the loopback that knows everyone it let in, for relays and proxies that come and go.

`asyncio.Server` forgets a connection that it has accepted and not handed over yet: where it closes in that turn of the
loop, the socket stays open until somebody collects it. Here a connection is known from the moment it is accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import weakref
from collections.abc import Awaitable, Callable

__all__ = ["Door"]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """Each connection gets a task with `serve`; it is closed when `serve` ends, and all are when the door closes."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._socket.setblocking(False)
        self._outside: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self.port = int(self._socket.getsockname()[1])

    def open(self) -> None:
        """Let in whoever comes; those who came since the door was made have waited."""
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    async def close(self) -> None:
        """Let nobody in any more, and end those who are in; unsent bytes are lost."""
        asyncio.get_running_loop().remove_reader(self._socket)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in (self._socket, *self._outside):
            one.close()
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # what was aborted lets go of its socket in the next turn

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to somebody else, which ends with the door too."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._transports.add(writer.transport)
        return reader, writer

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = self._socket.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as asyncio does for its own
            self._outside.add(connection)
            task = asyncio.get_running_loop().create_task(self._welcome(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        self._outside.discard(connection)
        reader, writer = await asyncio.open_connection(sock=connection)
        self._transports.add(writer.transport)
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
