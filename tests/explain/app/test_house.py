"""Connections of people end when they are not used any more, and never under somebody who uses them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from aimass.explain.app.house import House
from aimass.explain.app.people import Person
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.sources import Sources
from aimass.privacy.pki import Role
from aimass.proto.errors import Unavailable
from aimass.proto.secret import Secret
from aimass.proto.views import RunState, RunView
from tests.explain.runs.made import run as made_run

MANY = 70
HALF_AN_HOUR_S = 1800.0


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


class Run:
    """A run of which nothing is heard until it is left."""

    def __init__(self) -> None:
        self.view = made_run([], state=RunState.RUNNING)
        self.left = threading.Event()

    def watch(self) -> Iterator[RunView]:
        self.left.wait()
        yield from ()

    def leave(self) -> None:
        self.left.set()


class Counted(Sources):
    """Sources that say whether they were closed, and whose server has one run."""

    def __init__(self, settings: AppSettings, person: Person, clock: Clock) -> None:
        super().__init__(settings, person, clock)
        self.closed, self.the_run = False, Run()

    def federation(self) -> Any:
        with self._lock:
            self._use()
        return self

    def run(self, run_id: str) -> Any:
        return self.the_run

    def close(self) -> None:
        self.closed = True
        super().close()


def person(number: int) -> Person:
    return Person(f"p{number}", Role.ANALYST)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(clock: Clock) -> Iterator[House]:
    made = House(AppSettings(), sources=lambda settings, who: Counted(settings, who, clock), now=clock)
    yield made
    made.close()


def closed(sources: Sources) -> bool:
    assert isinstance(sources, Counted)
    return sources.closed


def test_of_many_people_nobody_loses_connections_that_they_use(house: House, clock: Clock) -> None:
    seen = [house.visit(person(number), "tab").sources for number in range(MANY)]
    assert not any(map(closed, seen))
    clock.at = HALF_AN_HOUR_S - 1.0
    seen[0].federation()  # a part of a page that shows itself anew
    clock.at += 2.0
    house.visit(person(MANY), "tab")
    assert [closed(one) for one in seen] == [False] + [True] * 6 + [False] * (MANY - 7)


def test_what_was_closed_opens_nothing_more_and_the_next_visit_does(house: House) -> None:
    old = Sources(AppSettings(home="anna", data="127.0.0.1:1"), person(0))
    old.close()
    for ask in (old.federation, old.data_sets):
        with pytest.raises(Unavailable) as raised:
            ask()
        assert raised.value.code == "app.visit_over"


def test_runs_of_who_has_gone_are_left_when_anybody_else_looks(house: House, clock: Clock) -> None:
    gone = house.visit(person(0), "tab")
    gone.feed.latest("run")
    assert isinstance(gone.sources, Counted)
    house.visit(person(1), "tab")
    assert not gone.sources.the_run.left.is_set()
    clock.at = 31.0
    house.visit(person(1), "tab")
    assert gone.sources.the_run.left.is_set()


def test_tabs_take_turns_as_the_one_person_who_logged_in_at_them_and_else_each_for_itself(house: House) -> None:
    logged_in = [Person("anna", Role.ANALYST, Secret(login)) for login in (b"at work", b"at home")]
    assert {house.visit(person, tab).asker for person in logged_in for tab in ("one", "two")} == {"analyst/anna"}
    assert house.visit(Person("anna", Role.OPERATOR, Secret(b"at work")), "one").asker == "operator/anna"
    assert [house.visit(Person("anna", Role.ANALYST), tab).asker for tab in ("one", "two")] == ["one", "two"]
