"""A split that is cut off anywhere is gone on with, to the same bits, and nobody sees half of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.proto.errors import Unavailable
from aimass.proto.objects import ObjectInfo, ObjectStore, open_objects
from aimass.server.datasets.catalogue import Catalogue
from tests.support.data_sets import make, toy_rows, write_csv


class Breaking:
    """A store that is away from its `left`th new shard on; it counts those that were written."""

    def __init__(self, store: ObjectStore, left: int) -> None:
        self._store, self.left, self.written = store, left, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes | memoryview) -> ObjectInfo:
        if "/shards/" in key:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("the store is away", code="storage.unavailable")
            self.written += 1
        return self._store.create(key, data)


@pytest.mark.parametrize("rule", ["rows:5", "stratified:3"])
def test_killed_before_or_after_any_change_it_ends_in_the_same_version(tmp_path: Path, rule: str) -> None:
    file = write_csv(tmp_path / "toy.csv", toy_rows(14))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_split", str(file), str(tmp_path), rule],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    # The hold, entries, shards, the commit, entries that are forgotten, the hold's end; and one without a kill.
    assert len(lives) == 2 * (1 + 3 + 3 + 1 + 3 + 1) + 1
    assert [life["killed"] for life in lives] == [True] * (len(lives) - 1) + [False]
    assert all(life["made"] == lives[-1]["made"] for life in lives)
    assert all(life["left"] == 0 for life in lives)
    # Committed or not: what stands after a kill is whole, and is found by the same command.
    assert all(life["stood"] == (not life["fresh"]) for life in lives)
    assert {life["stood"] for life in lives} == {0, 1}


def test_shards_that_stand_are_not_written_again(tmp_path: Path) -> None:
    store = open_objects(f"file://{tmp_path}/store")
    file = write_csv(tmp_path / "toy.csv", toy_rows(35))
    first = Breaking(store, 2)
    with pytest.raises(Unavailable):
        make(first, [file], tmp_path / "a")  # type: ignore[arg-type]
    assert Catalogue(store).versions("toy") == ()
    second = Breaking(store, 9)
    made = make(second, [file], tmp_path / "b").manifest  # type: ignore[arg-type]
    assert (first.written, second.written, len(made.shards)) == (2, 2, 4)


def test_a_shard_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    store = open_objects(f"file://{tmp_path}/store")
    file = write_csv(tmp_path / "toy.csv", toy_rows(35))
    with pytest.raises(Unavailable):
        make(Breaking(store, 2), [file], tmp_path / "a")  # type: ignore[arg-type]
    keys = [info.key for info in store.list("toy/shards/")]
    store.put(keys[0], b"cut")
    store.delete(keys[1])
    made = make(store, [file], tmp_path / "b").manifest
    sizes = {info.key: info.size for info in store.list("toy/shards/")}
    assert sorted(sizes.values()) == sorted(shard.size for shard in made.shards)
