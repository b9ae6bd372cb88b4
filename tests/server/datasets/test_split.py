"""A data set is cut into the same shards however its rows come, and stands whole or not at all."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from aimass.client.shards import open_shard
from aimass.proto.data_sets import DataSetManifest, read_name, shard_key, shard_manifest, version_key
from aimass.proto.errors import AimassError, BadInput, Conflict, LimitExceeded, OutOfSpace
from aimass.proto.objects import ObjectInfo, ObjectStore, open_objects
from aimass.proto.rows import read_table
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.placement import Placement, place
from aimass.server.datasets.sources import Reading
from tests.support.data_sets import TOY, made_of, make, toy_rows, write_csv


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_objects(f"file://{tmp_path}/store")


def rows_in(store: ObjectStore, data_set: DataSetManifest) -> list[dict[str, object]]:
    tables = [
        parquet.read_table(io.BytesIO(store.read(shard_key(data_set.name, shard.sha256)))) for shard in data_set.shards
    ]
    rows: list[dict[str, object]] = pa.concat_tables(tables).to_pylist()
    return rows


def test_a_version_holds_every_row_in_its_order(store: ObjectStore, tmp_path: Path) -> None:
    rows = toy_rows(35)
    data_set = made_of(store, tmp_path)
    assert [shard.rows for shard in data_set.shards] == [10, 10, 10, 5]
    expected = [
        {
            "age": float(row["age"]) if row["age"] != "" else None,
            "dose": row["dose"],
            "ward": row["ward"] or None,
            "ill": row["ill"],
        }
        for row in rows
    ]
    assert rows_in(store, data_set) == expected
    assert data_set.labels == {label: sum(row["ill"] == label for row in rows) for label in ("no", "yes")}
    assert Catalogue(store).open(read_name("toy")) == data_set


def test_a_shard_is_named_by_its_bytes_and_opened_by_a_partners_own_reader(store: ObjectStore, tmp_path: Path) -> None:
    data_set = made_of(store, tmp_path)
    for shard in data_set.shards:
        data = store.read(shard_key("toy", shard.sha256))
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.size, shard.sha256)
        opened, report = open_shard(TOY, shard_manifest(data_set, shard, "x.parquet"), [io.BytesIO(data)])
        assert (report.rows, opened.participant) == (shard.rows, shard.participant)


@pytest.mark.parametrize("rule", ["rows:7", "size:300", "files"])
def test_the_shards_do_not_depend_on_how_much_is_read_at_once(store: ObjectStore, tmp_path: Path, rule: str) -> None:
    paths = [write_csv(tmp_path / f"{number}.csv", toy_rows(40, number)) for number in (1, 2)]
    made = [
        make(store, paths, tmp_path / f"scratch{rows}", rule, name=f"toy{rows}", reading=Reading(rows, block)).manifest
        for rows, block in ((1, 200), (3, 1_000), (1_000, 1 << 20))
    ]
    assert made[0].shards == made[1].shards == made[2].shards
    assert made[0].statistics == made[1].statistics == made[2].statistics


def test_equal_rows_give_equal_shards_from_csv_and_from_parquet(store: ObjectStore, tmp_path: Path) -> None:
    rows = toy_rows(40)
    text = write_csv(tmp_path / "rows.csv", rows)
    typed = [{**row, "age": None if row["age"] == "" else row["age"], "ward": row["ward"] or None} for row in rows]
    parquet.write_table(pa.Table.from_pylist(typed), tmp_path / "rows.parquet", row_group_size=9)
    one, other = (
        make(store, [path], tmp_path / path.suffix, name=path.suffix[1:]).manifest
        for path in (text, tmp_path / "rows.parquet")
    )
    assert one.shards == other.shards


def test_rows_stand_once_where_versions_share_them(store: ObjectStore, tmp_path: Path) -> None:
    first = make(store, [write_csv(tmp_path / "a.csv", toy_rows(20))], tmp_path / "s1").manifest
    more = [*toy_rows(20), *toy_rows(15, seed=1)]
    second = make(store, [write_csv(tmp_path / "b.csv", more)], tmp_path / "s2").manifest
    assert (second.version, second.lineage.parent) == (2, 1)
    assert second.shards[:2] == first.shards
    assert len(list(store.list("toy/shards/"))) == len(second.shards) == 4


def test_the_same_again_finds_its_version(store: ObjectStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(20))
    made = [make(store, [path], tmp_path / "s", now=now) for now in (1.0, 2.0)]
    assert (made[0].fresh, made[1].fresh) == (True, False)
    assert made[0].manifest == made[1].manifest
    assert Catalogue(store).versions("toy") == (1,)


def test_a_version_that_is_committed_leaves_no_progress(store: ObjectStore, tmp_path: Path) -> None:
    made_of(store, tmp_path)
    assert not list(store.list("toy/splits/"))


def test_one_row_is_a_data_set_and_none_is_not(store: ObjectStore, tmp_path: Path) -> None:
    assert made_of(store, tmp_path, 1).rows == 1
    with pytest.raises(BadInput, match="no rows"):
        make(store, [write_csv(tmp_path / "empty.csv", [])], tmp_path / "s")
    (tmp_path / "nothing.csv").touch()
    with pytest.raises(BadInput) as refused:
        make(store, [tmp_path / "nothing.csv"], tmp_path / "s")
    assert refused.value.code == "rows.unreadable"
    assert Catalogue(store).versions("toy") == (1,)


def test_a_column_of_all_missing_is_counted_so(store: ObjectStore, tmp_path: Path) -> None:
    rows = [{**row, "age": "", "ward": ""} for row in toy_rows(12)]
    data_set = make(store, [write_csv(tmp_path / "a.csv", rows)], tmp_path / "s").manifest
    age, _, ward, _ = map(msgspec.to_builtins, data_set.statistics)
    assert (age["present"], age["missing"], age["minimum"]) == (0, 12, None)
    assert (ward["present"], ward["missing"]) == (0, 12)
    assert {row["age"] for row in rows_in(store, data_set)} == {None}


def test_rows_that_do_not_fit_are_named_by_file_and_row_and_nothing_is_committed(
    store: ObjectStore, tmp_path: Path
) -> None:
    rows = [*toy_rows(20), {**toy_rows(1)[0], "dose": "11"}, {**toy_rows(1)[0], "ill": ""}]
    good, bad = write_csv(tmp_path / "good.csv", toy_rows(20)), write_csv(tmp_path / "bad.csv", rows)
    with pytest.raises(BadInput) as refused:
        make(store, [good, bad], tmp_path / "s", reading=Reading(block_bytes=200))
    assert refused.value.code == "dataset.rows"
    assert "bad.csv row 21, dose: lies outside -10 to 10" in str(refused.value)
    assert "11" not in str(refused.value).replace("21", "")
    assert Catalogue(store).versions("toy") == ()


def test_a_file_larger_than_a_shard_may_be_is_no_shard(store: ObjectStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(20))
    with pytest.raises(LimitExceeded) as refused:
        make(store, [path], tmp_path / "s", "files", bounds=(19, None))
    assert refused.value.code == "dataset.shard_limit"
    with pytest.raises(LimitExceeded) as refused:
        make(store, [path], tmp_path / "s", bounds=(None, 8))
    assert refused.value.code == "dataset.row_size"


def test_a_file_that_is_written_to_while_it_is_read_is_not_committed(store: ObjectStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(20))
    from aimass.server.datasets.sources import open_sources

    (opened,) = open_sources([path])
    write_csv(path, toy_rows(21))
    with pytest.raises(Conflict) as refused:
        list(opened.batches(TOY, None, Reading()))
    assert refused.value.code == "dataset.source_changed"


def test_two_splitters_on_one_name_are_told_apart(store: ObjectStore, tmp_path: Path) -> None:
    first = made_of(store, tmp_path)
    catalogue = Catalogue(store)
    with pytest.raises(Conflict) as told:
        catalogue.commit(
            msgspec.structs.replace(first, lineage=msgspec.structs.replace(first.lineage, job="e" * 64), licence="mine")
        )
    assert told.value.code == "dataset.committed"
    # The same job, whose answer was lost or whose twin was faster, has its version.
    assert catalogue.commit(msgspec.structs.replace(first, created_at=7.0)) == first


class Racing:
    """A store on which somebody else commits just before this splitter does."""

    at = "/versions/"

    def __init__(self, store: ObjectStore, first: Callable[[], object]) -> None:
        self._store, self._first = store, first

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes | memoryview) -> ObjectInfo:
        if self.at in key:
            self._first()
        return self._store.create(key, data)


class WithShards(Racing):
    """The same, when shards are stored."""

    at = "/shards/"


def test_of_two_splitters_who_end_together_one_wins_and_the_other_goes_on_from_there(
    store: ObjectStore, tmp_path: Path
) -> None:
    mine, theirs = (write_csv(tmp_path / f"{seed}.csv", toy_rows(25, seed)) for seed in (1, 2))
    racing = Racing(store, lambda: make(store, [theirs], tmp_path / "theirs"))
    with pytest.raises(Conflict) as told:
        make(racing, [mine], tmp_path / "mine")  # type: ignore[arg-type]
    assert told.value.code == "dataset.committed"
    assert [source.name for source in Catalogue(store).open(read_name("toy")).lineage.sources] == ["2.csv"]
    again = make(store, [mine], tmp_path / "again").manifest
    assert (again.version, again.lineage.parent) == (2, 1)


def copied(home: ObjectStore, replica: ObjectStore) -> None:
    """What replicating does to the small documents."""
    if not list(home.list("toy/placement/")):
        place(home, "toy", Placement(stores=(home.url, replica.url), copies=2, created_at=0.0))
    for info in home.list("toy/"):
        if "/versions/" in info.key or "/placement/" in info.key:
            replica.put(info.key, home.read(info.key))


def test_where_copies_stand_no_version_is_made(store: ObjectStore, tmp_path: Path) -> None:
    """Two stores would each commit a version 2, and nobody could say which is true."""
    made_of(store, tmp_path)
    replica = open_objects(f"file://{tmp_path}/replica")
    copied(store, replica)
    path = write_csv(tmp_path / "b.csv", toy_rows(20, seed=1))
    with pytest.raises(Conflict) as told:
        make(replica, [path], tmp_path / "there")
    assert (told.value.code, told.value.cure) == ("dataset.home", f"Name the home: --store {store.url}")
    assert Catalogue(replica).versions("toy") == (1,)
    assert make(store, [path], tmp_path / "here").manifest.version == 2


def test_copies_that_come_while_a_version_is_made_end_it(store: ObjectStore, tmp_path: Path) -> None:
    made_of(store, tmp_path)
    replica = open_objects(f"file://{tmp_path}/replica")
    with pytest.raises(Conflict) as told:
        make(
            WithShards(replica, lambda: copied(store, replica)),  # type: ignore[arg-type]
            [write_csv(tmp_path / "b.csv", toy_rows(20, seed=1))],
            tmp_path / "there",
        )
    assert told.value.code == "dataset.home"
    assert Catalogue(replica).versions("toy") == (1,)


def test_twins_on_one_job_end_in_one_version(store: ObjectStore, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(25))
    racing = Racing(store, lambda: make(store, [path], tmp_path / "twin", now=5.0))
    made = make(racing, [path], tmp_path / "mine", now=9.0)  # type: ignore[arg-type]
    assert made.manifest.created_at == 5.0
    assert Catalogue(store).versions("toy") == (1,)


class Full:
    """A store that is full after some objects."""

    def __init__(self, store: ObjectStore, left: int) -> None:
        self._store, self.left = store, left

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes | memoryview) -> ObjectInfo:
        self.left -= 1
        if self.left < 0:
            raise OutOfSpace("no space left", code="storage.full")
        return self._store.create(key, data)


@pytest.mark.parametrize("left", [2, 4, 5])
def test_a_store_that_is_full_holds_no_half_of_a_version(store: ObjectStore, tmp_path: Path, left: int) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(35))
    with pytest.raises(OutOfSpace):
        make(Full(store, left), [path], tmp_path / "s")  # type: ignore[arg-type]
    assert Catalogue(store).versions("toy") == ()
    assert make(store, [path], tmp_path / "t").manifest.rows == 35


def test_a_document_that_says_it_is_another_version_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    made_of(store, tmp_path)
    store.create(version_key("toy", 2), store.read(version_key("toy", 1)))
    with pytest.raises(AimassError) as refused:
        Catalogue(store).open(read_name("toy"))
    assert refused.value.code == "dataset.other_version"
    store.put(version_key("toy", 2), b'{"name":"toy"}')
    with pytest.raises(BadInput):
        Catalogue(store).open(read_name("toy@2"))


def test_what_is_not_there_is_said_to_be_so(store: ObjectStore, tmp_path: Path) -> None:
    made_of(store, tmp_path)
    for name in ("toy@2", "nobody"):
        with pytest.raises(AimassError) as refused:
            Catalogue(store).open(read_name(name))
        assert refused.value.code == "dataset.unknown"
    assert list(Catalogue(store).names()) == ["toy"]


def test_a_reader_takes_the_shards_as_it_takes_the_files(store: ObjectStore, tmp_path: Path) -> None:
    data_set = made_of(store, tmp_path)
    shards = [io.BytesIO(store.read(shard_key("toy", shard.sha256))) for shard in data_set.shards]
    with (tmp_path / "toy.csv").open("rb") as file:
        before, after = read_table(TOY, [file], "csv"), read_table(TOY, shards, "parquet")
    assert all((before.columns[name] == after.columns[name]).all() for name in ("dose", "ward", "ill"))
