"""A service as a process: it runs until somebody says that it is enough."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

__all__ = ["run_until_told"]


def run_until_told(
    serve: Callable[[asyncio.Event], Awaitable[None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run `serve` with an event that SIGTERM and Ctrl-C set, on the loop of `new_loop`; raises what it raises."""

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(stop)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
