"""Questions in the background: each is open once, and one that hangs holds one thread however often it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait

import pytest

from aimass.explain.app.in_flight import InFlight
from aimass.proto.errors import Unavailable


class Hung:
    def __init__(self) -> None:
        self.times, self.go = 0, threading.Event()

    def __call__(self) -> str:
        self.times += 1
        self.go.wait()
        return f"answer {self.times}"


@pytest.fixture
def hung() -> Iterator[Hung]:
    one = Hung()
    yield one
    one.go.set()


@pytest.fixture
def in_flight(hung: Hung) -> Iterator[InFlight]:
    one = InFlight(2)
    yield one
    one.close()


def test_a_service_that_hangs_is_asked_once_and_others_answer_beside_it(in_flight: InFlight, hung: Hung) -> None:
    asked = [in_flight.ask("server", "runs", hung) for _ in range(30)]
    assert in_flight.ask("server", "models", lambda: "here").result(60) == "here"
    assert in_flight.ask("server", "models", lambda: "again").result(60) == "again"
    hung.go.set()
    assert {one.result(60) for one in asked} == {"answer 1"}


def test_a_service_of_which_all_questions_hang_holds_nobody_elses_threads(in_flight: InFlight, hung: Hung) -> None:
    asked = [in_flight.ask("server", person, hung) for person in range(30)]
    assert in_flight.ask("registry", "models", lambda: "here").result(60) == "here"
    assert hung.times <= 2
    hung.go.set()
    assert all(one.result(60) for one in asked)


def test_once_closed_nothing_is_asked_and_what_waited_is_cancelled(in_flight: InFlight, hung: Hung) -> None:
    asked = [in_flight.ask("server", person, hung) for person in range(3)]
    in_flight.close()
    asked += [in_flight.ask("server", 9, hung), in_flight.ask("registry", "models", hung)]
    assert wait(asked[3:], 60).not_done == set()
    assert [one.cancelled() for one in asked] == [False, False, True, True, True]


def test_what_was_answered_is_asked_anew(in_flight: InFlight, hung: Hung) -> None:
    hung.go.set()
    assert [in_flight.ask("server", "runs", hung).result(60) for _ in range(2)] == ["answer 1", "answer 2"]


def test_an_error_is_that_of_all_who_asked_and_of_nobody_after_them(in_flight: InFlight) -> None:
    go = threading.Event()

    def away() -> str:
        go.wait()
        raise Unavailable("away")

    asked = [in_flight.ask("server", "runs", away) for _ in range(2)]
    go.set()
    for one in asked:
        with pytest.raises(Unavailable):
            one.result(60)
    assert in_flight.ask("server", "runs", lambda: "back").result(60) == "back"
