"""What no version refers to is deleted after a grace, and never what one refers to, whoever else is at work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aimass.proto.data_sets import shard_key, version_key
from aimass.proto.errors import IntegrityError, Unavailable, WrongState
from aimass.proto.objects import WRITTEN_S
from aimass.proto.stores.files import FileObjects
from aimass.proto.values import canonical_json
from aimass.server.datasets.care import House, repair
from aimass.server.datasets.collecting import Collected, Grace, collect
from aimass.server.datasets.layout import quarantine_key
from aimass.server.datasets.placement import Placement
from aimass.server.keeping import HOLD_S, MARGIN_S, SWEEP_S, Hold, let_go
from tests.server.datasets.conftest import CONTENTS, NOW, no_limit
from tests.support.stores import Unruly, everything, manifest_of, shard_of, stored

GRACE = Grace(orphans_s=100.0, quarantine_s=1_000.0)
ORPHAN = shard_of(1, b"of a split that nobody resumed")
KEY = shard_key("t", ORPHAN.sha256)


def gc(house: House, now: float, *, dry_run: bool = False) -> Collected:
    return collect("t", house.home, house.stores, lambda: now, GRACE, dry_run=dry_run)


@pytest.fixture
def littered(house: House) -> House:
    """With a shard at home and one elsewhere that no version refers to, and the progress of a split."""
    repair(house, NOW, no_limit, deep=False)
    for store in list(house.stores.values())[:2]:
        store.put(KEY, b"of a split that nobody resumed")
    house.home.put("t/splits/abc/00000001.json", b"{}")
    return house


def documents_and_shards(house: House) -> dict[str, dict[str, bytes]]:
    return {
        url: {key: data for key, data in objects.items() if not key.startswith("t/gc/")}
        for url, objects in everything(house.stores).items()
    }


def test_what_is_unreferenced_is_noted_and_deleted_when_its_grace_is_over(littered: House) -> None:
    before = documents_and_shards(littered)
    assert gc(littered, NOW) == Collected(deleted=0, bytes=0, waiting=3)
    assert gc(littered, NOW + 99) == Collected(deleted=0, bytes=0, waiting=3)
    assert documents_and_shards(littered) == before
    assert gc(littered, NOW + 100) == Collected(deleted=3, bytes=2 * ORPHAN.size + 2, waiting=0)
    gone = {KEY, "t/splits/abc/00000001.json"}
    assert documents_and_shards(littered) == {
        url: {key: data for key, data in objects.items() if key not in gone} for url, objects in before.items()
    }
    assert gc(littered, NOW + 200) == Collected(deleted=0, bytes=0, waiting=0)


def test_a_dry_run_writes_nothing_at_all(littered: House) -> None:
    gc(littered, NOW)
    before = everything(littered.stores)
    assert gc(littered, NOW + 100, dry_run=True) == Collected(deleted=3, bytes=2 * ORPHAN.size + 2, waiting=0)
    assert everything(littered.stores) == before


def test_what_killed_writers_left_goes_a_day_after_the_last_write(tmp_path: Path) -> None:
    store = FileObjects(tmp_path)
    stored(store, "t", CONTENTS)
    house = House("t", Placement(stores=(store.url,), copies=1, created_at=NOW), {store.url: store})
    part = tmp_path / "t" / "shards" / "~0123"
    part.write_bytes(b"half")
    os.utime(part, (NOW, NOW))
    assert gc(house, NOW + WRITTEN_S) == Collected(deleted=0, bytes=0, waiting=0)
    later = NOW + WRITTEN_S + 1
    assert gc(house, later, dry_run=True) == Collected(deleted=0, bytes=0, waiting=0, parts=1)
    assert part.exists()
    assert gc(house, later) == Collected(deleted=0, bytes=0, waiting=0, parts=1)
    assert not part.exists()


def test_what_is_referenced_again_begins_its_grace_anew(littered: House) -> None:
    gc(littered, NOW)
    littered.home.create(version_key("t", 2), canonical_json(manifest_of("t", 2, [ORPHAN])))
    gc(littered, NOW + 50)
    for store in littered.stores.values():
        store.delete(version_key("t", 2))  # nobody does; it stands for any reason to be referenced
    assert gc(littered, NOW + 120).waiting == 2
    assert littered.home.read(KEY)


def test_a_split_that_holds_the_data_set_keeps_everything(littered: House) -> None:
    gc(littered, NOW)
    Hold(littered.home, "t", "job", lambda: NOW + 100)
    with pytest.raises(WrongState) as told:
        gc(littered, NOW + 200)
    assert told.value.code == "keeping.held"
    assert littered.home.read(KEY)
    let_go(littered.home, "t", "job")
    assert gc(littered, NOW + 300).deleted == 3


def test_a_split_into_another_store_than_home_keeps_its_shards_too(littered: House) -> None:
    _, other, _ = littered.stores.values()
    gc(littered, NOW)
    Hold(other, "t", "job", lambda: NOW + 100)
    with pytest.raises(WrongState) as told:
        gc(littered, NOW + 200)
    assert told.value.code == "keeping.held"
    assert other.read(KEY)
    let_go(other, "t", "job")
    assert gc(littered, NOW + 300).deleted == 3
    Hold(other, "t", "job", lambda: NOW + 300)  # no sweep is left standing there


def test_the_hold_of_a_split_that_was_killed_ends_by_the_clock(littered: House) -> None:
    gc(littered, NOW)
    Hold(littered.home, "t", "job", lambda: NOW)
    with pytest.raises(WrongState):
        gc(littered, NOW + HOLD_S + MARGIN_S - 1)
    assert gc(littered, NOW + HOLD_S + MARGIN_S).deleted == 3


def test_a_hold_is_renewed_when_half_of_it_is_gone(house: House) -> None:
    now, home = [NOW], house.home
    assert isinstance(home, Unruly)
    hold = Hold(home, "t", "job", lambda: now[0])
    home.asked = {}
    now[0] = NOW + HOLD_S / 2 - 1
    hold.keep()
    assert home.asked == {}
    now[0] = NOW + HOLD_S / 2 + 1
    hold.keep()
    assert home.asked["create"] == 1
    now[0] = NOW + HOLD_S + 2
    hold.keep()


def test_who_slept_beyond_its_hold_is_told_since_its_shards_may_be_gone(house: House) -> None:
    now = [NOW]
    hold = Hold(house.home, "t", "job", lambda: now[0])
    now[0] = NOW + HOLD_S
    with pytest.raises(WrongState) as told:
        hold.keep()
    assert told.value.code == "keeping.hold_lost"


def test_a_version_that_is_committed_after_the_look_and_before_the_sweep_keeps_its_shards(littered: House) -> None:
    """A split takes up a shard that stands, commits and lets go, all between the collector's look and its sweep."""
    gc(littered, NOW)
    home = littered.home
    assert isinstance(home, Unruly)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "create" and key.startswith("t/gc/"):
            home.before = then
            Hold(home, "t", "job", lambda: NOW + 100)
            home.create(version_key("t", 2), canonical_json(manifest_of("t", 2, [ORPHAN])))
            let_go(home, "t", "job")

    def then(verb: str, key: str) -> None:
        """Once is enough."""

    # The first state that this pass commits is what it noticed; the second begins the sweep.
    gc(littered, NOW + 99.5)
    home.before = meanwhile
    assert gc(littered, NOW + 100).deleted == 1  # the progress of the split that was given up
    assert home.read(KEY)


