"""Rows of every format are the same rows, and what cannot be read says so by name."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Picture
from pyarrow import parquet
from safetensors.numpy import save_file

from aimass.proto.data_sets import DataSetManifest, shard_key
from aimass.proto.errors import AimassError, BadInput, Conflict
from aimass.proto.manifest import Category, Image, Number, Schema, Text
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.datasets.intake import Limits
from aimass.server.datasets.sources import Reading, open_sources
from tests.support.data_sets import TOY, make, toy_rows, write_csv

GREY = Schema(
    name="pics/1", columns=(Image(name="pixels", shape=(3, 4)),), label=Category(name="what", values=("cat", "dog"))
)
COLOUR = Schema(name="pics/1", columns=(Image(name="pixels", shape=(3, 4, 3)),), label=GREY.label)
TENSORS = Schema(
    name="tensors/1",
    columns=(Number(name="n", minimum=-10, maximum=10), Image(name="pixels", shape=(2, 2))),
    label=Category(name="y", values=("0", "1", "2")),
)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_objects(f"file://{tmp_path}/store")


def rows_of(store: ObjectStore, data_set: DataSetManifest) -> list[dict[str, Any]]:
    return [
        row
        for shard in data_set.shards
        for row in parquet.read_table(io.BytesIO(store.read(shard_key(data_set.name, shard.sha256)))).to_pylist()
    ]


def picture(path: Path, pixels: np.ndarray[Any, Any]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(pixels).save(path)
    return pixels.tobytes()


def test_a_folder_of_images_is_read_in_the_order_of_its_paths(store: ObjectStore, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pixels = {
        f"{label}/{name}.png": picture(
            tmp_path / "pics" / label / f"{name}.png", draw.integers(0, 256, (3, 4), np.uint8)
        )
        for label, name in (("dog", "b"), ("cat", "2"), ("dog", "a"), ("cat", "10"), ("dog", "deep/c"))
    }
    (tmp_path / "pics/cat/notes.txt").touch()
    (tmp_path / "pics/cat/.hidden.png").touch()
    for batch in (1, 2, 100):
        name = f"pics{batch}"
        made = make(
            store, [tmp_path / "pics"], tmp_path / f"s{batch}", "rows:2", GREY, name=name, reading=Reading(batch)
        ).manifest
        assert rows_of(store, made) == [{"pixels": pixels[path], "what": path[:3]} for path in sorted(pixels)]
        assert [source.name for source in made.lineage.sources] == ["pics"]


def test_colours_are_kept_and_none_is_thrown_away(store: ObjectStore, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    coloured = picture(tmp_path / "pics/dog/a.png", draw.integers(0, 256, (3, 4, 3), np.uint8))
    grey = draw.integers(0, 256, (3, 4), np.uint8)
    picture(tmp_path / "pics/dog/b.png", grey)
    made = make(store, [tmp_path / "pics"], tmp_path / "s", "files", COLOUR).manifest
    assert [row["pixels"] for row in rows_of(store, made)] == [coloured, np.repeat(grey, 3).tobytes()]
    with pytest.raises(BadInput, match="pics row 1, pixels: is not 12 bytes"):
        make(store, [tmp_path / "pics"], tmp_path / "t", "files", GREY, name="grey")


@pytest.mark.parametrize("fault", ["size", "bytes", "cut", "label"])
def test_an_image_that_does_not_fit_is_found_and_can_be_left_out(
    store: ObjectStore, tmp_path: Path, fault: str
) -> None:
    pixels = np.zeros((3, 4), np.uint8)
    picture(tmp_path / "pics/cat/a.png", pixels)
    bad = tmp_path / "pics/cat/b.png"
    picture(bad, pixels if fault in ("cut", "label") else np.zeros((4, 3), np.uint8))
    match fault:
        case "bytes":
            bad.write_bytes(b"no image")
        case "cut":
            bad.write_bytes(bad.read_bytes()[:45])
        case "label":
            (tmp_path / "pics/bird").mkdir()
            bad.rename(tmp_path / "pics/bird/b.png")
    with pytest.raises(BadInput) as refused:
        make(store, [tmp_path / "pics"], tmp_path / "s", "files", GREY)
    assert refused.value.code == "dataset.rows"
    assert (
        make(store, [tmp_path / "pics"], tmp_path / "t", "files", GREY, limits=Limits(dropped=0.5)).manifest.rows == 1
    )


def test_an_image_that_is_added_while_a_folder_is_read_is_noticed(tmp_path: Path) -> None:
    picture(tmp_path / "pics/cat/a.png", np.zeros((3, 4), np.uint8))
    (opened,) = open_sources([tmp_path / "pics"])
    picture(tmp_path / "pics/cat/b.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(Conflict) as refused:
        list(opened.batches(GREY, None, Reading()))
    assert refused.value.code == "dataset.source_changed"


def tensors(path: Path, rows: int = 7, **changed: np.ndarray[Any, Any]) -> Path:
    draw = np.random.default_rng(0)
    columns = {
        "n": np.arange(rows, dtype=np.float32),
        "pixels": draw.integers(0, 256, (rows, 2, 2), np.uint8),
        "y": np.arange(rows) % 3,
    }
    save_file({**columns, **changed}, path)
    return path


def test_tensors_are_columns_row_by_row(store: ObjectStore, tmp_path: Path) -> None:
    path = tensors(tmp_path / "a.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 2, 2), np.uint8)
    expected = [{"n": float(row), "pixels": pixels[row].tobytes(), "y": str(row % 3)} for row in range(7)]
    for batch in (1, 3, 100):
        made = make(store, [path], tmp_path / f"s{batch}", "rows:3", TENSORS, name=f"t{batch}", reading=Reading(batch))
        assert rows_of(store, made.manifest) == expected


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"n": np.zeros(6, np.float32)}, "dataset.tensors"),
        ({"n": np.zeros((7, 1), np.float32)}, "dataset.tensors"),
        ({"pixels": np.zeros((7, 2, 3), np.uint8)}, "dataset.tensors"),
        ({"pixels": np.zeros((7, 2, 2), np.float32)}, "dataset.tensors"),
        ({"n": np.full(7, 11, np.float32)}, "dataset.rows"),
        ({"y": np.full(7, 3)}, "dataset.rows"),
    ],
)
def test_tensors_that_are_no_columns_of_the_schema_are_named(
    store: ObjectStore, tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    with pytest.raises(BadInput) as refused:
        make(store, [tensors(tmp_path / "a.safetensors", **changed)], tmp_path / "s", schema=TENSORS)
    assert refused.value.code == code


def test_a_tensor_that_is_absent_is_named(store: ObjectStore, tmp_path: Path) -> None:
    save_file({"n": np.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match="pixels, y"):
        make(store, [tmp_path / "a.safetensors"], tmp_path / "s", schema=TENSORS)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".safetensors"])
def test_a_file_that_is_cut_or_of_another_format_is_unreadable(store: ObjectStore, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    for data in (b"\x00\xff\xfe" * 9, b"PAR1" + b"\x00" * 40, b'age,dose,ward,ill\n"1'):
        path.write_bytes(data)
        with pytest.raises(AimassError) as refused:
            make(store, [path], tmp_path / "s")
        assert refused.value.code in ("rows.unreadable", "rows.columns", "dataset.rows")


def test_texts_go_over_several_lines_and_may_be_longer_than_a_block(store: ObjectStore, tmp_path: Path) -> None:
    schema = Schema(name="t/1", columns=(Text(name="said", longest=3_000),), label=Category(name="y", values=("a",)))
    rows = [{"said": f"Dear {number},\n\n" + "word " * 400, "y": "a"} for number in range(9)]
    path = write_csv(tmp_path / "a.csv", rows)
    made = make(store, [path], tmp_path / "s", schema=schema, reading=Reading(block_bytes=100)).manifest
    assert rows_of(store, made) == rows


def test_files_of_several_formats_are_one_data_set(store: ObjectStore, tmp_path: Path) -> None:
    rows = [{**row, "age": row["age"] or 1, "ward": row["ward"] or "north"} for row in toy_rows(20)]
    write_csv(tmp_path / "a.csv", rows[:10])
    parquet.write_table(pa.Table.from_pylist(rows[10:]), tmp_path / "b.parquet")
    write_csv(tmp_path / "c.csv", rows)
    both = make(store, [tmp_path / "a.csv", tmp_path / "b.parquet"], tmp_path / "s", "rows:7").manifest
    one = make(store, [tmp_path / "c.csv"], tmp_path / "t", "rows:7", name="one").manifest
    assert both.shards == one.shards
    assert both.data_schema == TOY


def test_files_in_a_store_are_read_as_those_on_a_disk_are(store: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    rows = [{**row, "age": row["age"] or 1, "ward": row["ward"] or "north"} for row in toy_rows(40)]
    write_csv(folder / "a.csv", rows[:20])
    parquet.write_table(pa.Table.from_pylist(rows[20:]), folder / "b.parquet", row_group_size=7)
    (folder / "readme.txt").touch()
    local = make(store, [folder / "a.csv", folder / "b.parquet"], tmp_path / "s", "rows:7").manifest
    for name, named in (
        ("each", [f"file://{folder}/a.csv", f"file://{folder}/b.parquet"]),
        ("all", [f"file://{folder}/"]),
    ):
        made = make(store, named, tmp_path / name, "rows:7", name=name).manifest
        assert made.shards == local.shards
        assert made.lineage.sources == local.lineage.sources


def test_tensors_in_a_store_are_read_in_ranges(store: ObjectStore, tmp_path: Path) -> None:
    path = tensors(tmp_path / "a.safetensors")
    local = make(store, [path], tmp_path / "s", schema=TENSORS).manifest
    assert make(store, [f"file://{path}"], tmp_path / "t", schema=TENSORS, name="far").manifest.shards == local.shards


def test_what_is_not_in_a_store_is_named(tmp_path: Path) -> None:
    for url, code in (
        ("lake/a.csv", "storage.unknown"),
        ("lake/", "dataset.source"),
        ("lake/a.txt", "storage.unknown"),
    ):
        with pytest.raises(AimassError) as refused:
            open_sources([f"file://{tmp_path}/{url}"])
        assert refused.value.code == code


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_that_is_replaced_in_its_store_while_it_is_read_is_not_used(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"

    def write(seed: int) -> None:
        rows = [{**row, "age": row["age"] or 1} for row in toy_rows(40, seed)]
        path.unlink(missing_ok=True)
        _ = write_csv(path, rows) if ending == "csv" else parquet.write_table(pa.Table.from_pylist(rows), path)

    write(1)
    (opened,) = open_sources([f"file://{path}"])
    write(2)
    with pytest.raises(Conflict) as refused:
        list(opened.batches(TOY, None, Reading()))
    assert refused.value.code == "storage.replaced"


@pytest.mark.parametrize("offsets", [[0, 4], [4, 40], [-8, 20], [0, 1 << 62]])
def test_a_tensor_that_does_not_stand_where_it_says_is_refused(tmp_path: Path, offsets: list[int]) -> None:
    path = tensors(tmp_path / "a.safetensors")
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["n"]["data_offsets"] = offsets
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    (opened,) = open_sources([path])
    with pytest.raises(BadInput) as refused:
        list(opened.batches(TENSORS, None, Reading()))
    assert refused.value.code == "dataset.tensors"


def test_a_data_set_is_made_in_a_bucket_of_what_stands_in_it(
    s3: str, keys: None, store: ObjectStore, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", toy_rows(40))
    bucket = open_objects(f"s3://tests/lake?endpoint={s3}")
    bucket.put("in/a.csv", path.read_bytes())
    here = make(store, [path], tmp_path / "s", "hash:3").manifest
    there = make(bucket, [f"s3://tests/lake/in/?endpoint={s3}"], tmp_path / "t", "hash:3").manifest
    assert (there.shards, there.lineage.sources) == (here.shards, here.lineage.sources)
