"""Shards as files: what a simulation and real partners both read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from aimass.client.shards import open_shard, resolve
from aimass.client.tasks.digits import task as digits
from aimass.client.tasks.heart import task as heart
from aimass.proto.commands import main
from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound
from aimass.proto.manifest import Category, Schema, Text
from aimass.proto.rows import read_table
from aimass.proto.sharding import Split, load_shards, manifest_of, read_split, write_shards
from tests.support.datasets import dataset

DIGITS = Split(rule="dirichlet", argument="0.3", partners=20, seed=7)


def hospitals() -> list[Path]:
    return sorted(dataset("heart").glob("*.parquet"))


def rows_of(folder: Path, partner: str, schema) -> int:  # type: ignore[no-untyped-def]
    manifest = manifest_of(folder, partner)
    (path,) = resolve(manifest, folder / partner)
    with path.open("rb") as file:
        shard, report = open_shard(schema, manifest, [file])
    assert shard.participant == partner
    assert len(shard.train.labels) + len(shard.held_out.labels) == report.rows
    return report.rows


def test_partners_read_their_own_shards_by_their_own_reader_and_nothing_is_lost(tmp_path: Path) -> None:
    made = write_shards(digits.schema, [dataset("digits") / "digits.parquet"], DIGITS, tmp_path)
    assert made == load_shards(tmp_path)
    assert len({shard.salt for shard in made.shards}) == len(made.partners) == 20
    assert sum(rows_of(tmp_path, name, digits.schema) for name in made.partners) == 1_797
    assert all(sum(shard.labels.values()) == shard.rows >= 2 for shard in made.shards)


def test_the_same_again_gives_the_same_files_and_another_split_is_a_conflict(tmp_path: Path) -> None:
    source = [dataset("digits") / "digits.parquet"]
    first, second = (write_shards(digits.schema, source, DIGITS, tmp_path / name) for name in "ab")
    assert first == second == write_shards(digits.schema, source, DIGITS, tmp_path / "a")
    with pytest.raises(Conflict):
        write_shards(digits.schema, source, Split(rule="iid", partners=20, seed=7), tmp_path / "a")


def test_natural_partners_are_the_files(tmp_path: Path) -> None:
    made = write_shards(heart.schema, hospitals(), Split(rule="natural"), tmp_path)
    assert made.partners == ("cleveland", "hungarian", "long-beach", "switzerland")
    assert sum(shard.rows for shard in made.shards) == 920


def test_a_column_keeps_its_values_together(tmp_path: Path) -> None:
    made = write_shards(heart.schema, hospitals(), Split(rule="column", argument="cp"), tmp_path)
    assert len(made.shards) == 4
    assert sum(shard.rows for shard in made.shards) == 920


def test_cells_of_a_csv_file_come_through_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    names = [column.name for column in (*heart.schema.columns, heart.schema.label)]
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for place in range(40):
            filled = [str(50 + place % 5) if name == "age" else "" for name in names[:-1]]
            writer.writerow([*filled, heart.schema.classes[place % 2]])
    write_shards(heart.schema, [source], Split(rule="iid", partners=2), tmp_path / "shards")
    manifest = manifest_of(tmp_path / "shards", "p0001")
    with (tmp_path / "shards/p0001/heart.parquet").open("rb") as file:
        shard, report = open_shard(heart.schema, manifest, [file])
    assert report.rows == 20
    assert set(np.unique(shard.train.numbers[:, 0])) <= {50.0, 51.0, 52.0, 53.0, 54.0}


def test_texts_over_several_lines_are_dealt_whole(tmp_path: Path) -> None:
    schema = Schema(name="t/1", columns=(Text(name="t"),), label=Category(name="y", values=("a", "b")))
    said = [f"Dear {name},\n\nyours" for name in "abcdefgh"]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("t", "y"), *((text, "a") for text in said)])
    made = write_shards(schema, [tmp_path / "rows.csv"], Split(rule="iid", partners=2, seed=1), tmp_path / "out")
    held = []
    for name in made.partners:
        (path,) = resolve(manifest_of(tmp_path / "out", name), tmp_path / "out" / name)
        with path.open("rb") as shard:
            held += read_table(schema, [shard], "parquet" if path.suffix == ".parquet" else "csv").columns["t"].tolist()
    assert sorted(held) == said


@pytest.mark.parametrize(
    ("text", "partners", "code"),
    [
        ("alphabetical", 3, "partition.split"),
        ("dirichlet", 3, "partition.split"),
        ("iid:3", 3, "partition.split"),
        ("labels:two", 3, "partition.split"),
        ("iid", None, "partition.partners"),
        ("natural", 3, "partition.partners"),
        ("sizes:1,2", 3, "partition.partners"),
    ],
)
def test_a_split_that_cannot_be_read_is_refused(text: str, partners: int | None, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_split(text, partners)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("split", "code"),
    [
        (Split(rule="column", argument="hospital"), "partition.column"),
        (Split(rule="iid", partners=921), "partition.partners"),
        (Split(rule="column", argument="cp", partners=5), "partition.values"),
        (Split(rule="dirichlet", argument="1-1", partners=3), "partition.split"),
    ],
)
def test_what_the_rows_do_not_have_is_refused_and_leaves_no_shards(tmp_path: Path, split: Split, code: str) -> None:
    with pytest.raises(AimassError) as refused:
        write_shards(heart.schema, hospitals(), split, tmp_path)
    assert refused.value.code == code
    with pytest.raises(NotFound):
        load_shards(tmp_path)


def test_the_command_writes_shards_and_says_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    command = f"data partition digits --task digits --partners 12 --split labels:2 --out {out} --json"
    assert main(command.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["partners"], told["rows"], len(told["first"])) == (12, 1_797, 12)
    assert all(len(shard["labels"]) == 2 for shard in told["first"])
    assert main(f"data partition nothing.csv --task digits --partners 2 --out {out}".split()) == 4
