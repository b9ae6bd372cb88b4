"""Viewers beside the one who is timed: sessions of the app in a thread of their own, which all ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from scripts.benches.app_wire import Visit, WireViewer, wire_viewer

__all__ = ["Crowd", "crowd", "reloads"]


class Crowd:
    """`count` sessions that stay open."""

    def __init__(self, loop: asyncio.AbstractEventLoop, viewers: list[WireViewer]) -> None:
        self._loop, self._viewers = loop, viewers

    def visit(self, page: str, query: str) -> Future[list[Visit]]:
        """All of them look at a page at the same time."""

        async def at_once() -> list[Visit]:
            return list(await asyncio.gather(*(viewer.visit(page, query) for viewer in self._viewers)))

        return asyncio.run_coroutine_threadsafe(at_once(), self._loop)


@contextlib.contextmanager
def crowd(address: str, count: int) -> Iterator[Crowd]:
    """So many sessions, until the block ends."""
    loop, stack = asyncio.new_event_loop(), contextlib.AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def come() -> list[WireViewer]:
        return [await stack.enter_async_context(wire_viewer(address)) for _ in range(count)]

    try:
        yield Crowd(loop, asyncio.run_coroutine_threadsafe(come(), loop).result(60))
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def reloads(address: str, places: list[tuple[str, str]], count: int) -> None:
    """Load pages `count` times, one after the other, each in a session of its own as a browser's reload has it."""

    async def load() -> None:
        for number in range(count):
            async with wire_viewer(address) as viewer:
                visit = await viewer.visit(*places[number % len(places)])
                if visit.exceptions:
                    raise RuntimeError(f"the app failed: {visit.exceptions}")

    asyncio.run(load())
