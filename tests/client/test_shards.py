"""A partner's data set on its way from the file to rows: declared with whose they are, checked, split by person."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aimass.proto.commands import main
from aimass.proto.manifest import read_shard_manifest
from tests.support.partners import enrolled
from tests.support.patients import shard_of, visits

COUNTS = [1, 4, 2, 9, 3, 1, 6, 2]


def test_training_rows_have_persons_without_a_gap_and_none_of_them_is_held_out() -> None:
    shard = shard_of(COUNTS, held_out=0.5)
    assert shard.persons is not None
    assert 1 <= shard.person_count < len(COUNTS)
    assert np.array_equal(np.unique(shard.persons), np.arange(shard.person_count))
    assert len(shard.persons) == len(shard.train.labels)
    rows = np.bincount(shard.persons).tolist()
    left = list(COUNTS)
    for count in rows:
        left.remove(count)
    assert sum(left) == len(shard.held_out.labels)


def test_the_command_declares_whose_rows_are_and_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(tmp_path, ["north"], "[schemas]\n")
    (tmp_path / "rows.csv").write_text(visits(COUNTS))
    home, rows = str(tmp_path / "north"), str(tmp_path / "rows.csv")
    add = ["client", "data", "add", "visits", "--dir", home, "--schema", "heart/1", "--uri", rows, "--format", "csv"]
    assert main([*add, "--person", "patient"]) == 0
    held = tmp_path / "north" / "data" / "visits.toml"
    assert read_shard_manifest(held.read_text(), "").person == "patient"
    capsys.readouterr()
    check = ["client", "data", "check", "visits", "--dir", home, "--task", "heart", "--json"]
    assert main(check) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["persons"] == len(COUNTS)
    assert told["rows_of_a_person"] == {"median": 3, "most": 9}
    (tmp_path / "rows.csv").write_text(visits(COUNTS).replace(",p003\n", ",\n"))
    assert main(check) == 2
    told = json.loads(capsys.readouterr().out)
    assert {(finding["column"], finding["what"]) for finding in told["findings"]} == {
        ("patient", "says of nobody whose row it is")
    }
    assert len(told["findings"]) == 9


def test_a_data_set_that_was_declared_before_says_of_nobody_whose_its_rows_are() -> None:
    text = (
        'name = "a"\ndata_schema = "a/1"\nuris = ["x"]\nformat = "csv"\nparticipant = "a"\nsalt = "' + "00" * 32 + '"\n'
    )
    assert read_shard_manifest(text, "").person is None