@pytest.mark.parametrize("other", ["split", "collector"])
def test_while_somebody_deletes_nobody_else_begins(littered: House, other: str) -> None:
    gc(littered, NOW)
    home = littered.home
    assert isinstance(home, Unruly)
    told: list[str] = []

    def begin() -> None:
        if other == "split":
            Hold(home, "t", "job", lambda: NOW + 100)
        else:
            gc(littered, NOW + 100)

    def meanwhile(verb: str, key: str) -> None:
        if verb == "delete" and key == KEY:
            home.before = lambda verb, key: None
            with pytest.raises(WrongState) as refused:
                begin()
            told.append(refused.value.code)

    home.before = meanwhile
    assert gc(littered, NOW + 100).deleted == 3
    assert told == ["keeping.sweeping"]
    begin()  # and when it is done, one may


def test_a_collector_that_was_killed_stands_in_the_way_for_minutes(littered: House) -> None:
    gc(littered, NOW)
    home = littered.home
    assert isinstance(home, Unruly)

    def killed(verb: str, key: str) -> None:
        if verb == "delete" and key == KEY:
            home.away = True  # nothing reaches the store any more, the end of the sweep neither

    home.before = killed
    with pytest.raises(Unavailable):
        gc(littered, NOW + 100)
    home.before, home.away = lambda verb, key: None, False
    with pytest.raises(WrongState):
        Hold(home, "t", "job", lambda: NOW + 100 + SWEEP_S)
    Hold(home, "t", "job", lambda: NOW + 100 + SWEEP_S + MARGIN_S)


def test_a_collector_that_slept_deletes_nothing_when_it_wakes(littered: House) -> None:
    gc(littered, NOW)
    home = littered.home
    assert isinstance(home, Unruly)
    now = [NOW + 100]

    def asleep(verb: str, key: str) -> None:
        if verb == "list" and now[0] == NOW + 100 and home.asked.get("create", 0) > created:
            now[0] += SWEEP_S

    created = home.asked.get("create", 0)
    home.before = asleep
    found = collect("t", home, littered.stores, lambda: now[0], GRACE, dry_run=False)
    assert (found.deleted, found.stopped) == (0, "dataset.gc_late")
    assert home.read(KEY)


def test_a_store_that_is_away_is_left_for_another_time_and_the_home_has_to_answer(littered: House) -> None:
    home, other, _ = littered.stores.values()
    assert isinstance(home, Unruly)
    assert isinstance(other, Unruly)
    gc(littered, NOW)
    other.away = True
    assert gc(littered, NOW + 100).deleted == 2
    other.away, home.away = False, True
    with pytest.raises(Unavailable):
        gc(littered, NOW + 300)
    home.away = False
    assert gc(littered, NOW + 400).waiting == 1  # noted anew: nobody had seen it for a while
    assert gc(littered, NOW + 500).deleted == 1


def test_a_version_that_cannot_be_read_may_refer_to_anything(littered: House) -> None:
    gc(littered, NOW)
    for store in littered.stores.values():
        store.put(version_key("t", 1), b"{")
    with pytest.raises(IntegrityError) as told:
        gc(littered, NOW + 100)
    assert told.value.code == "dataset.document_damaged"


def test_a_version_that_is_not_listed_yet_keeps_its_shards(littered: House) -> None:
    gc(littered, NOW)
    home = littered.home
    assert isinstance(home, Unruly)
    home.create(version_key("t", 2), canonical_json(manifest_of("t", 2, [ORPHAN])))
    home.unlisted = {version_key("t", 2)}
    assert gc(littered, NOW + 100).deleted == 1
    assert home.read(KEY)


def test_quarantine_is_kept_for_longer(littered: House) -> None:
    key = quarantine_key("t", shard_of(1, CONTENTS[0]).sha256, "0" * 64)
    littered.home.put(key, b"evidence")
    gc(littered, NOW)
    assert gc(littered, NOW + 100).deleted == 3
    assert gc(littered, NOW + 999).waiting == 1
    assert gc(littered, NOW + 1_000).deleted == 1
