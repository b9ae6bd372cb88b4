"""One result from several sources: the first is asked, the next one as well when it fails or takes long.

The hedged request of Dean and Barroso ("The Tail at Scale", Communications of the ACM 56(2), 2013).
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from aimass.proto.errors import AimassError, Unavailable

__all__ = ["Attempt", "first_good"]

T = TypeVar("T")
Attempt = Callable[[threading.Event], T]
"""Comes to a result or raises; may give up once the event is set, since nobody waits for it any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Outcome(Generic[T]):
    place: int
    results: tuple[T, ...] = ()
    error: BaseException | None = None


def first_good(
    attempts: Sequence[Attempt[T]],
    patience_s: float,
    failed: Callable[[int, AimassError | None], None],
    discard: Callable[[T], object],
) -> T:
    """The result of the first attempt that comes to one; `discard` is given those that come later.

    `failed` hears of each that raised, by its place, and, with None, of each that took longer than `patience_s` while
    there was another to begin. An error that `failed` raises ends the race, and so does one that is not named. When
    all have raised, so does this: the last one's error. Attempts run in threads that hold up no exit.
    """
    if not attempts:
        raise Unavailable("there is no source to read from", code="dataset.no_store")
    race = _Race(attempts, discard)
    try:
        while True:
            race.begin()
            while (outcome := race.next(patience_s)) is None:
                failed(race.begun - 1, None)
                race.begin()
            if outcome.results:
                return outcome.results[0]
            if not isinstance(outcome.error, AimassError):
                raise outcome.error or AssertionError("an attempt came to nothing")
            failed(outcome.place, outcome.error)
            if race.ended == len(attempts):
                raise outcome.error
    finally:
        race.end()


class _Race(Generic[T]):
    """The threads of a race. What ends after `end` is discarded, whichever side sees it."""

    def __init__(self, attempts: Sequence[Attempt[T]], discard: Callable[[T], object]) -> None:
        self._attempts, self._discard = attempts, discard
        self._over, self._ending = threading.Event(), threading.Lock()
        self._outcomes: queue.SimpleQueue[_Outcome[T]] = queue.SimpleQueue()
        self.begun = self.ended = 0

    def begin(self) -> None:
        """Start the next attempt, if there is one."""
        if self.begun < len(self._attempts):
            threading.Thread(target=self._run, args=(self.begun,), name=f"replica-{self.begun}", daemon=True).start()
            self.begun += 1

    def next(self, patience_s: float) -> _Outcome[T] | None:
        """The next outcome; None where it takes long and another could be started."""
        more = self.begun < len(self._attempts)
        try:
            outcome = self._outcomes.get(timeout=patience_s if more else None)
        except queue.Empty:
            return None
        self.ended += 1
        return outcome

    def end(self) -> None:
        """Wait for nobody any more."""
        with self._ending:
            self._over.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._dropped(self._outcomes.get_nowait())

    def _run(self, place: int) -> None:
        try:
            outcome = _Outcome(place, (self._attempts[place](self._over),))
        except BaseException as error:  # noqa: BLE001  (whoever waits raises it, or hears of it)
            outcome = _Outcome(place, error=error)
        with self._ending:
            over = self._over.is_set()
            if not over:
                self._outcomes.put(outcome)
        if over:
            self._dropped(outcome)

    def _dropped(self, outcome: _Outcome[T]) -> None:
        for result in outcome.results:
            self._discard(result)
