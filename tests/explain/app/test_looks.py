"""Visits: what is new stays new through reloads, until half an hour without a look has ended the visit."""

from __future__ import annotations

from aimass.explain.app.looks import Looks


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


def test_the_first_visit_knows_of_none_before() -> None:
    assert Looks(Clock()).before("anna") is None


def test_a_reload_is_the_same_visit_and_a_look_much_later_another() -> None:
    clock = Clock()
    looks = Looks(clock)
    looks.before("anna")
    clock.at += 1_700
    assert looks.before("anna") is None
    ended = clock.at
    clock.at += 1_801
    assert looks.before("anna") == ended
    clock.at += 60
    assert looks.before("anna") == ended


def test_people_have_visits_of_their_own() -> None:
    clock = Clock()
    looks = Looks(clock)
    looks.before("anna")
    clock.at += 4_000
    assert looks.before("bert") is None
    assert looks.before("anna") == clock.at - 4_000


def test_a_thousand_people_are_remembered_and_no_more() -> None:
    clock = Clock()
    looks = Looks(clock)
    for number in range(1_001):
        looks.before(f"person {number}")
    clock.at += 4_000
    assert looks.before("person 0") is None
    assert looks.before("person 1000") is not None
