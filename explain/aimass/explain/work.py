"""How long work is done: in chunks within a memory bound, telling how far it is, until somebody cancels it.

Clock, progress and the wish to stop are handed in. Randomness is named: what draws says for what, so that two parts of
one work do not share a stream, and the same seed gives the same result however many workers there are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np

from aimass.proto.errors import BadInput, DeadlinePassed, Stopped

__all__ = ["Work", "quiet"]

T = TypeVar("T")
_MIB: Final = 1 << 20


def quiet(share: float, what: str) -> None:
    """Tells nobody."""


@dataclasses.dataclass(frozen=True)
class Work:
    """`tell(share, what)` hears how much of 1 is done; work that is `stopped`, or past `until` by `now`, raises.

    `memory_bytes` bounds what one chunk's arrays hold beside the input. `workers` are threads: numpy and torch compute
    beside one another.
    """

    seed: int = 0
    memory_bytes: int = 256 * _MIB
    workers: int = 1
    tell: Callable[[float, str], None] = quiet
    stopped: Callable[[], bool] = lambda: False
    until: float = math.inf
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.memory_bytes < _MIB or self.workers < 1:
            raise BadInput("work needs a MiB of memory and one worker", code="explain.work", value=self.memory_bytes)

    def within(self, seconds: float) -> Work:
        """The same work, which is past its time after so many seconds from now."""
        return dataclasses.replace(self, until=self.now() + seconds)

    def rng(self, *purpose: str | int) -> np.random.Generator:
        """The random stream of this purpose under the seed."""
        name = "\0".join(map(str, (self.seed, *purpose)))
        return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")))

    def check(self) -> None:
        """Raise `Stopped` or `DeadlinePassed` where the work is to end."""
        if self.stopped():
            raise Stopped("the explanation was cancelled", code="explain.cancelled")
        if self.now() > self.until:
            raise DeadlinePassed(
                "the explanation took longer than it may",
                code="explain.time",
                cure="Ask for fewer rows or repeats, or give it more time.",
            )

    def part(self, begin: float, end: float, what: str = "") -> Work:
        """The part of this work between two shares of it; it is told as `what`, then as it says itself."""
        whole = self.tell

        def tell(share: float, said: str) -> None:
            whole(begin + share * (end - begin), said or what)

        return dataclasses.replace(self, tell=tell)

    def muted(self) -> Work:
        """The same work, which tells nobody: what asks a model many times says itself how far it is."""
        return dataclasses.replace(self, tell=quiet)

    def parts(self, names: tuple[str, ...]) -> Iterator[tuple[str, Work]]:
        """A part for each name, all of one length."""
        for place, name in enumerate(names):
            self.check()
            self.tell(place / len(names), name)
            yield name, self.part(place / len(names), (place + 1) / len(names), name)

    def chunks(self, rows: int, row_bytes: int) -> list[slice]:
        """Slices of `rows` whose arrays of `row_bytes` a row stay within the memory of a worker, none of them empty."""
        size = max(1, self.memory_bytes // self.workers // max(1, row_bytes))
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]

    def each(self, do: Callable[[T], Any], items: list[T], what: str = "") -> list[Any]:
        """`do` of each item, in order, by all workers; it is told after each, and ends soon after it is stopped."""
        found: list[Any] = []
        if self.workers == 1 or len(items) < 2:
            for item in items:
                self.check()
                found.append(do(item))
                self.tell(len(found) / len(items), what)
            return found
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = [pool.submit(do, item) for item in items]
            try:
                for one in waiting:
                    found.append(one.result())
                    self.check()
                    self.tell(len(found) / len(items), what)
            finally:
                for one in waiting:
                    one.cancel()
        return found
