"""`aimass tune` at the partners of a federation, as real processes: what they reserve, what Ctrl-C leaves going on, what
is cut, and what is free again when it has ended."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.demos.house import House

from aimass.explain.runs import ManyRuns
from aimass.explain.tune import Search, read_search
from aimass.proto.api import Federation
from tests.support.hospitals import open_hospitals
from tests.support.tuning import started

PARTNERS = ("cleveland", "hungarian")
PLAN = """
name = "tuned"
task = "heart"
data_schema = "heart/1"
seed = 3
[cohort]
quorum = 2
step_deadline_s = 300.0
[privacy]
delta = 1e-4
divisor = 20.0
sampling_rate = 0.1
noise_multiplier = 4.0
clip = 1.0
[train]
weight = "one"
steps = 4
batch_size = 32
learning_rate = 0.03
[privacy.metrics]
noise_multiplier = 4.0
bins = 10
[[stages]]
driver = "averaging"
options = { rounds = 3 }
"""
SPACE = """
metric = "loss"
[settings]
train.learning_rate = { low = 0.01, high = 1.0, log = true }
train.steps = { low = 2, high = 6, step = 2 }
"""
BUDGET = """
[[budgets]]
data_set = "heart"
epsilon = 20.0
delta = 1e-4
[studies]
trials = 20
epsilon = 20.0
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("tuned")) as house:
        open_hospitals(house, PARTNERS, dict.fromkeys(PARTNERS, BUDGET))
        (house.folder / "plan.toml").write_text(PLAN)
        (house.folder / "space.toml").write_text(SPACE)
        yield house


def budget(house: House, partner: str) -> tuple[float, float]:
    """Epsilon of what is settled, and with what is reserved."""
    (told,) = house.run("client", "budget", "--dir", partner)
    (found,) = told["budgets"]
    return float(found["spent"]), float(found["with_reserved"])


def begin(out: str, *more: str) -> list[str]:
    where = ["plan.toml", "--space", "space.toml", "--as", "scientist", "--out", out, "--yes"]
    return [*where, "--trials", "3", "--seeds", "2", *more]


def in_service(house: House) -> list[str]:
    with Federation.open(house.folder / "scientist") as federation:
        return [run.name for run in federation.runs()]


def finished(house: House, process: subprocess.Popen[str], out: str) -> Search:
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return read_search(house.folder / out)


def test_a_search_reserves_at_once_goes_on_after_ctrl_c_with_the_same_runs_and_frees_what_is_left(house: House) -> None:
    process = started(house.folder, *begin("s"))
    assert process.stderr is not None
    price = process.stderr.readline()
    assert "6 runs. Data that are in all of them spend at most epsilon" in price
    most = read_search_when(process, house.folder / "s")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "aimass tune end s" in errors
    search = finished(house, started(house.folder, "resume", "s"), "s")
    assert [trial.state for trial in search.trials] == ["finished"] * 3
    names = sorted(f"tuned-t{trial}-{place}" for trial in range(3) for place in range(2))
    assert sorted(in_service(house)) == names  # none was begun twice
    found = ManyRuns.from_json((house.folder / "s/answer/search.json").read_bytes())
    assert found.tuning is not None
    assert found.tuning.epsilon is not None
    assert 0 < found.tuning.epsilon <= most
    for partner in PARTNERS:
        spent, with_reserved = budget(house, partner)
        assert spent == pytest.approx(found.tuning.epsilon, rel=0.02)
        assert with_reserved == pytest.approx(spent, abs=1e-6)  # nothing is reserved any more
    with Federation.open(house.folder / "scientist") as federation:
        assert federation.end_study(search.setup.id).ended


def read_search_when(process: subprocess.Popen[str], folder: Path) -> float:
    """The most that it may spend, once a setting was suggested."""
    assert process.stderr is not None
    while "setting 0 " not in process.stderr.readline():
        assert process.poll() is None
    most = json.loads((folder / "setup.json").read_text())["most"]["epsilon"]
    assert isinstance(most, float)
    return most


def test_a_search_that_is_ended_in_the_middle_stops_its_runs_and_frees_the_rest(house: House) -> None:
    process = started(house.folder, *begin("e"))
    read_search_when(process, house.folder / "e")
    assert process.stderr is not None
    while "seed 1 of 2: loss" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = [budget(house, partner) for partner in PARTNERS]
    assert all(with_reserved > spent for spent, with_reserved in before)
    ended = started(house.folder, "end", "e")
    ended.communicate(timeout=120)
    search = read_search(house.folder / "e")
    assert search.state == "ended"
    assert not any(run.state == "running" for trial in search.trials for run in trial.runs)
    for partner, (_, reserved) in zip(PARTNERS, before, strict=True):
        spent, with_reserved = budget(house, partner)
        assert with_reserved == pytest.approx(spent, abs=1e-6)
        assert with_reserved < reserved
