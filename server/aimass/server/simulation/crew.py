"""Who does the work of a simulated step: this process, several beside it, or Spark. Which of them changes no bit.

Results come in the order of what was asked, whoever was faster, so the run machine sees the same events each time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Final, Protocol

from aimass.proto.errors import Unavailable
from aimass.proto.values import canonical_json, decode_json
from aimass.server.reduction import Reduced
from aimass.server.simulation import partner
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.site import Opens

__all__ = ["Alone", "Crew", "Processes"]

_AHEAD: Final = 16
"""Orders that wait at each process, so that none is idle while another's turn is awaited."""


class Crew(Protocol):
    """Does orders."""

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """What comes of each, in order. Whoever has enough closes the iterator: the rest is not wanted."""
        ...

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """The sum of a step's contributions, in the order given, by a crew that keeps them itself; None where they are
        in the spool."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


class Alone:
    """This process."""

    def __init__(self, opens: Opens) -> None:
        self._bench = partner.Bench(opens())

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`."""
        return map(self._bench.do, asked, [*(one.partner for one in asked[1:]), ""])

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """They are in the spool."""
        return None

    def close(self) -> None:
        """Nothing was started."""


class Processes:
    """Several processes. A partner is always served by the same one, which has its shard open."""

    def __init__(self, opens: Opens, count: int) -> None:
        self._opens = opens
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._pools = [ProcessPoolExecutor(1, context, _begin) for _ in range(count)]

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`; raises `Unavailable` where a process was killed."""
        waiting: deque[Future[bytes]] = deque()
        try:
            for one, soon in zip(asked, self._following(asked), strict=True):
                waiting.append(self._pool(one.partner).submit(partner.do, self._opens, canonical_json(one), soon))
                if len(waiting) > _AHEAD * len(self._pools):
                    yield _made(waiting.popleft())
            while waiting:
                yield _made(waiting.popleft())
        except BrokenProcessPool as error:
            raise Unavailable(
                "a worker process was killed, perhaps for want of memory",
                code="simulation.worker",
                cure="Go on with --resume, with fewer --workers.",
            ) from error
        finally:
            for future in waiting:
                future.cancel()

    def _following(self, asked: Sequence[Asked]) -> list[str]:
        """For each order, whose order its process has after it."""
        next_of: dict[int, str] = {}
        following = []
        for one in reversed(asked):
            place = self._place(one.partner)
            following.append(next_of.get(place, ""))
            next_of[place] = one.partner
        return following[::-1]

    def _place(self, name: str) -> int:
        return zlib.crc32(name.encode()) % len(self._pools)

    def _pool(self, name: str) -> ProcessPoolExecutor:
        return self._pools[self._place(name)]

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """They are in the spool."""
        return None

    def close(self) -> None:
        """End the processes once their present order is done."""
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _made(future: Future[bytes]) -> Made:
    return decode_json(Made, future.result(), "a worker's answer")


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and nobody lives on without the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  (it was spawned)
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
