"""`aimass data split | register | describe | export` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.commands import main
from aimass.proto.values import canonical_json
from tests.support.data_sets import TOY, toy_rows, write_csv
from tests.support.datasets import dataset


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "toy.csv", toy_rows(35))
    (tmp_path / "toy.json").write_bytes(canonical_json(TOY))
    return tmp_path


def told(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*command.split(), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def failed(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([*command.split(), "--json"])
    return code, json.loads(capsys.readouterr().err.splitlines()[-1])["error"]["code"]


def test_from_a_file_to_partners_folders(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"--store file://{here}/store"
    split = f"data split toy toy.csv --schema toy.json --split rows:10 --licence MIT {store}"
    made = told(split, capsys)
    assert (made["data_set"], made["shards"], made["rows"], made["licence"]) == ("toy@1", 4, 35, "MIT")
    assert told(split, capsys)["made"] == "before, by the same command"
    # The next version goes by the schema and licence of the one before.
    assert told(f"data split toy toy.csv --split rows:20 {store}", capsys)["licence"] == "MIT"
    assert told(f"data describe toy {store}", capsys)["version"] == 2
    exported = told(f"data export toy@1 1-2 out {store}", capsys)
    assert (exported["partners"], exported["rows"]) == (2, 20)
    assert (here / "out/p000002/toy.parquet").is_file()


def test_a_fetched_set_is_split_in_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset("heart")
    made = told(f"data register heart heart --task heart --store file://{here}/store", capsys)
    assert (made["shards"], made["rows"]) == (4, 920)
    assert made["licence"] == "CC BY 4.0"


def test_a_person_reads_what_a_data_set_holds(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"--store file://{here}/store"
    assert main(f"data split toy toy.csv --schema toy.json --split rows:10 {store}".split()) == 0
    assert main(f"data describe toy {store} --shards".split()) == 0
    said = capsys.readouterr().out
    assert "toy@1" in said
    assert "p000004" in said
    assert "north" in said


def test_all_data_sets_of_a_store_are_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = f"--store file://{here}/store"
    assert told(f"data describe {store}", capsys) == []
    for name in ("b", "a", "a"):
        rule = "rows:10" if (here / "store" / name).exists() else "rows:20"
        assert main(f"data split {name} toy.csv --schema toy.json --split {rule} {store} --quiet".split()) == 0
    capsys.readouterr()
    assert [(each["name"], each["newest"], each["rows"]) for each in told(f"data describe {store}", capsys)] == [
        ("a", 2, 35),
        ("b", 1, 35),
    ]


def test_who_looks_without_the_home_is_warned_and_may_make_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, copy = f"--store file://{here}/store", f"--store file://{here}/copy"
    told(f"data split toy toy.csv --schema toy.json --split rows:10 {home}", capsys)
    told(f"data replicate toy {home} --to file://{here}/copy", capsys)
    told(f"data split toy toy.csv --split rows:20 {home}", capsys)
    assert failed(f"data split toy toy.csv --split rows:5 {copy}", capsys) == (6, "dataset.home")
    assert told(f"data describe toy {copy}", capsys)["version"] == 2
    (here / "store").rename(here / "gone")
    assert main(f"data describe toy {copy} --json".split()) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["version"] == 1
    assert "Name the version that you mean: toy@1" in shown.err
    assert "toy@1" in told(f"data export toy all out {copy}", capsys)["warning"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("data split toy toy.csv --split rows:10", (2, "dataset.schema")),
        ("data split toy absent.csv --split rows:10", (4, "dataset.source")),
        ("data split toy@2 toy.csv --split rows:10", (2, "dataset.version")),
        ("data split toy toy.csv --split weekly", (2, "dataset.rule")),
        ("data split toy toy.json --split rows:10 --schema toy.json", (2, "dataset.format")),
        ("data describe toy", (4, "dataset.unknown")),
        ("data describe Toy", (2, "dataset.name")),
        ("data export toy all out", (4, "dataset.unknown")),
    ],
)
def test_what_cannot_be_done_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, code: tuple[int, str]
) -> None:
    assert failed(f"{command} --store file://{here}/store", capsys) == code
