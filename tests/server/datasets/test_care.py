"""Verifying, replicating and repairing a data set over stores that are away, full, or hold other bytes."""

from __future__ import annotations

import pytest

from aimass.proto.data_sets import shard_key, version_key
from aimass.proto.errors import NotFound, Stopped, Unavailable
from aimass.proto.values import canonical_json
from aimass.server.datasets.care import House, open_house, repair, verify
from aimass.server.datasets.layout import quarantine_key
from aimass.server.datasets.placement import holders
from aimass.server.datasets.replicas import Replicas
from tests.server.datasets.conftest import CONTENTS, NOW, no_limit
from tests.support.stores import Unruly, everything, manifest_of, shard_of, stored

SHARDS = [shard_of(number, data) for number, data in enumerate(CONTENTS, start=1)]


def damage(house: House, number: int, data: bytes | None) -> tuple[Unruly, str]:
    """Put `data` over the first copy of a shard, or nothing: the store and the key."""
    shard = SHARDS[number]
    store = house.stores[holders(house.placement, shard.sha256)[0]]
    key = shard_key("t", shard.sha256)
    store.delete(key)
    if data is not None:
        store.put(key, data)
    assert isinstance(store, Unruly)
    return store, key


@pytest.fixture
def replicated(house: House) -> House:
    assert repair(house, NOW, no_limit, deep=False).whole
    return house


def test_replicating_makes_every_copy_and_a_second_time_makes_none(house: House) -> None:
    before = verify(house, NOW, None)
    assert not before.whole
    assert len(before.survey.under_replicated) == len(SHARDS)
    first = repair(house, NOW, no_limit, deep=False)
    assert first.whole
    assert {one.outcome for one in first.mended} == {"copied"}
    for shard in SHARDS:
        found = {url for url, keys in everything(house.stores).items() if shard_key("t", shard.sha256) in keys}
        assert found >= set(holders(house.placement, shard.sha256))
    again = repair(house, NOW, no_limit, deep=True)
    assert again.whole
    assert (again.mended, again.survey.good) == ((), 2 * len(SHARDS))
    assert verify(house, NOW, no_limit).whole


def test_every_store_alone_leads_to_the_data_set(replicated: House) -> None:
    for url in replicated.stores:
        assert open_house("t", [url], NOW, replicated.stores.__getitem__).placement == replicated.placement


def test_a_changed_copy_is_found_by_its_bytes_quarantined_and_replaced(replicated: House) -> None:
    bad = b"x" + CONTENTS[2][1:]
    store, key = damage(replicated, 2, bad)
    assert verify(replicated, NOW, None).whole  # its size says nothing
    report = verify(replicated, NOW, no_limit)
    assert (report.survey.false, report.survey.under_replicated) == (1, (SHARDS[2].sha256,))
    assert store.inner.read(key) == bad
    report = repair(replicated, NOW, no_limit, deep=True)
    assert report.whole
    assert store.read(key) == CONTENTS[2]
    kept = quarantine_key("t", SHARDS[2].sha256, shard_of(1, bad).sha256)
    assert [one.quarantined for one in report.mended] == [kept]
    assert store.read(kept) == bad


@pytest.mark.parametrize("bad", [None, b"", b"too short", CONTENTS[3] + b"longer"])
def test_a_copy_that_is_missing_or_of_another_size_is_made_good_without_reading_all(
    replicated: House, bad: bytes | None
) -> None:
    store, key = damage(replicated, 3, bad)
    report = repair(replicated, NOW, no_limit, deep=False)
    assert report.whole
    assert len(report.mended) == 1
    assert store.read(key) == CONTENTS[3]


def test_no_copy_is_made_from_one_that_lies(house: House) -> None:
    """All but one shard are at home only, and the home's copy of one has changed in its bytes and not in its size."""
    home, shard = house.home, SHARDS[1]
    home.put(shard_key("t", shard.sha256), b"x" * shard.size)
    report = repair(house, NOW, no_limit, deep=False)
    failed = [one for one in report.mended if one.outcome == "failed"]
    assert {one.code for one in failed} == {"dataset.shard_changed"}
    assert not report.whole
    others = [store for store in house.stores.values() if store is not home]
    assert not any(info.key == shard_key("t", shard.sha256) for store in others for info in store.list())
    report = repair(house, NOW, no_limit, deep=True)
    assert report.left.lost == (shard.sha256,)
    assert home.read(shard_key("t", shard.sha256)) == b"x" * shard.size


def test_with_a_store_away_the_rest_is_looked_after(replicated: House) -> None:
    away = list(replicated.stores.values())[1]
    assert isinstance(away, Unruly)
    away.away, away.asked = True, {}
    report = verify(replicated, NOW, no_limit)
    assert report.survey.away == (away.url,)
    assert set(report.survey.under_replicated) == {
        shard.sha256 for shard in SHARDS if away.url in holders(replicated.placement, shard.sha256)
    }
    assert report.survey.lost == report.survey.unknown == ()
    assert away.asked["head"] <= 2  # it is not waited for once for each shard
    reader = Replicas("t", tuple(replicated.stores.values()), lambda: NOW)
    assert [reader.read(shard) for shard in SHARDS] == list(CONTENTS)


