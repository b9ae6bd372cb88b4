"""The way of chunks from a stream to a file: what comes next is read while what came is hashed and written.

Memory is bounded by the room for chunks, which many streams share, and a stream that is cut leaves nobody writing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from aimass.proto.room import Place, Room
from aimass.proto.storage import SpoolWriter

__all__ = ["pour", "whole"]

T = TypeVar("T")


async def pour(
    chunks: AsyncIterator[bytes],
    writer: SpoolWriter,
    size: int,
    room: Room,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Append `chunks` until the writer holds `size` bytes or they end; on return, or raise, nothing is being written.

    One chunk is read while the one before is written, each in a place of `room`, which other streams may share; all
    places are given back. `progress` hears how many bytes are here. Raises what the writer raises, `LimitExceeded` for
    bytes beyond `size` among it, and what `chunks` raises.
    """
    here = writer.offset
    writing: asyncio.Future[None] | None = None
    places: deque[Place] = deque()
    try:
        while here < size:
            chunk = await _coming(chunks, writing, room, places)
            if chunk is None:
                break
            here += len(chunk)
            if writing is not None:
                await asyncio.shield(writing)
            writing = asyncio.ensure_future(asyncio.to_thread(writer.append, chunk))
            writing.add_done_callback(partial(_written, places[-1]))
            del chunk  # the thread alone holds it, and lets it go before the next is written
            if progress is not None:
                progress(here)
        if writing is not None:
            await asyncio.shield(writing)
    finally:
        if writing is not None:
            await _settled(writing)
        for place in places:
            place.give_back()


async def _coming(
    chunks: AsyncIterator[bytes], writing: asyncio.Future[None] | None, room: Room, places: deque[Place]
) -> bytes | None:
    """The next chunk, its place the last of `places`; raises what writing raises at once, whenever the chunk comes."""

    async def read() -> bytes | None:
        # Kept before anything else happens: who is cancelled meanwhile finds it there to give it back.
        places.append(await room.place())
        chunk = await anext(chunks, None)
        places[-1].filled()
        return chunk

    while len(places) > 1:
        places.popleft()  # of a chunk that was written before the last one
    if writing is None or writing.done():
        return await read()
    reading = asyncio.ensure_future(read())
    try:
        both: set[asyncio.Future[Any]] = {reading, writing}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done() and writing.done():
            writing.result()
        return await reading
    finally:
        # A stream that is cut may have ended by itself in the same moment: nobody asks the reading then.
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _written(place: Place, _: asyncio.Future[None]) -> None:
    place.give_back()


async def whole(function: Callable[..., T], *args: object) -> T:
    """In a thread and to its end, even where the caller is cancelled meanwhile: nobody writes after `close`."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    finally:
        await _settled(work)


async def _settled(work: asyncio.Future[T]) -> None:
    """Wait for what runs in a thread, however often the waiting is cancelled; its error is the caller's to see."""
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({work})
    if not work.cancelled():
        work.exception()
