"""An analyst's images: what stands beside them, volumes in order, and of shards nothing that was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from aimass.explain.opening import open_images
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Image, Mask, Schema
from aimass.proto.sharding import read_split, write_shards
from tests.support.datasets import dataset

SCHEMA = Schema(
    name="things/1",
    columns=(Image(name="image", shape=(2, 3)),),
    label=Mask(name="mask", shape=(2, 3), values=("ground", "thing")),
)


def write(path: Path, rows: int, **more: list[object]) -> Path:
    images = [bytes([10 * row] * 6) for row in range(rows)]
    masks = [bytes([0, 1, 0, 1, 0, row % 2]) for row in range(rows)]
    parquet.write_table(pa.table({"image": images, "mask": masks, **more}), path)
    return path


def test_columns_beside_come_along_and_instances_are_numbers_of_things(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 2, owner=["x", "y"], instances=[bytes([0, 1, 0, 2, 0, 0])] * 2)
    images = open_images([str(path)], SCHEMA, held_out=True)
    assert (images.name, images.held_out, images.volume, images.classes) == ("a", True, False, ("ground", "thing"))
    assert images.beside["owner"].tolist() == ["x", "y"]
    assert images.instances is not None
    assert images.instances[1].tolist() == [[0, 1, 0], [2, 0, 0]]
    assert images.need_masks()[1].tolist() == [[0, 1, 0], [1, 0, 1]]


def test_slices_make_a_volume_in_their_order_with_the_size_of_a_voxel(tmp_path: Path) -> None:
    size: dict[str, list[object]] = {name: [2.0] * 3 for name in ("slice_mm", "row_mm", "column_mm")}
    path = write(tmp_path / "a.parquet", 3, slice=[7, 5, 6], source=["one head"] * 3, **size)
    images = open_images([str(path)], SCHEMA)
    assert (images.volume, images.spacing, images.unit) == (True, (2.0, 2.0, 2.0), "mm")
    assert images.beside["slice"].tolist() == [5, 6, 7]
    assert images.pixels[:, 0, 0].tolist() == [10, 20, 0]
    assert "parts of one head" in images.limits[0]


def test_images_of_several_photographs_have_no_such_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 2, source=["one", "another"])
    assert open_images([str(path)], SCHEMA).limits == ()


def test_several_files_are_told_apart_and_only_what_all_have_stands_beside(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.parquet", 2, owner=["x", "y"]), write(tmp_path / "b.parquet", 1)
    images = open_images([f"north={first}", str(second)], SCHEMA)
    assert images.beside["partner"].tolist() == ["north", "north", "b"]
    assert set(images.beside) == {"partner"}


def test_a_mask_with_other_labels_and_instances_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"image": [bytes(6)], "mask": [bytes([0, 0, 7, 0, 0, 0])]}), path)
    with pytest.raises(BadInput, match="row 1, mask"):
        open_images([str(path)], SCHEMA)
    with pytest.raises(BadInput, match="a byte for each pixel"):
        open_images([str(write(path, 1, instances=[b"123"]))], SCHEMA)


def test_of_shards_what_no_partner_trained_on_is_opened_and_nothing_else(tmp_path: Path) -> None:
    """Images are told apart by their first pixel: those held out by hand, from salt and share, are those opened."""
    from aimass.client.shards import open_shard, resolve
    from aimass.proto.manifest import read_shard_manifest

    path = write(tmp_path / "all.parquet", 20, owner=["x", "y"] * 10)
    write_shards(SCHEMA, [path], read_split("column:owner", None, 0, 2), tmp_path / "shards", held_out=0.3)
    images = open_images([str(tmp_path / "shards")], SCHEMA)
    expected = set()
    for manifest in (tmp_path / "shards").glob("*/*.toml"):
        shard = read_shard_manifest(manifest.read_text(), "manifest")
        with resolve(shard, manifest.parent)[0].open("rb") as file:
            held = open_shard(SCHEMA, shard, [file])[0].held_out.images
        assert held is not None
        expected |= set(held[:, 0, 0].tolist())
    assert set(images.pixels[:, 0, 0].tolist()) == expected
    assert (len(images), images.held_out) == (6, True)


def test_the_tiles_that_ship_say_what_they_are_parts_of() -> None:
    from aimass.client.tasks.nuclei import task

    images = open_images([str(dataset("nuclei") / "tiles.parquet")], task.schema)
    (limit,) = images.limits
    assert limit.startswith("All 36 images are parts of one photograph of nuclei")
    assert images.instances is not None
    np.testing.assert_array_equal(images.instances > 0, images.need_masks() == 1)
