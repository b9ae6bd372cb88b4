"""The way of chunks from a stream to a file: what comes next is read while what came is hashed and written.

Memory is bounded by the chunks that may be ahead, and a stream that is cut leaves nobody writing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from aimass.proto.storage import SpoolWriter

__all__ = ["pour", "whole"]

T = TypeVar("T")


async def pour(
    chunks: AsyncIterator[bytes],
    writer: SpoolWriter,
    size: int,
    ahead: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Append `chunks` until the writer holds `size` bytes or they end; on return, or raise, nothing is being written.

    At most `ahead` chunks wait while as many are written. `progress` hears how many bytes are here. Raises what the
    writer raises, `LimitExceeded` for bytes beyond `size` among it, and what `chunks` raises.
    """
    here = writer.offset
    waiting: list[bytes] = []
    writing: asyncio.Future[None] | None = None
    try:
        while here < size:
            chunk = await _coming(chunks, writing)
            if chunk is None:
                break
            here += len(chunk)
            waiting.append(chunk)
            if writing is None or writing.done() or len(waiting) >= ahead:
                if writing is not None:
                    await asyncio.shield(writing)
                writing, waiting = _begun(writer, waiting), []
            if progress is not None:
                progress(here)
        if writing is not None:
            await asyncio.shield(writing)
        if waiting:
            writing = _begun(writer, waiting)
            await asyncio.shield(writing)
    finally:
        if writing is not None:
            await _settled(writing)


async def _coming(chunks: AsyncIterator[bytes], writing: asyncio.Future[None] | None) -> bytes | None:
    """The next chunk; raises what writing raises at once, whenever the next chunk comes."""

    async def read() -> bytes | None:
        return await anext(chunks, None)

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


def _begun(writer: SpoolWriter, chunks: Sequence[bytes]) -> asyncio.Future[None]:
    def append() -> None:
        for chunk in chunks:
            writer.append(chunk)

    return asyncio.ensure_future(asyncio.to_thread(append))


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
