"""`aimass offline run` as a person types it: what it shows, kill -9 and --resume, and a sentence for what cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.objects import open_objects
from aimass.proto.sharding import Split
from tests.support.dealt_sets import registered
from tests.support.offline_runs import PLAN
from tests.support.simulations import shards_of


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_of(tmp_path_factory.mktemp("cli") / "shards", "heart", Split(rule="iid", partners=3, seed=1))


@pytest.fixture
def here(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    Path("plan.toml").write_text(PLAN)
    registered(open_objects(f"file://{tmp_path}/store"), "heart", shards)
    return tmp_path


def command(here: Path, more: str = "", out: str = "out") -> list[str]:
    return f"offline run plan.toml --data heart --store file://{here}/store --out file://{here}/{out} {more}".split()


def test_a_run_tells_its_rounds_and_leaves_its_model_in_the_store(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plan.toml").write_text(PLAN + '[promote]\nmodel = "hearts"\n')
    assert main(command(here, "--workers 1")) == 0
    told = capsys.readouterr()
    assert "heart@1: 3 shards" in told.err
    assert "nothing is published as hearts from here" in told.err
    assert "round 3/3  train 3 of 3" in told.err
    assert "MB read" in told.err
    assert "core_seconds" in told.out
    left = {path.name for path in (here / "cache" / "offline").glob("*/*") if path.is_dir()}
    assert left == set(), "what was fetched for a run goes with it"
    assert main([*f"offline run --resume --workers 1 --out file://{here}/out".split(), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["state"], again["rounds"], again["shards"]) == ("finished", 3, 3)
    assert Path(again["model_url"].removeprefix("file://")).is_file()


def test_kill_9_and_resume_end_in_the_same_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("plan.toml").write_text(PLAN.replace("rounds = 3", "rounds = 12"))
    assert main([*command(here, "--workers 1", "whole"), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    process = subprocess.Popen(
        [sys.executable, "-m", "aimass.proto.commands", *command(here, "--workers 1")],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("round 3/"):
        assert line, "it ended before its third round"
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert main([*f"offline run --resume --workers 1 --out file://{here}/out".split(), "--json"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert (resumed["model"], resumed["metrics"]) == (whole["model"], whole["metrics"])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("plan.toml --out file://{here}/out", "offline.options"),
        ("--resume --out file://{here}/out", "offline.absent"),
        ("--resume --out file://{here}/out --store file://{here}/store", "offline.options"),
        ("plan.toml --data heart@2 --store file://{here}/store --out file://{here}/out", "dataset.unknown"),
        ("plan.toml --data other --store file://{here}/store --out file://{here}/out", "dataset.unknown"),
        ("plan.toml --data Heart --store file://{here}/store --out file://{here}/out", "dataset.name"),
        ("plan.toml --data heart --store file://{here}/store --out ftp://x/out", "storage.url"),
        ("plan.toml --data heart --store file://{here}/store --out file://{here}/out --conf a=b", "offline.conf"),
        ("plan.toml --data heart --store file://{here}/store --out file://{here}/out --workers 0", "offline.workers"),
        ("--resume --out file://{here}/out --workers 1 --master local[1]", "offline.options"),
        ("--resume --out file://{here}/out --cache much", "dataset.size"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], words: str, code: str
) -> None:
    assert main(["offline", "run", *words.format(here=here).split(), "--json"]) in (2, 4)
    assert json.loads(capsys.readouterr().err.strip().splitlines()[-1])["error"]["code"] == code


def test_ctrl_c_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aimass.server.simulation.telling.Teller.committed", cut)
    assert main(command(here, "--workers 1")) == 130
    assert f"to go on: aimass offline run --resume --out file://{here}/out" in capsys.readouterr().err
