"""Figures add up, times are told to a fifth, and whose fault an error is decides what it counts for."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import AimassError, BadInput
from aimass.server.serving.dispatch.requests import (
    Answer,
    AttemptPassed,
    InvalidOutput,
    NotReady,
    Overloaded,
    QueueDeadline,
    WorkerLost,
)
from aimass.server.serving.watching.figures import NONE
from aimass.server.serving.watching.observer import Observer, Tally
from tests.support.watching import did

_ROW = {"age": np.array([[50.0]])}


@given(st.lists(st.floats(1e-5, 100), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_the_exact_one_or_up_to_a_fifth_more(seconds: list[float], share: float) -> None:
    tally = Tally(2.0)
    for one in seconds:
        tally.add(one, None)
    exact = max(sorted(seconds)[int(np.ceil(share * len(seconds) - 1e-9)) - 1], 2.0**-16)
    assert exact * 0.999 <= tally.figures().quantile_s(share) <= exact * 1.2


def test_figures_add_up_and_none_adds_nothing() -> None:
    both = did(5, errors=1, took_s=0.001) + did(7, late=2, took_s=3.0)
    assert (both.requests, both.errors, both.late, sum(both.seconds)) == (12, 1, 2, 12)
    assert both + NONE == NONE + both == both
    assert NONE.quantile_s(0.99) == 0.0


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (None, (1, 0, 0, 0)),
        (InvalidOutput("m", 1, "NaN"), (1, 1, 1, 0)),
        (WorkerLost("m", 1, "died"), (1, 1, 0, 0)),
        (NotReady("m", 1), (1, 1, 0, 0)),
        (AttemptPassed("m", 1, 2.0), (1, 0, 0, 1)),
        (QueueDeadline("m"), (1, 0, 0, 1)),
        (BadInput("the row is odd"), (0, 0, 0, 0)),
        (Overloaded("too many", retry_after_s=1.0), (0, 0, 0, 0)),
    ],
)
def test_callers_and_crowds_are_not_held_against_a_version(
    error: AimassError | None, counts: tuple[int, int, int, int]
) -> None:
    tally = Tally(2.0)
    tally.add(0.001, error)
    figures = tally.figures()
    assert (figures.requests, figures.errors, figures.invalid, figures.late) == counts


def test_what_takes_an_attempt_is_late_also_where_no_fallback_was_asked() -> None:
    answered, given_up = Tally(2.0), Tally(2.0)
    answered.add(2.4, None)
    answered.add(1.9, None)
    given_up.add(2.01, AttemptPassed("m", 1, 2.0))
    given_up.add(1.9, None)
    assert answered.figures().late == given_up.figures().late == 1


def test_what_is_told_to_a_bucket_takes_longer_only_where_all_of_it_does() -> None:
    figures = did(3, took_s=0.010) + did(2, took_s=0.1)
    assert figures.longer_than(0.05) == (2, 5)
    assert figures.longer_than(0.0095) == (2, 5), "what is in the same bucket may have been shorter"
    assert figures.longer_than(0.005) == (5, 5)
    assert NONE.longer_than(1.0) == (0, 0)


def test_an_observer_keeps_a_bounded_sample_and_gives_it_away_once() -> None:
    observer = Observer("heart", 3, 2.0, random.Random(1))
    answer = Answer({"label": np.array([b"no"], object)}, "heart", 1, 0.0, 0.0)
    for _ in range(10):
        observer.tap("heart", 1, _ROW, answer, 0.001, None)
        observer.tap("other", 1, _ROW, answer, 0.001, None)
    observer.tap("heart", 2, _ROW, None, 0.001, WorkerLost("heart", 2, "died"))
    figures, sampled = observer.taken()
    assert (figures[1].requests, figures[2].errors) == (10, 1)
    assert sum(len(tensor) for one in sampled[1].inputs for tensor in one.values()) == 3
    assert sampled[2].inputs == []
    assert observer.taken() == ({}, {})