def test_a_store_that_comes_back_is_asked_again(replicated: House) -> None:
    away = list(replicated.stores.values())[1]
    assert isinstance(away, Unruly)

    def once(verb: str, key: str) -> None:
        if verb == "head":
            away.before = lambda verb, key: None
            raise Unavailable("for a moment", code="storage.unavailable")

    away.before, away.asked = once, {}
    report = verify(replicated, NOW, no_limit)
    held = sum(away.url in holders(replicated.placement, shard.sha256) for shard in SHARDS)
    assert away.asked["head"] == max(1, held - 8)  # one was lost, and eight were not asked for
    assert len(report.survey.under_replicated) == min(9, held)


def test_what_may_stand_in_a_store_that_is_away_is_not_lost(house: House) -> None:
    home = house.home
    assert isinstance(home, Unruly)
    repaired = repair(house, NOW, no_limit, deep=False)
    assert repaired.whole
    shard = next(s for s in SHARDS if holders(house.placement, s.sha256)[0] == home.url)
    home.away = True
    for url, store in house.stores.items():
        if url != home.url:
            store.delete(shard_key("t", shard.sha256))
    report = verify(house, NOW, None)
    assert shard.sha256 in report.survey.unknown
    assert report.survey.lost == ()


def test_a_full_store_is_told_and_the_others_are_mended(house: House) -> None:
    full = list(house.stores.values())[2]
    assert isinstance(full, Unruly)
    full.full = True
    report = repair(house, NOW, no_limit, deep=False)
    assert {(one.store, one.code) for one in report.mended if one.outcome == "failed"} == {(full.url, "storage.space")}
    assert any(one.outcome == "copied" for one in report.mended)
    assert not report.whole
    full.full = False
    assert repair(house, NOW, no_limit, deep=False).whole


def test_who_stops_a_repair_finds_what_was_done_the_next_time(house: House) -> None:
    left = [3]

    def spend(size: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        repair(house, NOW, spend, deep=False)
    again = repair(house, NOW, no_limit, deep=False)
    assert again.whole
    assert again.survey.good == 2 * len(SHARDS) - len(again.mended)


def test_a_lost_or_edited_document_is_made_good_from_a_store_that_has_it(replicated: House) -> None:
    home, key = replicated.home, version_key("t", 1)
    good = home.read(key)
    home.put(key, good.replace(b"CC BY 4.0", b"CC BY 4.0\0"))
    report = verify(replicated, NOW, None)
    assert report.documents.incomplete == (key,)
    assert repair(replicated, NOW, no_limit, deep=False).documents.mirrored == (key,)
    assert home.read(key) == good
    home.delete(key)
    assert repair(replicated, NOW, no_limit, deep=False).whole
    assert home.read(key) == good


def test_two_well_formed_versions_that_contradict_each_other_wait_for_a_person(replicated: House) -> None:
    key = version_key("t", 1)
    edited, true = canonical_json(manifest_of("t", 1, SHARDS[:3])), replicated.home.read(key)
    replicated.home.put(key, edited)
    report = repair(replicated, NOW, no_limit, deep=False)
    assert report.documents.disputed == (key,)
    assert not report.whole
    assert report.survey.shards == len(SHARDS)  # the shards of both are looked after
    assert [store.read(key) for store in replicated.stores.values()] == [edited, true, true]


def test_a_document_that_nobody_can_read_is_told(house: House) -> None:
    stored(house.home, "t", CONTENTS[:2], version=2)
    house.home.put(version_key("t", 1), b"{")
    report = repair(house, NOW, no_limit, deep=False)
    assert report.documents.damaged == (version_key("t", 1),)
    assert report.survey.shards == 2


def test_one_version_alone_is_looked_at_where_it_is_named(house: House) -> None:
    stored(house.home, "t", CONTENTS[:2], version=2)
    assert verify(house, NOW, None, version=2).survey.shards == 2
    assert verify(house, NOW, None).survey.shards == len(SHARDS)
    with pytest.raises(NotFound):
        verify(house, NOW, None, version=3)


def test_a_house_is_opened_through_the_first_store_that_answers(replicated: House) -> None:
    home, *others = replicated.stores.values()
    assert isinstance(home, Unruly)
    home.away = True
    urls = list(replicated.stores)
    assert open_house("t", urls, NOW, replicated.stores.__getitem__).placement == replicated.placement
    with pytest.raises(Unavailable):
        open_house("t", urls[:1], NOW, replicated.stores.__getitem__)
    with pytest.raises(NotFound):
        open_house("other", [store.url for store in others], NOW, replicated.stores.__getitem__)


def test_progress_is_told_by_copies(house: House) -> None:
    told: list[tuple[int, int]] = []
    verify(house, NOW, None, heard=lambda done, of: told.append((done, of)))
    assert told[-1] == (2 * len(SHARDS), 2 * len(SHARDS))
