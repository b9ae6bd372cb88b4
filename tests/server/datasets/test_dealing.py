"""Rows are dealt to shards by what they are: each rule keeps together, or spreads, what it says."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from aimass.proto.data_sets import DataSetManifest, read_rule, shard_key
from aimass.proto.errors import AimassError, BadInput, LimitExceeded
from aimass.proto.manifest import Number, Schema
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.datasets.dealing import dealer_of
from aimass.server.datasets.shuffle import Shuffle
from aimass.server.datasets.sources import Reading
from tests.support.data_sets import TOY, make, toy_rows, write_csv


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_objects(f"file://{tmp_path}/store")


def shards_of(store: ObjectStore, data_set: DataSetManifest) -> list[list[dict[str, Any]]]:
    return [
        parquet.read_table(io.BytesIO(store.read(shard_key(data_set.name, shard.sha256)))).to_pylist()
        for shard in data_set.shards
    ]


def typed_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As a shard has them."""
    return [
        {
            "age": float(row["age"]) if row["age"] != "" else None,
            "dose": row["dose"],
            "ward": row["ward"] or None,
            "ill": row["ill"],
        }
        for row in rows
    ]


def keys(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, row.values()))


@pytest.mark.parametrize("rule", ["hash:4", "stratified:4", "group:ward", "group:who:3", "group:who"])
def test_each_row_stands_in_one_shard_in_the_order_of_the_source(store: ObjectStore, tmp_path: Path, rule: str) -> None:
    rows = toy_rows(60)
    data_set = make(store, [write_csv(tmp_path / "a.csv", rows)], tmp_path / "s", rule).manifest
    found = shards_of(store, data_set)
    expected = typed_rows(rows)
    assert Counter(keys(row) for shard in found for row in shard) == Counter(map(keys, expected))
    for shard in found:
        places = [next(place for place, row in enumerate(expected) if row == each) for each in shard]
        assert places == sorted(places)


@pytest.mark.parametrize("rule", ["hash:3", "stratified:3", "group:who:3", "group:ward"])
def test_shards_do_not_depend_on_how_much_is_read_at_once(store: ObjectStore, tmp_path: Path, rule: str) -> None:
    paths = [write_csv(tmp_path / f"{number}.csv", toy_rows(40, number)) for number in (1, 2)]
    made = [
        make(store, paths, tmp_path / f"s{size}", rule, name=f"toy{size}", reading=Reading(block_bytes=size)).manifest
        for size in (200, 1_000, 1 << 20)
    ]
    assert made[0].shards == made[1].shards == made[2].shards


def test_another_seed_deals_otherwise(store: ObjectStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(60))
    for rule in ("hash:4", "group:who:4"):
        sizes = {
            tuple(
                shard.rows for shard in make(store, [path], tmp_path / f"{rule}{seed}", rule, seed=seed).manifest.shards
            )
            for seed in range(3)
        }
        assert len(sizes) == 3


def test_equal_rows_stand_together_by_hash_so_that_none_leaks_between_shards(
    store: ObjectStore, tmp_path: Path
) -> None:
    rows = toy_rows(30)
    data_set = make(store, [write_csv(tmp_path / "a.csv", rows * 3)], tmp_path / "s", "hash:4").manifest
    found = shards_of(store, data_set)
    assert len(found) > 1
    places = [{keys(row) for row in shard} for shard in found]
    assert all(not one & other for one in places for other in places if one is not other)


def test_a_group_stays_together_and_shards_are_in_the_order_of_their_texts(store: ObjectStore, tmp_path: Path) -> None:
    rows = toy_rows(60)
    data_set = make(store, [write_csv(tmp_path / "a.csv", rows)], tmp_path / "s", "group:ward").manifest
    assert [{row["ward"] for row in shard} for shard in shards_of(store, data_set)] == [
        {None},
        {"north"},
        {"south"},
        {"west"},
    ]


def test_a_column_beside_the_schema_groups_rows_and_goes_no_further(store: ObjectStore, tmp_path: Path) -> None:
    rows = toy_rows(30)
    data_set = make(store, [write_csv(tmp_path / "a.csv", rows)], tmp_path / "s", "group:who").manifest
    assert [shard.rows for shard in data_set.shards] == [
        count for _, count in sorted(Counter(row["who"] for row in rows).items())
    ]
    assert all("who" not in row for shard in shards_of(store, data_set) for row in shard)
    with pytest.raises(BadInput) as refused:
        make(store, [tmp_path / "a.csv"], tmp_path / "t", "group:nobody")
    assert refused.value.code == "rows.columns"


def test_stratified_shards_have_each_label_in_equal_numbers_to_one(store: ObjectStore, tmp_path: Path) -> None:
    rows = sorted(toy_rows(61), key=lambda row: str(row["ill"]))
    data_set = make(store, [write_csv(tmp_path / "a.csv", rows)], tmp_path / "s", "stratified:4").manifest
    for label in ("no", "yes"):
        counts = [shard.labels[label] for shard in data_set.shards]
        assert max(counts) - min(counts) <= 1


def test_a_label_that_is_a_number_is_not_stratified() -> None:
    schema = Schema(name="t/1", columns=TOY.columns, label=Number(name="y", minimum=0, maximum=1))
    with pytest.raises(BadInput) as refused:
        dealer_of(read_rule("stratified:2"), schema)
    assert refused.value.code == "dataset.rule"


@pytest.mark.parametrize(
    ("rule", "named"), [("group:ward", "'"), ("hash:2", "by hash"), ("stratified:2", "stratified")]
)
def test_what_has_to_stay_together_and_is_too_much_is_named(
    store: ObjectStore, tmp_path: Path, rule: str, named: str
) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(60))
    with pytest.raises(LimitExceeded) as refused:
        make(store, [path], tmp_path / "s", rule, bounds=(5, None))
    assert refused.value.code == "dataset.shard_limit"
    assert named in str(refused.value.value)


def test_more_shards_than_rows_leave_no_empty_one(store: ObjectStore, tmp_path: Path) -> None:
    data_set = make(store, [write_csv(tmp_path / "a.csv", toy_rows(3))], tmp_path / "s", "stratified:50").manifest
    assert [shard.rows for shard in data_set.shards] == [1, 1, 1]


def test_rows_of_a_key_come_back_in_their_order_from_many_runs(tmp_path: Path) -> None:
    from aimass.proto.rows import read_table

    with write_csv(tmp_path / "a.csv", toy_rows(50)).open("rb") as file:
        table = read_table(TOY, [file], "csv", "who")
    given = np.arange(50) % 3
    shuffle = Shuffle(tmp_path / "s", "who", 100, 10_000, buffer_bytes=1)
    for start in range(0, 50, 7):
        shuffle.add(table.take(slice(start, start + 7)), given[start : start + 7])
    shuffle.flush()
    assert len(list((tmp_path / "s").iterdir())) == 8
    for key in range(3):
        found, wanted = shuffle.take(key), table.take(given == key)
        assert all(
            np.array_equal(found.columns[name], wanted.columns[name], equal_nan=name in ("age", "dose"))
            for name in wanted.columns
        )
        assert found.persons is not None
        assert found.persons.tolist() == wanted.persons.tolist()  # type: ignore[union-attr]


def test_a_column_of_persons_and_of_groups_may_be_one(store: ObjectStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(40))
    data_set = make(store, [path], tmp_path / "s", "group:who:3", person="who").manifest
    found = [{row["who"] for row in shard} for shard in shards_of(store, data_set)]
    assert all(not one & other for one in found for other in found if one is not other)
    with pytest.raises(AimassError):
        make(store, [path], tmp_path / "t", person="ward")
