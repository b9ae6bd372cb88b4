"""What comes in is counted truly, and a data set that breaks a limit is not committed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput, Refused
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.intake import Limits
from aimass.server.datasets.row_index import Found, RowIndex
from aimass.server.datasets.sources import Reading
from tests.support.data_sets import make, toy_rows, write_csv


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_objects(f"file://{tmp_path}/store")


def with_bad(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four of the rows do not fit: two cells of one, a cell of two, no label of one."""
    bad = [dict(row) for row in rows]
    bad[3] |= {"age": "200", "ward": "east"}
    bad[10]["dose"] = "much"
    bad[11]["age"] = "-1"
    bad[29]["ill"] = ""
    return bad


def test_rows_that_do_not_fit_are_left_out_where_that_is_allowed(store: ObjectStore, tmp_path: Path) -> None:
    rows = toy_rows(40)
    path = write_csv(tmp_path / "a.csv", with_bad(rows))
    for block in (200, 1 << 20):
        made = make(
            store,
            [path],
            tmp_path / f"s{block}",
            name=f"toy{block}",
            limits=Limits(dropped=0.1),
            reading=Reading(block_bytes=block),
        )
        quality = made.manifest.quality
        assert (quality.rows_read, quality.dropped, made.manifest.rows) == (40, 4, 36)
        assert quality.findings == {"age": 2, "dose": 1, "ill": 1, "ward": 1}
    good = [row for place, row in enumerate(rows) if place not in (3, 10, 11, 29)]
    whole = make(store, [write_csv(tmp_path / "b.csv", good)], tmp_path / "t", name="good").manifest
    assert whole.shards == made.manifest.shards


def test_more_than_the_limit_is_refused_behind_the_last_row_and_nothing_is_committed(
    store: ObjectStore, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "a.csv", with_bad(toy_rows(40)))
    with pytest.raises(Refused, match=r"rows dropped: 0\.1 \(allowed: 0\.09\)") as refused:
        make(store, [path], tmp_path / "s", limits=Limits(dropped=0.09))
    assert refused.value.code == "dataset.quality"
    assert Catalogue(store).versions("toy") == ()


def test_no_row_that_fits_is_no_data_set(store: ObjectStore, tmp_path: Path) -> None:
    rows = [{**row, "ill": ""} for row in toy_rows(5)]
    with pytest.raises(BadInput) as refused:
        make(store, [write_csv(tmp_path / "a.csv", rows)], tmp_path / "s", limits=Limits(dropped=1.0))
    assert refused.value.code == "rows.empty"


def rare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "ill": "yes" if place == 0 else "no"} for place, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("limits", "change", "named"),
    [
        (Limits(duplicates=0.4), lambda rows: rows + rows, "duplicates: 0.5"),
        (Limits(leaked=0.0), lambda rows: rows * 9, "rows held out that are trained on"),
        (Limits(missing=0.9), lambda rows: [{**row, "ward": ""} for row in rows], "missing in ward: 1"),
        (Limits(rarest=0.1), rare, "label yes: 0.025 (at least: 0.1)"),
        (Limits(rarest=0.1), lambda rows: [{**row, "ill": "no"} for row in rows], "label yes: 0"),
    ],
)
def test_each_limit_refuses_what_breaks_it_and_that_alone(
    store: ObjectStore,
    tmp_path: Path,
    limits: Limits,
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    named: str,
) -> None:
    bad = write_csv(tmp_path / "bad.csv", change(toy_rows(40)))
    with pytest.raises(Refused) as refused:
        make(store, [bad], tmp_path / "s", limits=limits)
    assert named in str(refused.value.value)
    assert make(store, [bad], tmp_path / "t").fresh  # without the limit
    assert make(store, [write_csv(tmp_path / "good.csv", toy_rows(40))], tmp_path / "u", limits=limits).fresh


def test_a_shard_with_nothing_to_train_on_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        make(store, [write_csv(tmp_path / "a.csv", toy_rows(3))], tmp_path / "s", "rows:1", held_out=0.9)
    assert refused.value.code == "dataset.no_training_rows"


SHARDS = st.lists(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=20), max_size=5)


@given(SHARDS)
def test_equal_rows_are_counted_as_one_table_of_all_would(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[tuple[int, bool]]]
) -> None:
    digests = [hashlib.sha256(bytes([row])).digest() for row in range(13)]
    index = RowIndex(tmp_path_factory.mktemp("index"))
    for shard in shards:
        index.add([digests[row] for row, _ in shard], np.array([held for _, held in shard], dtype=bool))
    rows = [each for shard in shards for each in shard]
    trained_on = {row for row, held in rows if not held}
    assert index.found() == Found(
        duplicates=len(rows) - len({row for row, _ in rows}),
        leaked=sum(held and row in trained_on for row, held in rows),
    )
