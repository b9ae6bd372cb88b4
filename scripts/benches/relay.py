"""A relay before a service on the loopback, so that the service can be away for some and not for others."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import threading
from collections.abc import Iterator

from scripts.benches.door import Door

__all__ = ["Relay", "Way", "relayed"]

_BLOCK_BYTES = 1 << 16


class Way(enum.Enum):
    """What becomes of bytes: passed on; connections cut at once; or taken and never answered."""

    OPEN = enum.auto()
    CUT = enum.auto()
    SILENT = enum.auto()


class Relay:
    """Passes connections on to `target`, as long as it is set so. `port` is where it listens."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._door = Door(self._serve)
        self._way = Way.OPEN
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.port = self._door.port

    def set(self, way: Way) -> None:
        """Deal so with all connections from now on; those that are open begin anew."""
        self._loop.call_soon_threadsafe(self._turn, way)

    def run(self) -> None:
        """Relay until `stop`, in a thread of its own."""
        self._loop.run_until_complete(self._live())
        self._loop.close()

    def stop(self) -> None:
        """End it from another thread."""
        self._loop.call_soon_threadsafe(self._over.set)

    async def _live(self) -> None:
        self._door.open()
        await self._over.wait()
        await self._door.close()

    def _turn(self, way: Way) -> None:
        self._way = way
        if way is not Way.SILENT:
            for writer in self._open:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._way is Way.CUT:
            return
        self._open.add(writer)
        try:
            down, up = await self._door.connect(self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, up))
                both.create_task(self._pump(down, writer))
        except* OSError:
            pass
        finally:
            self._open.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(_BLOCK_BYTES):
            if self._way is Way.OPEN:
                writer.write(block)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def relayed(target: int) -> Iterator[Relay]:
    """A relay that runs as long as the context."""
    relay = Relay(target)
    thread = threading.Thread(target=relay.run, name="relay")
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join()
