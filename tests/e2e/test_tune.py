"""`aimass tune` as people type it: real processes over real rows, killed in the middle and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scripts.benches import tumours

from aimass.explain.tune import read_search
from aimass.explain.tune.trials import Search
from tests.support.tuning import started


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter in whose environment the task is installed."""
    return tumours.install(tmp_path_factory.mktemp("tumours") / "env")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, python: str) -> Path:
    """A folder with a plan, a space and shards."""
    folder = tmp_path_factory.mktemp("tune")
    tumours.shards(python, folder / "shards")
    (folder / "plan.toml").write_text(tumours.PLAN.format(rounds=3))
    (folder / "space.toml").write_text(tumours.SPACE)
    return folder


def begin(out: str, *more: str) -> list[str]:
    return [
        "plan.toml",
        "--space",
        "space.toml",
        "--shards",
        "shards",
        "--out",
        out,
        "--trials",
        "3",
        "--seeds",
        "2",
        *more,
    ]


def settled(search: Search) -> list[Any]:
    return [
        (trial.settings, trial.state, [(run.seed, run.state, run.values) for run in trial.runs])
        for trial in search.trials
    ]


def ended_once(place: Path, out: str) -> bool:
    """Whether each run has begun and ended once, by the lines of its folder."""
    events = [json.loads(line) for line in (place / out / "events.jsonl").read_text().splitlines()]
    ends = [(event["trial"], event["place"]) for event in events if event["event"] == "ended"]
    return len(ends) == len(set(ends))


@pytest.fixture(scope="module")
def whole(python: str, place: Path) -> Search:
    """A search that nobody disturbed."""
    process = started(place, *begin("whole"), python=python)
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return read_search(place / "whole")


def test_a_search_over_real_rows_ends_with_figures_and_a_plan_that_runs(
    whole: Search, python: str, place: Path
) -> None:
    assert [trial.state for trial in whole.trials] == ["finished"] * 3
    assert whole.best is not None
    assert whole.best.quality is not None
    assert 0 < whole.best.quality < 0.69  # better than not knowing
    assert all(run.seconds > 0 for trial in whole.trials for run in trial.runs)
    command = [
        python,
        "-m",
        "aimass.proto.commands",
        "simulate",
        "whole/next.toml",
        "--shards",
        "shards",
        "--workers",
        "1",
    ]
    done = subprocess.run([*command, "--out", "next", "--json"], cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (place / "next/rounds.jsonl").read_text().splitlines()
    losses = [json.loads(line)["metrics"]["loss"] for line in lines if "loss" in json.loads(line)["metrics"]]
    assert losses == list(whole.best.runs[0].values)  # to the last bit what the search saw


@pytest.mark.parametrize("lines", [2, 4])
def test_a_search_that_is_killed_goes_on_to_the_same_figures_and_runs_nothing_twice(
    whole: Search, python: str, place: Path, lines: int
) -> None:
    """kill -9 at once after so many lines of progress, of which the first is the price: a run has just begun then."""
    out = f"killed-{lines}"
    process = started(place, *begin(out), python=python)
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stderr.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    stands = read_search(place / out)
    assert stands.state == "open"
    again = started(place, "resume", out, python=python)
    _, errors = again.communicate(timeout=280)
    assert again.returncode == 0, errors
    assert settled(read_search(place / out)) == settled(whole)
    assert ended_once(place, out)


def test_ctrl_c_says_how_it_goes_on_and_leaves_no_process(whole: Search, python: str, place: Path) -> None:
    process = started(place, *begin("cut", "--parallel", "2"), python=python)
    assert process.stderr is not None
    for _ in range(3):
        assert process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to go on: aimass tune resume cut" in errors
    again = started(place, "resume", "cut", "--parallel", "2", python=python)
    _, errors = again.communicate(timeout=280)
    assert again.returncode == 0, errors
    assert settled(read_search(place / "cut")) == settled(whole)  # two are spread: none learns from another
    assert ended_once(place, "cut")
