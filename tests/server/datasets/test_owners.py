"""Whose a data set is: handed on by its owner or an operator, each time on record, and by nobody else."""

from __future__ import annotations

import pytest

from aimass.proto.data_sets import version_key
from aimass.proto.data_views import OwnerView
from aimass.proto.errors import Conflict, NotFound, Refused
from aimass.server.datasets.owners import check_owner, claim, hand_on, owner_of
from tests.support.objects import MemoryObjects
from tests.support.stores import Unruly, stored


@pytest.fixture
def home() -> Unruly:
    """A store with anna's data set `t`, and `s`, which was made there."""
    home = Unruly(MemoryObjects("memory://home"))
    for name in ("s", "t"):
        stored(home, name, [b"shard"])
    claim(home, "t", home.read(version_key("t", 1)), "anna")
    return home


def hand(home: Unruly, name: str, to: str, person: str, *, operator: bool = False) -> OwnerView:
    hand_on(home, name, to, person, 5.0, operator=operator)
    return owner_of(home, name)


def test_who_registered_the_first_version_owns_it_until_it_is_handed_on(home: Unruly) -> None:
    assert owner_of(home, "t") == OwnerView(name="t", owner="anna")
    assert hand(home, "t", "bert", "anna") == OwnerView(name="t", owner="bert", by="anna", at=5.0)
    check_owner(home, "t", "bert")
    with pytest.raises(Refused):
        check_owner(home, "t", "anna")
    with pytest.raises(Refused):
        hand(home, "t", "anna", "anna")
    assert hand(home, "t", "cleo", "bert").owner == "cleo"
    assert len(list(home.list("_service/owners/t/"))) == 3, "every owner stays on record"


def test_what_is_somebody_elses_or_nobodys_an_operator_hands_on(home: Unruly) -> None:
    assert owner_of(home, "s").owner == ""
    for name in ("s", "t"):
        with pytest.raises(Refused) as told:
            hand(home, name, "bert", "bert")
        assert told.value.code == "dataset.owner"
        assert hand(home, name, "bert", "olga", operator=True).owner == "bert"
        check_owner(home, name, "bert")


def test_of_two_that_hand_it_on_at_once_one_is_told(home: Unruly) -> None:
    def meanwhile(verb: str, key: str) -> None:
        if verb == "create":
            home.before = lambda verb, key: None
            hand(home, "t", "cleo", "olga", operator=True)

    home.before = meanwhile
    with pytest.raises(Conflict) as told:
        hand(home, "t", "bert", "anna")
    assert told.value.code == "dataset.owner_changed"
    assert owner_of(home, "t").owner == "cleo"


def test_a_data_set_that_is_not_there_is_nobodys_to_hand_on(home: Unruly) -> None:
    with pytest.raises(NotFound):
        hand(home, "u", "bert", "olga", operator=True)
