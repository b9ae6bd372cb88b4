"""Which version is the newest, whichever stores answer."""

from __future__ import annotations

import pytest

from aimass.proto.data_sets import DataSetName
from aimass.proto.errors import NotFound, Unavailable
from aimass.server.datasets.care import House, repair
from aimass.server.datasets.versions import newest, numbers, opened
from tests.server.datasets.conftest import CONTENTS, NOW, no_limit
from tests.support.stores import Unruly, stored

T = DataSetName(name="t")


@pytest.fixture
def replicated(house: House) -> House:
    """Version 1 in three stores, and version 2 at home alone."""
    repair(house, NOW, no_limit, deep=False)
    stored(house.home, "t", CONTENTS[:1], version=2)
    return house


def named(house: House, *names: str) -> list[Unruly]:
    found = [house.stores[f"memory://{name}"] for name in names]
    return [store for store in found if isinstance(store, Unruly)]


def found(house: House, *names: str, name: DataSetName = T) -> int:
    return opened(name, named(house, *names), NOW, open_store=house.stores.__getitem__)[0].version


def test_a_copy_that_is_named_leads_to_the_newest_at_home(replicated: House) -> None:
    assert found(replicated, "two") == found(replicated, "three", "one") == 2
    assert opened(T, named(replicated, "two"), NOW, open_store=replicated.stores.__getitem__)[1] == (
        "memory://two",
        "memory://one",
        "memory://three",
    )


def test_with_the_home_away_nobody_takes_an_older_version_for_the_newest(replicated: House) -> None:
    (home,) = named(replicated, "one")
    home.away = True
    for names in (("one", "two"), ("two",), ("three", "two", "one")):
        with pytest.raises(Unavailable) as told:
            found(replicated, *names)
        assert (told.value.code, told.value.value, "t@1" in told.value.cure) == ("dataset.home_away", home.url, True)
    assert found(replicated, "one", "two", name=DataSetName(name="t", version=1)) == 1


def test_who_only_looks_is_shown_what_there_is_and_told(replicated: House) -> None:
    home, two = named(replicated, "one", "two")
    home.away, doubts = True, list[Unavailable]()
    manifest, stores = opened(T, [home, two], NOW, doubts.append, replicated.stores.__getitem__)
    assert (manifest.version, stores) == (1, tuple(replicated.stores))
    assert [doubt.code for doubt in doubts] == ["dataset.home_away"]
    home.away = False
    assert opened(T, [two, home], NOW, doubts.append, replicated.stores.__getitem__)[0].version == 2
    assert len(doubts) == 1


def test_a_home_that_lost_its_newest_version_hides_it_not(house: House) -> None:
    repair(house, NOW, no_limit, deep=False)
    (three,) = named(house, "three")
    stored(three, "t", CONTENTS[:1], version=2)
    assert found(house, "one") == 2


def test_a_home_that_cannot_be_opened_here_is_one_that_does_not_answer(replicated: House) -> None:
    def open_store(url: str) -> Unruly:
        raise NotFound("no such store here", code="storage.url") if url.endswith("three") else Unavailable("no Java")

    told = newest("t", named(replicated, "two"), NOW, open_store)
    assert (told.name, told.home_away) == (DataSetName(name="t", version=1), "memory://one")


def test_a_set_that_no_store_has_is_unknown_where_all_answer(house: House) -> None:
    home, two = named(house, "one", "two")
    with pytest.raises(NotFound):
        found(house, "one", "two", name=DataSetName(name="nobody"))
    home.away = True
    with pytest.raises(Unavailable):
        newest("nobody", [home, two], NOW, house.stores.__getitem__)
    with pytest.raises(Unavailable):
        opened(T, [], NOW)


def test_all_versions_are_listed_that_any_store_lists(replicated: House) -> None:
    assert numbers("t", named(replicated, "two", "one")) == (1, 2)
    replicated.home.away = True  # type: ignore[attr-defined]
    assert numbers("t", named(replicated, "one", "two")) == (1,)
