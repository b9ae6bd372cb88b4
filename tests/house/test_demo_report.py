"""The demo's report is over the rows that no hospital trained on: the very ones, by the partners' own split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripts.demos.explaining import HELD_OUT, salt_of, write_held_out

from aimass.client.shards import open_shard
from aimass.explain import open_rows
from aimass.proto.manifest import ShardManifest
from aimass.proto.task import load, locate
from tests.support.datasets import dataset


@pytest.mark.parametrize("independent", [False, True])
def test_the_reports_rows_are_those_that_the_partner_holds_out(tmp_path: Path, independent: bool) -> None:
    task, source, salt = load(locate("heart")), dataset("heart") / "switzerland.parquet", salt_of(11, "switzerland")
    manifest = ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(source),), format="parquet", participant="switzerland",
        salt=salt, held_out=HELD_OUT, split="independent" if independent else "stratified",
    )  # fmt: skip
    with source.open("rb") as file:
        shard = open_shard(task.schema, manifest, [file])[0]
    written = write_held_out(source, tmp_path / "rows.parquet", task.schema, salt, independent=independent)
    found = open_rows([str(tmp_path / "rows.parquet")], task.schema).batch()
    assert written == len(shard.held_out.labels) == len(found.labels)
    np.testing.assert_array_equal(found.numbers, shard.held_out.numbers)
    np.testing.assert_array_equal(found.categories, shard.held_out.categories)
    np.testing.assert_array_equal(found.labels, shard.held_out.labels)
