"""The first good result of several sources, one after the other and side by side."""

from __future__ import annotations

import threading

import pytest

from aimass.proto.errors import AimassError, IntegrityError, OutOfSpace, Unavailable
from aimass.server.datasets.race import Attempt, first_good

PATIENCE_S = 30.0


class Heard:
    def __init__(self) -> None:
        self.failed: list[tuple[int, AimassError | None]] = []
        self.discarded: list[str] = []
        self.discards = threading.Semaphore(0)

    def note(self, place: int, error: AimassError | None) -> None:
        self.failed.append((place, error))

    def discard(self, result: str) -> None:
        self.discarded.append(result)
        self.discards.release()


def good(result: str) -> Attempt[str]:
    return lambda over: result


def bad(error: BaseException) -> Attempt[str]:
    def attempt(over: threading.Event) -> str:
        raise error

    return attempt


def test_the_first_is_enough_and_no_other_is_asked() -> None:
    heard = Heard()
    assert first_good([good("a"), bad(AssertionError())], PATIENCE_S, heard.note, heard.discard) == "a"
    assert heard.failed == []


def test_after_a_failure_the_next_is_asked() -> None:
    heard, away, lie = Heard(), Unavailable("away"), IntegrityError("lie")
    assert first_good([bad(away), bad(lie), good("c")], PATIENCE_S, heard.note, heard.discard) == "c"
    assert heard.failed == [(0, away), (1, lie)]


def test_where_all_fail_the_last_error_is_raised() -> None:
    last = IntegrityError("lie")
    with pytest.raises(IntegrityError) as told:
        first_good([bad(Unavailable("away")), bad(last)], PATIENCE_S, Heard().note, len)
    assert told.value is last
    with pytest.raises(Unavailable):
        first_good([], PATIENCE_S, Heard().note, len)


def test_beside_one_that_takes_long_another_is_asked_and_what_comes_late_is_discarded() -> None:
    heard, go = Heard(), threading.Event()

    def slow(over: threading.Event) -> str:
        go.wait()
        return "late"

    assert first_good([slow, good("b")], 0.01, heard.note, heard.discard) == "b"
    assert heard.failed == [(0, None)]
    go.set()
    assert heard.discards.acquire(timeout=10)
    assert heard.discarded == ["late"]


def test_the_slow_one_may_still_win() -> None:
    go = threading.Event()

    def slow(over: threading.Event) -> str:
        go.wait()
        return "slow and true"

    def failing(over: threading.Event) -> str:
        go.set()
        raise Unavailable("away")

    assert first_good([slow, failing], 0.01, Heard().note, len) == "slow and true"


def test_an_attempt_is_told_when_nobody_waits_for_it() -> None:
    told = threading.Event()

    def slow(over: threading.Event) -> str:
        over.wait()
        told.set()
        raise Unavailable("given up")

    assert first_good([slow, good("b")], 0.01, Heard().note, len) == "b"
    assert told.wait(10)


def test_what_is_no_fault_of_a_source_ends_the_race() -> None:
    def refuses(place: int, error: AimassError | None) -> None:
        if isinstance(error, OutOfSpace):
            raise error

    with pytest.raises(OutOfSpace):
        first_good([bad(OutOfSpace("full")), good("b")], PATIENCE_S, refuses, len)
    with pytest.raises(ZeroDivisionError):
        first_good([bad(ZeroDivisionError()), good("b")], PATIENCE_S, Heard().note, len)
