"""Of several services on one store one leads, for a term that it renews."""

from __future__ import annotations

import pytest

from aimass.server.datasets.leadership import MARGIN_S, Leader, Term, next_term
from tests.support.objects import MemoryObjects
from tests.support.stores import Unruly

TERM_S = 30.0


@pytest.fixture
def store() -> Unruly:
    return Unruly(MemoryObjects())


def test_who_may_try() -> None:
    held = Term(holder="a", until=100.0)
    assert next_term(None, "b", 0.0, 30.0) == Term(holder="b", until=30.0)
    assert next_term(held, "a", 50.0, 30.0) == Term(holder="a", until=80.0)
    assert next_term(held, "b", 100.0 + MARGIN_S, 30.0) is None
    assert next_term(held, "b", 100.1 + MARGIN_S, 30.0) is not None


def test_one_leads_until_its_term_is_over(store: Unruly) -> None:
    one, two = Leader(store, "one", TERM_S), Leader(store, "two", TERM_S)
    assert one.leads(0.0) == Term(holder="one", until=TERM_S)
    assert two.leads(1.0) is None
    assert one.leads(20.0) == Term(holder="one", until=20.0 + TERM_S)
    assert two.leads(TERM_S + MARGIN_S + 1) is None
    assert two.leads(20.0 + TERM_S + MARGIN_S + 1) is not None
    assert one.leads(20.0 + TERM_S + MARGIN_S + 2) is None


def test_of_two_who_take_over_at_once_one_wins(store: Unruly) -> None:
    two = Leader(store, "two", TERM_S)
    won: list[Term | None] = []

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create":
            store.before = lambda verb, key: None
            won.append(two.leads(1.0))

    store.before = meanwhile
    assert Leader(store, "one", TERM_S).leads(0.0) is None
    assert won == [Term(holder="two", until=1.0 + TERM_S)]


def test_who_lays_down_its_term_is_followed_at_once(store: Unruly) -> None:
    one, two = Leader(store, "one", TERM_S), Leader(store, "two", TERM_S)
    one.leads(0.0)
    two.lay_down(1.0)
    assert two.leads(1.0) is None
    one.lay_down(1.0)
    assert two.leads(1.1) is not None


def test_terms_do_not_pile_up(store: Unruly) -> None:
    leader = Leader(store, "one", TERM_S)
    for second in range(60):
        assert leader.leads(float(second)) is not None
    assert len(list(store.list())) < 15
