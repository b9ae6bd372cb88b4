"""`aimass tune` for two goals at once, loss and epsilon, over simulated partners as real processes: its front is that of
brute force, and its next plan says which of the front it is and why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scripts.benches import tumours

from aimass.explain.runs import ManyRuns
from aimass.explain.tune import Search, read_search
from aimass.proto.plan import read_plan_draft

PLAN = """
name = "two-goals"
task = "tumours"
data_schema = "tumours/1"
seed = 11
[privacy]
delta = 1e-4
divisor = 20.0
sampling_rate = 0.1
noise_multiplier = 2.0
clip = 1.0
[train]
weight = "one"
steps = 24
batch_size = 32
learning_rate = 0.1
[cohort]
quorum = 3
[[stages]]
driver = "averaging"
options = { rounds = 2 }
"""
SPACE = """
metric = "loss"
also = ["epsilon"]
[settings]
train.learning_rate = { choices = [0.3, 1.0] }
privacy.noise_multiplier = { choices = [0.6, 2.0, 20.0] }
"""
TRIALS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search that has ended, over three simulated partners."""
    place = tmp_path_factory.mktemp("goals")
    python = tumours.install(place / "env")
    tumours.shards(python, place / "shards")
    (place / "plan.toml").write_text(PLAN)
    (place / "space.toml").write_text(SPACE)
    command = [
        python,
        "-m",
        "aimass.proto.commands",
        "tune",
        "plan.toml",
        "--space",
        "space.toml",
        "--shards",
        "shards",
    ]
    more = ["--out", "s", "--trials", str(TRIALS), "--seeds", "2", "--parallel", "2", "--formats", "json"]
    done = subprocess.run([*command, *more], cwd=place, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return place / "s"


@pytest.fixture
def goals(folder: Path) -> dict[int, tuple[float, float]]:
    """Loss and epsilon of each setting, the means over its runs."""
    search = read_search(folder)
    assert [trial.state for trial in search.trials] == ["finished"] * TRIALS
    return {trial.number: (_mean(trial.runs, "quality"), _mean(trial.runs, "epsilon")) for trial in search.trials}


def _mean(runs: tuple[object, ...], name: str) -> float:
    return float(np.mean([getattr(run, name) for run in runs]))


def beaten_by_none(goals: dict[int, tuple[float, float]]) -> set[int]:
    """By holding each against each; both goals are better lower."""
    return {
        one
        for one, (loss, epsilon) in goals.items()
        if not any(
            other_loss <= loss and other_epsilon <= epsilon and (other_loss, other_epsilon) != (loss, epsilon)
            for other_loss, other_epsilon in goals.values()
        )
    }


def test_the_front_is_that_of_brute_force_over_all_settings(
    folder: Path, goals: dict[int, tuple[float, float]]
) -> None:
    found = ManyRuns.from_json((folder / "answer/search.json").read_bytes()).pareto
    assert (found.what, found.names, found.higher) == ("settings", ("loss", "epsilon"), (False, False))
    assert {name: tuple(row) for name, row in zip(found.runs, found.goals.tolist(), strict=True)} == {
        f"setting {number}": pytest.approx(both) for number, both in goals.items()
    }
    on = {int(name.split()[1]) for name, on in zip(found.runs, found.front, strict=True) if on}
    assert on == beaten_by_none(goals)
    assert 1 < len(on) < TRIALS  # noise is bought with loss, and of settings of the same noise one is better


def test_more_noise_costs_less(folder: Path, goals: dict[int, tuple[float, float]]) -> None:
    noise = {t.number: float(t.settings["privacy.noise_multiplier"]) for t in read_search(folder).trials}
    epsilons = {noise[number]: epsilon for number, (_, epsilon) in goals.items()}
    assert list(epsilons) != sorted(epsilons)
    assert [epsilons[each] for each in sorted(epsilons)] == sorted(epsilons.values(), reverse=True)
    assert len(set(epsilons.values())) == len(epsilons)


def test_the_next_plan_is_the_cheapest_of_the_front_that_ties_and_says_so_beside_the_others(
    folder: Path, goals: dict[int, tuple[float, float]]
) -> None:
    search: Search = read_search(folder)
    answer = ManyRuns.from_json((folder / "answer/search.json").read_bytes())
    assert answer.tied is not None
    tied = answer.tied.mean[answer.tied.tied]
    inside = [number for number in beaten_by_none(goals) if np.isclose(goals[number][0], tied, rtol=1e-12).any()]
    chosen = min(inside, key=lambda number: goals[number][1])
    text = (folder / "next.toml").read_text()
    plan = read_plan_draft(text)
    assert plan.privacy is not None
    assert {
        "train.learning_rate": plan.train.learning_rate,
        "privacy.noise_multiplier": plan.privacy.noise_multiplier,
    } == search.trials[chosen].settings
    told = [line for line in text.splitlines() if line.startswith("#   setting ")]
    assert len(told) == len(beaten_by_none(goals))
    assert next(line for line in told if "; this plan" in line).startswith(f"#   setting {chosen}: loss ")
    assert "the front of loss and epsilon" in text.splitlines()[0]
    why = f": {len(inside)} of its {len(told)} cannot be told from the best loss"  # noise is drawn anew each time
    assert (why in text.splitlines()[0]) == (len(inside) > 1)
