"""A data set's copies from the command line: made, damaged, found, mended, and leftovers deleted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aimass.proto.commands import main
from aimass.proto.data_sets import shard_key
from aimass.proto.objects import open_objects
from tests.support.stores import stored

CONTENTS = tuple(b"shard %d " % number * 50 for number in range(3))


@pytest.fixture
def urls(tmp_path: Path) -> tuple[str, str]:
    one, two = (f"file://{tmp_path}/{name}" for name in ("one", "two"))
    stored(open_objects(one), "t", CONTENTS)
    return one, two


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["data", *arguments, "--json"]) == code
    out = capsys.readouterr().out
    return json.loads(out) if out else None


def test_copies_are_made_damaged_found_and_mended(
    urls: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = urls
    assert said(capsys, "replicate", "t", "--store", one, "--to", two)["left"]["good"] == 6
    bad = tmp_path / "two" / shard_key("t", next((tmp_path / "two/t/shards").rglob("*.parquet")).stem)
    true = bad.read_bytes()
    bad.write_bytes(b"x" + true[1:])
    assert said(capsys, "verify", "t", "--store", one, "--quick")["left"]["false"] == 0
    assert said(capsys, "verify", "t@1", "--store", two, code=8)["survey"]["false"] == 1
    assert said(capsys, "repair", "t", "--store", two, "--rate", "50MB")["mended"][0]["outcome"] == "copied"
    assert bad.read_bytes() == true
    assert said(capsys, "verify", "t", "--store", one)["survey"]["good"] == 6


def test_with_the_home_gone_the_other_store_is_enough_and_gives_it_back(
    urls: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = urls
    said(capsys, "replicate", "t", "--store", one, "--to", two)
    shutil.rmtree(tmp_path / "one")
    assert said(capsys, "verify", "t", "--store", one, "--store", two, code=8)["survey"]["missing"] == 3
    assert said(capsys, "repair", "t", "--store", one, "--store", two)["left"]["good"] == 6
    assert said(capsys, "verify", "t", "--store", one)["survey"]["good"] == 6


def test_leftovers_are_deleted_by_the_second_run(urls: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    one, _ = urls
    open_objects(one).put(shard_key("t", "a" * 64), b"of a split that nobody resumed")
    gc = ("gc", "t", "--store", one, "--grace-hours", "0")
    would = {"would_delete": 1, "bytes": 30, "waiting": 0, "half_written": 0, "stopped": None}
    assert said(capsys, *gc, "--dry-run") == would
    assert said(capsys, "gc", "t", "--store", one)["waiting"] == 1
    assert said(capsys, *gc)["deleted"] == 1
    assert said(capsys, *gc)["deleted"] == 0
    assert said(capsys, "verify", "t", "--store", one)["left"]["good"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("verify", "other"), 4, "dataset.unknown"),
        (("verify", "t@7"), 4, "dataset.unknown"),
        (("verify", "T"), 2, "dataset.name"),
        (("replicate", "t", "--copies", "2"), 2, "dataset.copies"),
        (("replicate", "t@1"), 2, "dataset.version"),
        (("gc", "t", "--grace-hours", "-1"), 2, "dataset.gc"),
        (("repair", "t", "--rate", "5"), 2, "settings.rate"),
    ],
)
def test_what_cannot_be_done_is_told_by_name(
    urls: tuple[str, str], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, name: str
) -> None:
    assert main(["data", *arguments, "--store", urls[0]]) == code
    assert f"[{name}]" in capsys.readouterr().err


def test_people_are_shown_a_page_and_progress(urls: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "replicate", "t", "--store", urls[0], "--to", urls[1]]) == 0
    shown = capsys.readouterr()
    assert "6 good of 6" in shown.out
    assert "6 of 6 copies looked at" in shown.err
    assert "copied: shard" in shown.err
