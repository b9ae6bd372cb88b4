"""How long a store is asked again: a bounded number of times, each after a longer wait with jitter.

Exponential backoff with full jitter, as in M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from aimass.proto.errors import Unavailable

__all__ = ["PATIENT", "Retries"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retries:
    """Tries `attempts` times, and waits between 0 and `first_s`, twice that, ... at most `most_s`."""

    attempts: int = 9
    first_s: float = 0.2
    most_s: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform

    def wait(self, failures: int) -> None:
        """Wait after so many failures in a row, of which there is one at least."""
        self.sleep(self.uniform(0.0, min(self.most_s, self.first_s * 2.0 ** (failures - 1))))

    def run(self, attempt: Callable[[], T]) -> T:
        """What `attempt` gives; `Unavailable` is tried again, every other error is final."""
        for failures in range(1, self.attempts):
            try:
                return attempt()
            except Unavailable:
                self.wait(failures)
        return attempt()

    def resumed(self, begin: Callable[[], Iterator[T]]) -> Iterator[T]:
        """What `begin` yields; after a cut it is called again, and goes on where it was.

        Only failures in a row count: who moves on is not given up.
        """
        failures = 0
        while True:
            try:
                for item in begin():
                    failures = 0
                    yield item
            except Unavailable:
                failures += 1
                if failures >= self.attempts:
                    raise
                self.wait(failures)
            else:
                return


PATIENT: Final = Retries()
"""Waits of 16 seconds in all on average, 33 at most; what the tries take comes on top."""
