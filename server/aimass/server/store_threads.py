"""Threads of work on object stores that may hang, so that whoever waits there keeps no thread from anybody else."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["StoreThreads"]

P = ParamSpec("P")
T = TypeVar("T")


class StoreThreads:
    """At most `most` calls at once, the others in their turn: what `asyncio.to_thread` is, but for one purpose."""

    def __init__(self, most: int, purpose: str) -> None:
        self._pool = ThreadPoolExecutor(most, f"aimass-{purpose}")

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call `work` there; who stops waiting before its turn gives it up."""
        call = partial(contextvars.copy_context().run, partial(work, *args, **named))
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)
