"""Stores are asked again a bounded number of times, each after a longer wait at most."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aimass.proto.errors import Refused, Unavailable
from aimass.proto.stores.retries import Retries


def away(times: int) -> Iterator[None]:
    for _ in range(times):
        yield None
    while True:
        raise Unavailable("away")


def patient(waits: list[float], attempts: int = 5) -> Retries:
    return Retries(attempts, 1.0, 4.0, waits.append, lambda least, most: most)


def test_what_stays_away_is_given_up_after_waits_that_double_to_the_most() -> None:
    waits: list[float] = []
    asked = []
    with pytest.raises(Unavailable):
        patient(waits).run(lambda: asked.append(1) or next(away(0)))  # type: ignore[func-returns-value]
    assert (len(asked), waits) == (5, [1.0, 2.0, 4.0, 4.0])


def test_any_other_error_is_final() -> None:
    def refused() -> None:
        raise Refused("no")

    waits: list[float] = []
    with pytest.raises(Refused):
        patient(waits).run(refused)
    assert waits == []


def test_only_failures_in_a_row_end_what_is_resumed() -> None:
    waits: list[float] = []
    lives = iter([[0, 1], [], [2], [], [3]])

    def begin() -> Iterator[int]:
        life = next(lives)
        yield from life
        if life != [3]:
            raise Unavailable("cut")

    assert list(patient(waits, 3).resumed(begin)) == [0, 1, 2, 3]
    assert waits == [1.0, 2.0, 1.0, 2.0]


def test_what_is_resumed_and_never_moves_on_is_given_up() -> None:
    waits: list[float] = []
    with pytest.raises(Unavailable):
        list(patient(waits).resumed(lambda: (item for item in away(0) if item)))
    assert waits == [1.0, 2.0, 4.0, 4.0]
