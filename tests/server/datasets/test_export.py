"""Shards leave a store as the folders that partners and simulations read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from aimass.client.shards import open_shard, resolve
from aimass.proto.data_sets import shard_key, shard_manifest
from aimass.proto.errors import AimassError, BadInput, Conflict, IntegrityError
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.sharding import load_shards, manifest_of
from aimass.server.datasets.export import chosen, export
from aimass.server.datasets.replicas import Replicas
from tests.support.data_sets import TOY, made_of, make, toy_rows, write_csv


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_objects(f"file://{tmp_path}/store")


def copies(*stores: ObjectStore) -> Replicas:
    return Replicas("toy", stores, lambda: 0.0)


@pytest.mark.parametrize("held_out_by", ["stratified", "independent"])
def test_a_partner_trains_and_holds_out_the_rows_that_an_offline_run_does(
    store: ObjectStore, tmp_path: Path, held_out_by: str
) -> None:
    file = write_csv(tmp_path / "toy.csv", toy_rows(60))
    data_set = make(store, [file], tmp_path / "s", "rows:20", held_out_by=held_out_by, person="who").manifest
    made = export(copies(store), data_set, data_set.shards, tmp_path / "out")
    assert load_shards(tmp_path / "out") == made
    assert made.partners == ("p000001", "p000002", "p000003")
    for entry in data_set.shards:
        manifest = manifest_of(tmp_path / "out", entry.participant)
        (path,) = resolve(manifest, tmp_path / "out" / entry.participant)
        with path.open("rb") as held:
            partner, _ = open_shard(TOY, manifest, [held])
        data = io.BytesIO(store.read(shard_key("toy", entry.sha256)))
        offline, _ = open_shard(TOY, shard_manifest(data_set, entry, "x"), [data])
        for one, other in ((partner.train, offline.train), (partner.held_out, offline.held_out)):
            assert np.array_equal(one.numbers, other.numbers, equal_nan=True)
            assert (one.labels == other.labels).all()
        assert np.array_equal(partner.persons, offline.persons)  # type: ignore[arg-type]


def test_the_same_again_leaves_the_folder_and_others_are_a_conflict(store: ObjectStore, tmp_path: Path) -> None:
    data_set = made_of(store, tmp_path)
    for _ in range(2):
        export(copies(store), data_set, chosen(data_set, "1,3-4"), tmp_path / "out")
    assert load_shards(tmp_path / "out").partners == ("p000001", "p000003", "p000004")
    with pytest.raises(Conflict) as told:
        export(copies(store), data_set, chosen(data_set, "2"), tmp_path / "out")
    assert told.value.code == "dataset.exported"


def test_a_shard_that_has_changed_is_not_exported(store: ObjectStore, tmp_path: Path) -> None:
    data_set = made_of(store, tmp_path)
    key = shard_key("toy", data_set.shards[1].sha256)
    whole = store.read(key)
    for changed in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], whole + b"x"):
        store.put(key, changed)
        with pytest.raises(IntegrityError):
            export(copies(store), data_set, data_set.shards, tmp_path / "out")
    store.delete(key)
    with pytest.raises(AimassError) as refused:
        export(copies(store), data_set, data_set.shards, tmp_path / "out")
    assert refused.value.code == "storage.unknown"
    with pytest.raises(AimassError, match="not all of them"):
        load_shards(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "0", "5", "2-1", "1-", "a", "1,,2", "1-5"])
def test_shards_that_are_not_there_are_refused(store: ObjectStore, tmp_path: Path, text: str) -> None:
    data_set = made_of(store, tmp_path)
    with pytest.raises(BadInput) as refused:
        chosen(data_set, text)
    assert refused.value.code == "dataset.shards"


def test_where_one_store_has_no_true_copy_the_next_is_asked(store: ObjectStore, tmp_path: Path) -> None:
    data_set = made_of(store, tmp_path)
    other = open_objects(f"file://{tmp_path}/other")
    for shard in data_set.shards:
        other.create(shard_key("toy", shard.sha256), store.read(shard_key("toy", shard.sha256)))
    store.put(shard_key("toy", data_set.shards[0].sha256), b"lies")
    store.delete(shard_key("toy", data_set.shards[1].sha256))
    assert len(export(copies(store, other), data_set, data_set.shards, tmp_path / "out").shards) == 4
