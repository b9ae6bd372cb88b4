"""Tables of any size from a real one: repeatable, streamed, within the source's ranges, and gone on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import compute, csv, parquet

from aimass.client import load_table
from aimass.client.load_table import BLOCK, block, grow, made_of, read_source
from aimass.proto.commands import main
from aimass.proto.errors import BadInput, Conflict


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    rows = 200
    table = pa.table(
        {
            "age": rng.integers(17, 91, rows),
            "income": pa.array(np.round(rng.normal(5e4, 1e4, rows)).astype(np.int64)),
            "weight": pa.array(rng.normal(70, 10, rows).astype(np.float32), mask=rng.random(rows) < 0.1),
            "job": [("a", "b", None)[index] for index in rng.integers(0, 3, rows)],
            "scan": [rng.integers(0, 255, 16, np.uint8).tobytes() for _ in range(rows)],
            "mask": [rng.integers(0, 3, 16, np.uint8).tobytes() for _ in range(rows)],
            "all_missing": pa.nulls(rows, pa.float64()),
        }
    )
    path = tmp_path / "real.parquet"
    parquet.write_table(table, path)
    return path


def _read(files: tuple[Path, ...]) -> Any:
    return pa.concat_tables([parquet.read_table(file) for file in files])


def test_columns_keep_types_ranges_and_gaps_and_almost_no_two_rows_are_equal(source: Path, tmp_path: Path) -> None:
    real = parquet.read_table(source)
    made = _read(grow(read_source([source]), made_of([source], 20_000), tmp_path / "out"))
    assert made.num_rows == 20_000
    assert made.schema.equals(real.schema)
    for name in ("age", "income", "weight"):
        before, after = (compute.min_max(table.column(name)).as_py() for table in (real, made))
        assert before["min"] <= after["min"] <= after["max"] <= before["max"]
    assert set(made.column("job").to_pylist()) == {"a", "b", None}
    assert 0.05 < made.column("weight").null_count / made.num_rows < 0.2
    assert made.column("all_missing").null_count == made.num_rows
    assert len(set(zip(*(column.to_pylist() for column in made.columns), strict=True))) > 19_990
    flips = {a ^ b for a, b in zip(made.column("scan")[0].as_py(), real.column("scan")[0].as_py(), strict=True)}
    assert len(flips) > 1
    assert set(made.column("mask").to_pylist()) <= set(real.column("mask").to_pylist())


def test_a_larger_table_begins_with_the_rows_of_a_smaller_one_and_another_seed_draws_others(
    source: Path, tmp_path: Path
) -> None:
    real = read_source([source])
    small = _read(grow(real, made_of([source], BLOCK + 10, 5), tmp_path / "small"))
    large = _read(grow(real, made_of([source], 2 * BLOCK, 5), tmp_path / "large"))
    assert large.slice(0, BLOCK + 10).equals(small)
    assert not block(real, 6, 0).equals(block(real, 5, 0))


def test_what_broke_off_is_gone_on_with_to_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_table, "_FILE_BLOCKS", 1)
    real, made = read_source([source]), made_of([source], 3 * BLOCK)
    whole = grow(real, made, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(done: int, of: int) -> None:
        if done > BLOCK:
            raise Killed

    with pytest.raises(Killed):
        grow(real, made, tmp_path / "cut", kill)
    assert len(list((tmp_path / "cut").glob("*.parquet"))) == 2
    assert [path.read_bytes() for path in grow(real, made, tmp_path / "cut")] == [path.read_bytes() for path in whole]


def test_another_table_is_never_mixed_into_a_folder(source: Path, tmp_path: Path) -> None:
    real = read_source([source])
    grow(real, made_of([source], 10), tmp_path / "out")
    with pytest.raises(Conflict, match="another table"):
        grow(real, made_of([source], 10, seed=1), tmp_path / "out")
    with pytest.raises(Conflict, match="other files"):
        grow(real, made_of([source], 10), tmp_path)


def test_no_more_than_a_row_group_of_a_file_is_ever_held(source: Path) -> None:
    pieces = load_table._file(read_source([source]), made_of([source], 4 * BLOCK), 0)
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) > 3 * max(sizes)


@pytest.mark.parametrize(("rows", "seed"), [(0, 0), (-5, 0), (10**12, 0), (5, -1)])
def test_sizes_and_seeds_that_mean_nothing_are_refused(source: Path, rows: int, seed: int) -> None:
    with pytest.raises(BadInput):
        made_of([source], rows, seed)


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("a,b\n")
    with pytest.raises(BadInput) as caught:
        read_source([path])
    assert caught.value.code == "generate.empty"


def test_the_command_makes_so_many_bytes_of_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "real.csv"
    csv.write_csv(pa.table({"x": np.arange(100.0), "y": np.arange(100) % 2}), path)
    assert main(["data", "generate", str(path), "--bytes", "160KB", "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 10_000, "two columns of eight bytes"
    assert told["files"] == 1
