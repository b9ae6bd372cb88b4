"""Ends that come whole, however often whoever waits for them is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["to_its_end"]


async def to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Wait for `work`, which is never cut: no process, thread or descriptor stays behind. Then be cancelled, if so."""
    ending = asyncio.ensure_future(work)
    cut: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            cut = error
    ending.result()
    if cut is not None:
        raise cut
