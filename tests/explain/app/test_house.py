"""Connections of people end when they are not used any more, and never under somebody who uses them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House, enter
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
        self.closed, self.the_run, self.left_before_closed = False, Run(), False

    def federation(self) -> Any:
        with self._lock:
            self._use()
        return self

    def run(self, run_id: str) -> Any:
        return self.the_run

    def close(self) -> None:
        self.closed, self.left_before_closed = True, self.the_run.left.is_set()
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
    assert [closed(one) for one in seen] == [False] + [True] * 7 + [False] * (MANY - 8)


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


def login(number: int, name: str = "script") -> Person:
    return Person(name, Role.ANALYST, Secret(b"%d" % number))


def test_who_logs_in_again_and_again_ends_their_own_longest_unused_visits_alone(house: House, clock: Clock) -> None:
    other = house.visit(person(0), "tab").sources
    seen = []
    for number in range(100):
        clock.at += 1.0
        seen.append(house.visit(login(number), "tab").sources)
        if number:
            seen[0].federation()  # the first one's tab shows itself anew
    assert [closed(one) for one in seen] == [False] + [True] * 92 + [False] * 7
    assert not closed(other)


def test_who_comes_is_not_ended_though_all_others_were_used_since(house: House, clock: Clock) -> None:
    seen = [house.visit(login(number), "tab").sources for number in range(8)]
    clock.at = 5.0
    for one in seen:
        one.federation()
    clock.at = 4.0  # a page that was held up between its look at the clock and its visit
    come = house.visit(login(8), "tab").sources
    assert [closed(one) for one in (*seen, come)] == [True] + [False] * 8


def test_no_more_visits_are_held_than_there_is_room_for_though_all_are_used(house: House, clock: Clock) -> None:
    seen = []
    for number in range(300):
        clock.at += 1.0
        seen.append(house.visit(login(number, f"p{number}"), "tab").sources)
    assert [closed(one) for one in seen] == [True] * 44 + [False] * 256


def test_who_watches_a_run_of_which_nothing_is_heard_for_long_uses_their_visit(house: House, clock: Clock) -> None:
    watching = house.visit(person(0), "tab")
    watching.feed.latest("run")
    clock.at = 1.0
    idle, *_ = [house.visit(person(number), "tab") for number in range(1, MANY)]
    for _ in range(200):
        clock.at += 10.0
        watching.feed.latest("run")
    house.visit(person(MANY), "tab")
    assert isinstance(watching.sources, Counted)
    assert (closed(watching.sources), closed(idle.sources)) == (False, True)
    assert not watching.sources.the_run.left.is_set()


def test_a_visit_that_ends_leaves_its_runs_before_its_connections_end(house: House, clock: Clock) -> None:
    gone = house.visit(login(0), "tab")
    gone.feed.latest("run")
    assert isinstance(gone.sources, Counted)
    for number in range(1, 9):
        clock.at += 1.0
        house.visit(login(number), "tab")
    assert closed(gone.sources)
    assert gone.sources.left_before_closed
    with pytest.raises(Unavailable) as raised:
        gone.feed.latest("run")
    assert raised.value.code == "app.visit_over"


def test_a_house_that_is_closed_leaves_its_runs(clock: Clock) -> None:
    made = House(AppSettings(), sources=lambda settings, who: Counted(settings, who, clock), now=clock)
    here = made.visit(person(0), "tab")
    here.feed.latest("run")
    made.close()
    assert isinstance(here.sources, Counted)
    assert here.sources.left_before_closed


def _part() -> None:
    import streamlit as st

    from aimass.explain.app.house import Here
    from aimass.explain.app.house import house as shown
    from aimass.explain.app.shell import looked
    from tests.explain.app.test_house import login

    @looked(60.0)
    def part(here: Here) -> None:
        here.sources.federation()
        st.markdown("live figures")

    here = shown().visit(login(0), "tab")
    if "others" not in st.session_state:
        st.session_state["others"] = [shown().visit(login(number), "tab") for number in range(1, 9)]
    part(here)


def test_a_tab_whose_visit_has_ended_is_shown_anew_by_itself(house: House) -> None:
    enter(house)
    try:
        page = AppTest.from_function(_part, default_timeout=60).run()
        assert not page.exception
        assert [one.value for one in page.markdown] == ["live figures"]
        assert not page.error
    finally:
        enter(None)
