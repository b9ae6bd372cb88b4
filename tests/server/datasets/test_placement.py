"""Where copies belong follows from the shard's digest and the stores alone."""

from __future__ import annotations

import hashlib

import pytest

from aimass.proto.errors import BadInput, Conflict
from aimass.proto.values import canonical_json
from aimass.server.datasets.care import House
from aimass.server.datasets.placement import Placement, changed, holders, place, placement_of, read_placement
from tests.server.datasets.conftest import NOW
from tests.support.stores import Unruly

DIGESTS = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(400)]
STORES = ("s3://a", "s3://b", "file:///c", "s3://d")


def placed(*stores: str, copies: int = 2) -> Placement:
    return Placement(stores=stores, copies=copies, created_at=NOW)


def test_each_shard_has_as_many_holders_as_copies_in_the_placements_order() -> None:
    for digest in DIGESTS:
        chosen = holders(placed(*STORES), digest)
        assert len(set(chosen)) == 2
        assert sorted(chosen, key=STORES.index) == list(chosen)


def test_shards_are_spread_evenly() -> None:
    counts = {url: sum(url in holders(placed(*STORES), digest) for digest in DIGESTS) for url in STORES}
    assert all(150 < count < 250 for count in counts.values()), counts


def test_a_new_store_takes_shards_from_others_and_moves_none_between_them() -> None:
    for digest in DIGESTS:
        before, after = set(holders(placed(*STORES[:3]), digest)), set(holders(placed(*STORES), digest))
        assert after - before <= {STORES[3]}


def test_a_placement_names_each_store_once_and_no_more_copies_than_stores() -> None:
    for bad in (
        b'{"copies":3,"created_at":1.0,"stores":["a","b"]}',
        b'{"copies":1,"created_at":1.0,"stores":["a","a"]}',
        b'{"copies":0,"created_at":1.0,"stores":["a"]}',
        b'{"copies":1,"created_at":1.0,"stores":[]}',
    ):
        with pytest.raises(BadInput):
            read_placement(bad, "a placement")
    good = placed("a", "b")
    assert read_placement(canonical_json(good), "a placement") == good


def test_the_newest_placement_holds_and_without_one_a_copy_at_home(stores: dict[str, Unruly]) -> None:
    home = next(iter(stores.values()))
    assert placement_of(home, "t", NOW) == placed(home.url, copies=1)
    for copies in (1, 2):
        place(home, "t", placed(*stores, copies=copies))
    assert placement_of(home, "t", NOW).copies == 2


def test_a_home_is_not_moved_by_a_placement(stores: dict[str, Unruly]) -> None:
    home, *others = stores.values()
    with pytest.raises(BadInput) as told:
        place(home, "t", placed(*(store.url for store in others)))
    assert told.value.code == "dataset.home"


def test_of_two_who_place_at_once_one_is_told(house: House) -> None:
    home = house.home
    assert isinstance(home, Unruly)
    other = placed(*house.stores, copies=3)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create":
            home.before = lambda verb, key: None
            place(home, "t", other)

    home.before = meanwhile
    with pytest.raises(Conflict):
        place(home, "t", placed(*house.stores, copies=1))
    assert placement_of(home, "t", NOW) == other


def test_more_stores_come_behind_those_that_are_there_with_a_copy_in_each() -> None:
    held = placed("a", copies=1)
    assert changed(held, ["b", "a", "b", "c"], None, NOW) == placed("a", "b", "c", copies=3)
    assert changed(held, ["b", "c"], 2, NOW) == placed("a", "b", "c", copies=2)
    assert changed(placed("a", "b"), [], 1, NOW) == placed("a", "b", copies=1)
    assert changed(placed("a", "b"), ["b"], None, NOW) is None
    assert changed(placed("a", "b", "c"), [], None, NOW) is None
    for more, copies in (([], 2), ([], 0), ([f"s{number}" for number in range(20)], None)):
        with pytest.raises(BadInput) as told:
            changed(held, more, copies, NOW)
        assert told.value.code == "dataset.copies"
